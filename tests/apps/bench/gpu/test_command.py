"""`rexnet-bench gpu` from the command line to its record, on this machine's processor."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from rexnet_export.apps.bench.command import main
from rexnet_export.apps.bench.gpu import measure_forms
from rexnet_export.pipeline.checkpoint.load import load_checkpoint, save_checkpoint
from rexnet_export.targets.gpu import torch_forms

SCHEMA = Path(__file__).parents[4] / "apps/bench/gpu/gpu.schema.json"
FAST = ("--seconds", "0.01", "--images", "24", "--quiet")

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="these are of a machine without a GPU")


def measured(capfd: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    assert main(["gpu", *flags, *FAST, "--json"]) == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    jsonschema.validate(found, json.loads(SCHEMA.read_text(encoding="utf-8")))
    return found


def test_an_int8_export_is_measured_in_every_form_that_the_processor_has(
    exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    forms = "float32,channels-last,fp16,ort-float32,ort-int8,tensorrt-int8"
    found = measured(capfd, str(exported), "--forms", forms, "--batches", "4,1")
    assert list(found["forms"]) == forms.split(",")
    assert found["device"]["is_gpu"] is False
    for name in ("float32", "channels-last", "ort-float32"):
        form = found["forms"][name]
        assert list(form["batches"]) == ["1", "4"]
        assert form["agreement_with_reference"] == 1.0
        assert form["accuracy"]["n"] == 24
        cell = form["batches"]["4"]
        assert cell["timing"]["images_per_s"] > 0
        assert cell["flops"] == pytest.approx(2 * found["model"]["macs"] * cell["timing"]["images_per_s"])
        assert 0 < cell["peak_share"] == pytest.approx(cell["flops"] / found["peak"]["flops"]["float32"])
        assert cell["timing"]["clocks"]["not_measured"].startswith("a CPU")
    assert found["forms"]["ort-int8"]["agreement_with_reference"] > 0.5
    assert "not_measured" in found["forms"]["ort-int8"]["batches"]["1"]["peak_share"]
    for name in ("fp16", "tensorrt-int8"):
        assert "CUDA device" in found["forms"][name]["batches"]["1"]["not_measured"]
    feed = found["feed"]
    assert (feed["form"], feed["batch"], feed["n"]) == ("channels-last", 4, 24)
    slower = min(feed["decoder_images_per_s"], feed["network_images_per_s"])
    assert feed[f"{feed['limit']}_images_per_s"] == slower


def test_a_checkpoint_alone_has_no_table_and_other_classes_no_accuracy(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loaded = load_checkpoint(checkpoint)
    other = tmp_path / "other.safetensors"
    labels = tuple("abcdefghij")
    save_checkpoint(other, loaded.network, labels=labels, preprocess=loaded.preprocess, metadata={}, half=False)
    found = measured(capfd, str(other), "--forms", "channels-last,ort-int8", "--batches", "1")
    assert "folder of an INT8 export" in found["forms"]["ort-int8"]["batches"]["1"]["not_measured"]
    for value in (found["images"], found["feed"], found["forms"]["channels-last"]["accuracy"]):
        assert "give --eval-data" in value["not_measured"]
    assert found["forms"]["channels-last"]["batches"]["1"]["timing"]["images_per_s"] > 0


def test_memory_that_is_not_enough_ends_a_forms_larger_batches_alone(
    checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bind = torch_forms.TorchForm.bind

    def full(form: torch_forms.TorchForm, images: Any) -> Any:  # noqa: ANN401
        if form.form.name == "float32" and len(images) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return bind(form, images)

    monkeypatch.setattr(torch_forms.TorchForm, "bind", full)
    found = measured(capfd, str(checkpoint), "--forms", "float32,channels-last", "--batches", "1,2,3")
    cells = found["forms"]["float32"]["batches"]
    assert cells["2"] == cells["3"] == {"not_measured": "batch 2: out of memory"}
    assert "timing" in cells["1"]
    assert "timing" in found["forms"]["channels-last"]["batches"]["3"]


def test_a_card_that_is_full_is_one_line(
    checkpoint: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")

    monkeypatch.setattr(measure_forms, "copy_bandwidth", full)
    assert main(["gpu", str(checkpoint), "--forms", "channels-last", *FAST]) == 4
    assert "CPU has no 2 GiB of memory left" in capfd.readouterr().err


def test_what_a_person_sees(checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--forms", "channels-last,tf32", "--batches", "1", "--seconds", "0.01", "--images", "24"]
    assert main(["gpu", str(checkpoint), *flags]) == 0
    said = capfd.readouterr()
    assert "no figure here is a GPU's" in said.out
    assert "no figure here is a GPU's" in said.err
    assert "not measured: tf32: needs a CUDA device; torch sees none here" in said.out
    assert "is the limit" in said.out
    assert "done: 1 cell of 2 forms on CPU; the fastest is channels-last at batch 1" in said.err


def test_where_nothing_can_be_measured_the_exit_code_says_so(
    checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["gpu", str(checkpoint), "--forms", "fp16", *FAST[:-1]]) == 4
    said = capfd.readouterr()
    assert "no form could be measured" in said.err
    assert "needs a CUDA device" in said.out
    assert "images/s" not in said.out  # no table without a row


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--batches", "1,x"], "'x' is not a number from 1"),
        (["--batches", ""], "--batches '': an entry is missing"),
        (["--forms", ""], "--forms '': an entry is missing"),
        (["--batches", "0"], "'0' is not a number from 1"),
        (["--batches", "9" * 5000], "is not a number from 1"),
        (["--forms", "float8"], "there is no 'float8'"),
        (["--seconds", "0"], "--seconds 0"),
        (["--seconds", "nan"], "--seconds nan"),
        (["--images", "0"], "--images 0"),
        (["--eval-labels", "x.csv", "--forms", "float32"], "--eval-data"),
    ],
)
def test_refusals(flags: list[str], says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", *flags]) == 2
    assert says in capfd.readouterr().err


def test_an_altered_export_is_refused(exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(exported, folder)
    table = folder / "qparams.json"
    table.write_text(table.read_text(encoding="utf-8") + " ", encoding="utf-8")
    assert main(["gpu", str(folder), *FAST]) == 12
    assert "qparams.json is not what manifest.json says" in capfd.readouterr().err
