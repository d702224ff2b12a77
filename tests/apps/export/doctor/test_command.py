"""`rexnet-export doctor`: a target works when it was tried, and what does not is one line with a reason."""

import json
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rexnet_export.apps.export.command import main
from rexnet_export.apps.export.doctor import examine, run_doctor
from rexnet_export.apps.export.doctor.run_doctor import _present
from rexnet_export.pipeline.core.extras import EXTRAS


def test_a_target_that_was_tried_works(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--target", "ort", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["works"] is True
    assert list(found["targets"]) == ["ort"]
    assert found["targets"]["ort"]["executed_by"].startswith("ONNX Runtime")
    assert found["targets"]["ort"]["timed"] is True
    assert set(found["extras"]) == {extra.name for extra in EXTRAS}


def test_compilers_for_npus_are_named_or_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(run_doctor, "_present", list)
    assert main(["doctor"]) == 0
    assert "run rexnet-export npu --fetch" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("child", "said"),
    [
        ("import os; os.abort()", "cannot be converted: its process crashed (SIGABRT)"),
        (
            """print('{"converted_s": 1.5}', flush=True); import os; os._exit(3)""",
            "cannot be executed: its process crashed (code 3)",
        ),
        (
            """print('{"failed": "no tool; run: pip install tool"}')""",
            "cannot be converted: no tool; run: pip install tool",
        ),
    ],
)
def test_what_fails_is_told_and_is_code_13(
    child: str, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(examine.child, "command", lambda *_: [sys.executable, "-c", child])
    assert main(["doctor", "--target", "tflite", "--quiet"]) == 13
    out, err = capfd.readouterr()
    assert out == ""
    assert f"tflite: {said}" in err


def test_a_target_by_another_name_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["doctor", "--target", "ios"])
    assert "ios is called coreml here" in capfd.readouterr().err


def test_a_target_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine.child, "command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(examine, "PATIENCE_S", 0.2)
    assert not examine.try_target("tflite").works


def test_extras_are_those_of_the_package() -> None:
    text = (Path(__file__).parents[4] / "pyproject.toml").read_text(encoding="utf-8")
    declared = tomllib.loads(text)["project"]["optional-dependencies"]
    modules = packages_distributions()
    for extra in EXTRAS:
        asked = list(map(Requirement, declared[extra.name]))
        inner = [Requirement(each) for own in asked for name in own.extras for each in declared.get(name, ())]
        brought = {canonicalize_name(name) for module in extra.modules for name in modules[module]}
        assert brought <= {canonicalize_name(each.name) for each in (*asked, *inner)}


def test_a_target_that_is_asked_for_by_name_is_tried_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _present() == ["coreml", "tflite", "ort", "gpu", "openvino"]
    monkeypatch.setattr(run_doctor, "find_spec", lambda _: None)
    assert _present() == ["coreml", "tflite", "ort", "gpu"]
