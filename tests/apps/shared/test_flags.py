"""Refusals of a command line: one line, what is wrong, and what was probably meant."""

from pathlib import Path

import pytest

from rexnet_export.apps.export.command import main as export
from rexnet_export.apps.export.verify.command import parser as verify_parser
from rexnet_export.apps.gate.command import main as gate
from rexnet_export.apps.shared.flags import CommandParser, parsed


def refused(capfd: pytest.CaptureFixture[str], parse: object, *given: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(list(given))  # type: ignore[operator]
    assert ended.value.code == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (["--targt", "coreml"], "did you mean --target?"),
        (["--evl-data=x"], "did you mean --eval-data?"),
        (["--prof", "full"], "did you mean --proof?"),
        (["--npus", "SM8650"], "did you mean --npu?"),
        (["--target", "cormel"], "did you mean coreml?"),
        (["--target", "ios"], "ios is called coreml here"),
        (["--target", "android"], "android is called tflite here"),
        (["--target", "ort,tflite"], "write --target ort --target tflite"),
        (["doctor", "--target", "ort, tflite"], "write --target ort --target tflite"),
        (["--target", "ort,tfl"], "invalid choice: 'ort,tfl'"),
        (["verfy", "out"], "did you mean verify?"),
    ],
)
def test_what_was_meant_is_named(given: list[str], hint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert hint in refused(capfd, export, *given)


def test_a_subcommand_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert "did you mean check?" in refused(capfd, gate, "chek", "out")
    assert "did you mean --margin?" in refused(capfd, gate, "check", "out", "--marin", "1")
    assert "did you mean --baseline?" in refused(capfd, gate, "check", "out", "--basline", "b")


def test_what_is_like_nothing_gets_no_hint(capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(capfd, export, "--zzzz")
    assert "did you mean" not in said
    assert "rexnet-export --help" in said


def test_flags_that_are_not_shown_are_not_proposed(capfd: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="it")
    parser.add_argument("--hidden", help="==SUPPRESS==")
    assert "did you mean" not in refused(capfd, parser.parse_args, "--hiddn")


@pytest.mark.parametrize("given", [["a.ort", "--seed", "3", "b.ort"], ["--seed", "3", "a.ort", "b.ort"]])
def test_flags_may_stand_between_words_that_follow_each_other(given: list[str]) -> None:
    found = parsed(verify_parser(), given)
    assert ([str(path) for path in found.paths], found.seed) == (["a.ort", "b.ort"], 3)


def test_a_wrong_flag_between_them_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert "did you mean --expect?" in refused(capfd, export, "verify", "a.ort", "--expct", "x", "b.ort")


def test_refusals_of_a_subcommand_name_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert export(["backbone", "--seed", "-1"]) == 2
    assert capfd.readouterr().err.startswith("rexnet-export backbone: --seed -1: ")


def test_a_file_that_looks_like_a_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "./-dash" not in refused(capfd, export, "predict", "a.ort", "-dash.jpeg")
    (tmp_path / "-dash.jpeg").touch()
    assert "for the file write ./-dash.jpeg" in refused(capfd, export, "predict", "a.ort", "-dash.jpeg")
    assert "for the file write ./-dash.jpeg" in refused(capfd, export, "predict", "a.ort", "b.png", "-dash.jpeg")
