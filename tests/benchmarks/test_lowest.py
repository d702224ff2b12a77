"""What the check with the lowest versions refuses before it installs anything."""

import sys
from pathlib import Path

import lowest
import pytest


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m-int8.ort").touch()
    monkeypatch.setattr(sys, "argv", ["lowest.py", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        lowest.main()
    assert ended.value.code == f"lowest.py: {tmp_path} has no *-int8.onnx; export with --int8 --target all"
