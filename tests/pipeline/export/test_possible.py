"""Paths that hold nothing are refused at once, by the messages of whoever would read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rexnet_export.pipeline.core.errors import CheckpointError, ConversionError, DataError, ExportError
from rexnet_export.pipeline.export.options import Options
from rexnet_export.pipeline.export.possible import require_paths

HERE = Path(__file__).parent
NOWHERE = HERE / "nowhere"
LONG = "n" * 300  # more than a file system takes


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        (Options(checkpoint=str(NOWHERE)), CheckpointError, f"no checkpoint at {NOWHERE}"),
        (Options(checkpoint=f"local-dir:{NOWHERE}"), CheckpointError, f"no checkpoint at {NOWHERE}"),
        (Options(calibration_data=NOWHERE), DataError, f"data {NOWHERE} does not exist; name a folder of images"),
        (Options(eval_data=NOWHERE), DataError, f"data {NOWHERE} does not exist"),
        (Options(checkpoint=LONG), CheckpointError, "no checkpoint at n{300}$"),
        (Options(checkpoint=f"local-dir:{LONG}"), CheckpointError, "no checkpoint at n{300}$"),
        (Options(calibration_data=Path(LONG)), DataError, "data n{300} does not exist"),
        (Options(eval_data=Path(LONG)), DataError, "data n{300} does not exist"),
        (Options(eval_data=HERE, eval_labels=NOWHERE), DataError, f"labels {NOWHERE} cannot be read"),
        (Options(labels=NOWHERE), DataError, f"labels {NOWHERE} cannot be read: No such file or directory"),
        (Options(qparams=NOWHERE), ConversionError, f"cannot read the quantization table {NOWHERE}"),
        (Options(qparams=Path(__file__)), ConversionError, "it is no JSON"),
    ],
)
def test_what_is_not_there_is_refused(options: Options, kind: type[ExportError], said: str) -> None:
    with pytest.raises(kind, match=said):
        require_paths(options)


def test_what_is_there_or_on_the_hub_is_let_pass(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    require_paths(Options(labels=tmp_path / "names.txt", calibration_data=HERE, output=tmp_path / "out"))
    require_paths(Options(checkpoint="hf-hub:timm/rexnet_100", output=tmp_path / "out"))


def test_a_finished_export_has_decided_the_rest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").touch()
    require_paths(Options(checkpoint=str(tmp_path), labels=NOWHERE, output=tmp_path / "out"))
    with pytest.raises(DataError, match="does not exist"):
        require_paths(Options(checkpoint=str(tmp_path), eval_data=NOWHERE, output=tmp_path / "out"))


@pytest.mark.parametrize(
    "flags", [["--labels", "none"], ["backbone", "--checkpoint", "none"], ["backbone", "--labels", "none"]]
)
def test_a_wrong_path_waits_for_no_toolchain(flags: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from rexnet_export.apps.export.command import main\n"
        f"assert main([*{flags!r}, '--quiet']) in (2, 10, 11)\n"
        "assert not {'torch', 'coremltools'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd=tmp_path, stderr=subprocess.DEVNULL)
