"""What was published about ReXNet, to print beside what is computed here; nothing in the pipeline depends on it.

Accuracy and latency: Han et al., arXiv 2007.00992v3, tables 4, A1 and A2, and the authors' README (ImageNet at 224 px;
CPU = Xeon E5-2630 v4 at batch 1, GPU = V100 at batch 64, mean of 1,000 runs). timm's: `results-imagenet.csv`.
Rank ratios: the vector curves of Figure 1, read to about 0.001; the 3x3 and bottleneck panels at six ratios.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rexnet_export.pipeline.model.architecture import Variant


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """Published figures of one network: millions of parameters, billions of multiply-accumulates, percent, ms.

    None was not published. `parameters` and `macs` are text because their digits say how they were rounded.
    """

    variant: Variant
    width: float
    parameters: str
    macs: str | None
    top1: float | None
    top5: float | None = None
    cpu_ms: float | None = None
    gpu_ms: float | None = None
    pixels: int = 224


def _v1(width: float, parameters: str, macs: str, top1: float, top5: float, cpu: float, gpu: float) -> PublishedModel:
    return PublishedModel(
        variant="v1", width=width, parameters=parameters, macs=macs, top1=top1, top5=top5, cpu_ms=cpu, gpu_ms=gpu
    )


def _lite(width: float, parameters: str, macs: str, top1: float, top5: float, cpu: float, gpu: float) -> PublishedModel:
    return PublishedModel(
        variant="lite", width=width, parameters=parameters, macs=macs, top1=top1, top5=top5, cpu_ms=cpu, gpu_ms=gpu
    )


def _r(width: float, parameters: str, top1: float | None = None, top5: float | None = None) -> PublishedModel:
    return PublishedModel(variant="r", width=width, parameters=parameters, macs=None, top1=top1, top5=top5)


FAMILY = (
    _v1(0.9, "4.1", "0.35", 77.2, 93.5, 45, 20),
    _v1(1.0, "4.8", "0.40", 77.9, 93.9, 47, 21),
    _v1(1.1, "5.6", "0.48", 78.6, 94.1, 51, 24),
    _v1(1.2, "6.6", "0.57", 79.0, 94.3, 53, 26),
    _v1(1.3, "7.6", "0.66", 79.5, 94.7, 55, 28),
    _v1(1.4, "8.6", "0.76", 79.8, 94.9, 57, 30),
    _v1(1.5, "9.7", "0.88", 80.3, 95.2, 59, 31),  # the README says 0.86
    _v1(2.0, "16", "1.5", 81.6, 95.7, 69, 40),
    _v1(2.2, "19", "1.8", 81.7, 95.8, 73, 46),
    _v1(3.0, "34", "3.4", 82.8, 96.2, 96, 61),  # the paper's earlier weights reached 96.3
    _lite(1.0, "4.7", "0.41", 76.2, 92.8, 31, 22),
    _lite(1.3, "6.8", "0.65", 77.8, 93.8, 36, 28),
    _lite(1.5, "8.3", "0.84", 78.6, 94.2, 39, 33),
    _lite(2.0, "13", "1.5", 80.2, 95.0, 49, 46),
    _r(1.0, "4.88"),
    _r(1.3, "7.61"),
    _r(1.5, "9.78"),
    _r(2.0, "16.52", 82.602, 96.396),
    _r(3.0, "34.81", 84.036, 96.994),
)

IMAGENET_CLASSES = 1000


def published_top1(variant: Variant, width: float) -> float | None:
    """Top-1 in percent that was published of a network on ImageNet-1k, if any was."""
    found = (model.top1 for model in FAMILY if (model.variant, model.width) == (variant, width))
    return next(found, None)


RATIOS = tuple(step / 10 for step in range(1, 11))
_SOME = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0)


def _curves(ratios: tuple[float, ...], curves: Mapping[str, str]) -> Mapping[str, Mapping[float, float]]:
    return MappingProxyType(
        {
            name: MappingProxyType(
                {ratio: float(word) for ratio, word in zip(ratios, words.split(), strict=True) if word != "-"}
            )
            for name, words in curves.items()
        }
    )


# Rank ratio by layer kind, nonlinearity and channel ratio; "-" lies below the figure's axis.
RANK_RATIOS = MappingProxyType(
    {
        "conv1x1": _curves(
            RATIOS,
            {
                "linear": "- - - - - - .704 .804 .903 .998",
                "relu6": ".856 .906 .928 .946 .948 .953 .954 .959 .962 .960",
                "relu": ".848 .900 .930 .938 .949 .948 .955 .955 .960 .966",
                "leaky-relu": ".875 .930 .949 .967 .977 .981 .984 .990 .990 .992",
                "elu": ".914 .963 .970 .982 .988 .993 .996 .996 .998 .999",
                "softplus": ".934 .975 .984 .991 .991 .995 .994 .996 .998 .998",
                "hard-swish": ".948 .984 .991 .992 .992 .995 .997 .997 .998 .998",
                "silu": ".958 .983 .986 .989 .996 .995 .997 .998 .998 .998",
            },
        ),
        "conv3x3": _curves(
            _SOME,
            {
                "relu6": ".869 .908 .930 .951 .965 .969",
                "relu": ".866 .916 .936 .956 .960 .967",
                "leaky-relu": ".884 .936 .950 .979 .987 .989",
                "elu": ".921 .961 .978 .988 .995 .999",
                "softplus": ".946 .972 .982 .986 .997 .998",
                "hard-swish": ".964 .984 .990 .992 .995 .997",
                "silu": ".963 .983 .989 .992 .996 .998",
            },
        ),
        "bottleneck-conv": _curves(
            _SOME,
            {
                "linear": ".103 .203 .303 .504 .803 .999",
                "relu6": ".305 .554 .744 .910 .985 1.0",
                "relu": ".301 .573 .747 .913 .987 1.0",
                "leaky-relu": ".316 .600 .749 .927 .988 1.0",
                "elu": ".368 .678 .824 .955 .992 1.0",
                "softplus": ".364 .639 .799 .934 .985 1.0",
                "hard-swish": ".387 .687 .840 .959 .992 1.0",
                "silu": ".385 .683 .826 .952 .988 1.0",
            },
        ),
        "bottleneck-depthwise": _curves(
            _SOME,
            {
                "linear": ".103 .203 .303 .504 .803 1.0",
                "relu6": ".192 .351 .480 .689 .903 1.0",
                "relu": ".191 .359 .490 .685 .900 1.0",
                "leaky-relu": ".201 .361 .489 .697 .902 1.0",
                "elu": ".249 .422 .563 .737 .914 1.0",
                "softplus": ".227 .386 .503 .693 .887 1.0",
                "hard-swish": ".258 .442 .577 .760 .920 1.0",
                "silu": ".241 .416 .553 .740 .912 1.0",
            },
        ),
    }
)
