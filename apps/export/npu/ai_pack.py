"""The folder that Google Play delivers models from, by the device's chip: an AI pack and its targeting.

The layout is that of `ai_edge_litert.aot.ai_pack`: a folder `model#group_VENDOR_CHIP` for each chip,
`model#group_other` with the portable file for every other device, and `device_targeting_configuration.xml`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from rexnet_export.apps.export.npu.chips import Chip

FOLDER, TARGETING = "ai-pack", "device_targeting_configuration.xml"
ASSETS = Path("src/main/assets")
_CONFIG = """<config:device-targeting-config
    xmlns:config="http://schemas.android.com/apk/config">
{groups}
</config:device-targeting-config>"""
_GROUP = """    <config:device-group name="{name}">
{selectors}
    </config:device-group>"""
_SELECTOR = """        <config:device-selector>
            <config:system-on-chip manufacturer="{vendor}" model="{chip}"/>
        </config:device-selector>"""


def write_ai_pack(folder: Path, name: str, portable: Path, compiled: Mapping[Chip, Path]) -> Path | None:
    """Write the pack of the chips that are in phones into `folder`; None where none is."""
    phones = {chip: path for chip, path in compiled.items() if chip.name not in chip.vendor.not_phones}
    if not phones:
        return None
    pack, name = folder / FOLDER, re.sub(r"\W", "_", name, flags=re.ASCII)  # what Gradle takes as a pack's name
    for group, path in {**{c.vendor.group(c.name): p for c, p in phones.items()}, "other": portable}.items():
        place = pack / name / ASSETS / f"model#group_{group}"
        place.mkdir(parents=True)
        shutil.copyfile(path, place / f"{name}.tflite")
    (pack / TARGETING).write_text(_CONFIG.format(groups="\n".join(map(_group, phones))), encoding="utf-8")
    return pack


def _group(chip: Chip) -> str:
    """Qualcomm's chips report one of two manufacturers."""
    vendors = ("Qualcomm", "QTI") if chip.vendor.name == "Qualcomm" else (chip.vendor.store_name,)
    model = chip.name.replace("_", " ")
    return _GROUP.format(
        name=chip.vendor.group(chip.name),
        selectors="\n".join(_SELECTOR.format(vendor=vendor, chip=model) for vendor in vendors),
    )
