"""Hand-made reports for tests of whatever shows or writes one."""

from __future__ import annotations

import math
from pathlib import Path

from rexnet_export.pipeline.accuracy.class_accuracy import ClassAccuracy
from rexnet_export.pipeline.accuracy.evaluate import Accuracy
from rexnet_export.pipeline.accuracy.flips import Choice, FlippedImage, Flips
from rexnet_export.pipeline.accuracy.image_noise import ImageNoise, NoisyImage
from rexnet_export.pipeline.core.records import Coverage, ModelCard, NotMeasured, Preprocess, StoredFile
from rexnet_export.pipeline.graph.parity import OutputParity, Parity
from rexnet_export.pipeline.proof.latency import Latency
from rexnet_export.pipeline.proof.results import FileResult, ReadBack, Reference, StageResult, TargetResult
from rexnet_export.pipeline.proof.tensor_noise import TensorNoise
from rexnet_export.pipeline.report.report import Quality, Report
from rexnet_export.pipeline.report.report_json import CalibrationResult
from rexnet_export.quantization.calibration.channel_spread import Spread
from rexnet_export.quantization.onnx.simulate import Score
from rexnet_export.quantization.search.choose_groups import Cut
from rexnet_export.quantization.search.mixed_precision import Changes, FloatUnit, Mixed
from rexnet_export.quantization.search.search import Trial
from rexnet_export.quantization.search.sensitivity import QUIET, Sensitivity
from rexnet_export.quantization.table.params import QuantParams
from rexnet_export.quantization.table.rewrites import ChannelGrouping
from rexnet_export.quantization.table.table import Calibration, QuantTable, TensorEntry

SEEN = Accuracy(n=10_000, top1=1.0, reference_top1=0.9025, drop=-0.0975, drop_lower_95=-0.1, drop_upper_95=0.1)
LAYERS = (
    TensorNoise(tensor="stem", sqnr_db=35.0),
    TensorNoise(tensor="stem.silu", sqnr_db=30.0),
    TensorNoise(tensor="image", sqnr_db=NotMeasured(reason="no value differs, so there is no noise to measure")),
)
SEARCHED = Quality(
    images=170,
    classes=2,
    trials=(
        Trial(name="plain", score=Score(sqnr_db=15.1, agreement=0.95), kept=True),
        Trial(name="grouped", score=Score(sqnr_db=28.7, agreement=1.0), kept=True),
    ),
    spreads=(Spread(tensor="stem.silu", before=(0.01, 0.1, 0.2, 0.5, 1.0), after=(0.5, 0.6, 0.8, 0.9, 1.0)),),
    cuts=(
        Cut(layer="stem", rewrite=None, noise=2.0, cost=0.0),
        Cut(
            layer="stem",
            rewrite=ChannelGrouping(tensor="stem", order=(1, 0, 2), sizes=(1, 2)),
            noise=0.5,
            cost=0.01,
            kept=True,
        ),
    ),
    sensitivities=(
        Sensitivity(
            tensor="stem.silu", only=Score(sqnr_db=36.0, agreement=0.98), all_but=Score(sqnr_db=32.0, agreement=1.0)
        ),
        Sensitivity(tensor="<quiet>", only=Score(sqnr_db=math.inf, agreement=1.0), all_but=QUIET),
    ),
)
LEFT = Mixed(
    table=QuantTable(
        model_sha256="0" * 64,
        calibration=Calibration(images_sha256="b" * 64, images=512, statistic="auto", seed=0),
        tensors={},
    ),
    units=(
        FloatUnit(name="stem", mac_fraction=0.035, reason="with stem in INT8 too, 7 of 200 <images> change"),
        FloatUnit(name="features.3.expand", mac_fraction=0.065, reason="with it in INT8 too, 9 of 200 change"),
    ),
    int8=Changes(images=200, changed=15, expected=0.0592),
    mixed=Changes(images=200, changed=1, expected=0.0043),
    simulations=95,
)
UNLABELLED = NotMeasured(reason="the images have no labels; give --eval-data")


def made(name: str) -> FileResult:
    return FileResult(
        file=StoredFile(path=Path(name), sha256="c" * 64, bytes=114_300_000),
        executed_by="LiteRT 2.1.2",
        outputs=NotMeasured(reason="a sample"),
        accuracy=SEEN,
        agreement_with_reference=0.9975,
        logit_sqnr_db=30.9,
        coverage=Coverage(int8_macs=999, total_macs=1000, float_ops=("softmax (SOFTMAX)",)),
        latency=Latency(
            p50_ms=1234.567, p90_ms=2000.0, n=50, machine="a <machine>", samples_ms=(1200.0, 1234.567, 2000.0)
        ),
        float_latency=Latency(
            p50_ms=2962.961, p90_ms=3000.0, n=50, machine="a <machine>", samples_ms=(2900.0, 2962.961, 3000.0)
        ),
    )


def report(**artifacts: FileResult) -> Report:
    """One target per artifact, the first with an x86 preset."""
    return Report(
        notices=("preprocessing assumed",),
        preprocess_check=NotMeasured(reason="the images have no labels"),
        card=ModelCard(name="rexnet_100", labels=("a", "b"), preprocess=Preprocess(), checkpoint_sha256="a" * 64),
        precision="int8",
        reference=Reference(executed_by="torch", images="photos", images_sha256="d" * 64, n=10_000, top1=0.9025),
        onnx_parity=Parity(outputs={"logits": OutputParity(largest_difference=1e-6, largest=5.0)}, same_top1=64, n=64),
        stages={
            "float": StageResult(
                file=StoredFile(path=Path("rexnet_100-float.onnx"), sha256="e" * 64, bytes=1),
                executed_by="ONNX Runtime 1.26.0",
                n=10_000,
                top1=0.9025,
                agreement_with_reference=1.0,
            )
        },
        calibration=CalibrationResult(source="photos", images=64, images_sha256="b" * 64, statistic="min-max", seed=0),
        quality=NotMeasured(reason="--effort fast"),
        mixed=NotMeasured(reason="no --max-drop"),
        table=QuantTable(
            model_sha256="0" * 64,
            calibration=LEFT.table.calibration,
            tensors={
                "stem": TensorEntry(params=QuantParams(scale=(0.25,), zero_point=(-28,)), decision="observed"),
                "stem.silu": TensorEntry(params=None, decision="float"),
            },
        ),
        targets={
            name: TargetResult(
                precision="int8",
                artifact=artifact,
                presets={"x86": made("rexnet_100-int8-x86.ort")} if not position else {},
                qparams_read=ReadBack(tensors=440, rounded_to_float16=0),
            )
            for position, (name, artifact) in enumerate(artifacts.items())
        },
        layers={
            **dict.fromkeys(artifacts, NotMeasured(reason="the runtime shows no tensor but the logits")),
            **dict.fromkeys([name for name in artifacts if name == "tflite"], LAYERS),
        },
        flips=Flips(
            images=2,
            listed=(
                FlippedImage(
                    id="<photo> 7.png",
                    label="a",
                    reference=Choice(name="a", probability=0.61),
                    others={"tflite": Choice(name="b", probability=0.52)},
                ),
                FlippedImage(
                    id="photo 8.png",
                    label="b",
                    reference=Choice(name="a", probability=0.5),
                    others={"tflite": Choice(name="b", probability=0.55)},
                ),
            ),
        ),
        seconds={"proof": 1.234},
        classes=(
            ClassAccuracy(
                label="a",
                n=60,
                reference=0.9,
                files=dict.fromkeys(artifacts, 0.9),
                sqnr_db=dict.fromkeys(artifacts, 31.2),
            ),
            ClassAccuracy(
                label="b",
                n=40,
                reference=0.95,
                files=dict.fromkeys(artifacts, 0.75),
                sqnr_db=dict.fromkeys(artifacts, 24.9),
            ),
        ),
        image_noise={
            name: ImageNoise(median_db=31.0, far_worse=1, worst=(NoisyImage(id="<photo> 7.png", sqnr_db=18.5),))
            for name in artifacts
        },
        output=Path("out"),
    )
