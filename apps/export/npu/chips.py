"""The chips that LiteRT's compiler plugins know, by vendor, and what each vendor's plugin needs besides.

The lists are those of `ai_edge_litert.aot.vendors` in the release that `environment.py` pins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.meant import did_you_mean, listed

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """`name` is how files and LiteRT call the vendor; `library` (a glob) is what its plugin needs and does not bring.

    `sdk` is a package that brings it, where there is one. `not_phones` are chips of cars and boards, which no AI pack
    is delivered to.
    """

    name: str
    plugin: str
    chips: tuple[str, ...]
    library: str
    sdk: str
    needs: str
    brought: bool = False
    not_phones: frozenset[str] = frozenset()
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    def group(self, chip: str) -> str:
        """The vendor's device group in an AI pack."""
        return f"{self.store_name}_{chip}"

    @property
    def store_name(self) -> str:
        """How Google Play writes the vendor."""
        return "Mediatek" if self.name == "MediaTek" else self.name


@dataclass(frozen=True, kw_only=True)
class Chip:
    """One chip of one vendor."""

    vendor: Vendor
    name: str

    @property
    def named(self) -> str:
        """Vendor and chip."""
        return f"{self.vendor.name} {self.name}"


VENDORS = (
    Vendor(
        name="Qualcomm",
        plugin="qualcomm/compiler",
        chips=(*("SA8255", "SA8295", "SM8350", "SM8450", "SM8475", "SM8550", "SM8650", "SM8750", "SM8845", "SM8850"),),
        library="libQnnHtp.so",
        sdk="ai_edge_litert_sdk_qualcomm",
        needs="Qualcomm's QNN libraries, which the package onnxruntime-qnn brings",
        brought=True,
        not_phones=frozenset({"SA8255", "SA8295"}),
    ),
    Vendor(
        name="MediaTek",
        plugin="mediatek/compiler",
        chips=(
            *("MT6853", "MT6877", "MT6878", "MT6879", "MT6886", "MT6893", "MT6895", "MT6897"),
            *("MT6983", "MT6985", "MT6989", "MT6991", "MT6993", "MT8171", "MT8188", "MT8189"),
        ),
        library="libneuronusdk_adapter*.so",
        sdk="ai_edge_litert_sdk_mediatek",
        needs="MediaTek's NeuroPilot SDK, which the package ai-edge-litert-sdk-mediatek downloads from MediaTek",
        not_phones=frozenset({"MT8171", "MT8188", "MT8189"}),
        flags={"MT6993": ("--mediatek_sdk_version_type=version9",)},
    ),
    Vendor(
        name="Samsung",
        plugin="samsung/compiler",
        chips=("E9965",),
        library="libenn*.so",
        sdk="ai_edge_litert_sdk_samsung",
        needs="Samsung's Exynos AI Studio libraries, and a plugin that loads: that of ai-edge-litert 2.3.0 does not",
    ),
    Vendor(
        name="Google",
        plugin="google_tensor/compiler",
        chips=("Tensor_G3", "Tensor_G4", "Tensor_G5", "Tensor_G6"),
        library="liblitert_plugin_compiler.so",
        sdk="ai_edge_litert_sdk_google_tensor",
        needs="Google's Tensor SDK (developers.google.com/edge/litert/next/tensor-sdk)",
    ),
    Vendor(
        name="IntelOpenVINO",
        plugin="intel_openvino/compiler",
        chips=("LNL", "PTL"),
        library="libopenvino_intel_npu_compiler*.so",
        sdk="ai_edge_litert_sdk_intel",
        needs="Intel's NPU compiler, which the package ai-edge-litert-sdk-intel-nightly brings, and OpenVINO",
        not_phones=frozenset({"LNL", "PTL"}),
    ),
)
KNOWN = {chip.lower(): Chip(vendor=vendor, name=chip) for vendor in VENDORS for chip in vendor.chips}


def chips_from(text: str, flag: str) -> tuple[Chip, ...]:
    """The chips of a list such as `SM8650,SM8750`, of a vendor's name, or `all`: those whose compiler is at hand.

    `UsageError` names the `flag` that the list was given with, and what of it is no chip.
    """
    words = listed(text, flag, _names(), "SM8650,SM8750")
    return tuple(dict.fromkeys(chip for word in words for chip in _meant(word, flag)))


def _names() -> list[str]:
    """All that a list may have."""
    return [*(chip.name for chip in KNOWN.values()), ALL, *(vendor.name.lower() for vendor in VENDORS)]


def _meant(word: str, flag: str) -> Sequence[Chip]:
    wanted = word.lower()
    vendors = [vendor for vendor in VENDORS if wanted == vendor.name.lower() or (wanted == ALL and vendor.brought)]
    if vendors:
        return [KNOWN[chip.lower()] for vendor in vendors for chip in vendor.chips]
    if wanted in KNOWN:
        return [KNOWN[wanted]]
    known = "; ".join(f"{vendor.name}: {', '.join(vendor.chips)}" for vendor in VENDORS)
    hint = did_you_mean(word, _names()) or f"there are {known}"
    raise UsageError(f"{flag} {word!r}: no chip of that name; {hint}")
