"""Faces of commands: the work they name exists, and help loads nothing that only work needs."""

import argparse
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version

import pytest

from rexnet_export.apps.bench import command as bench
from rexnet_export.apps.export import backbone_command as backbone
from rexnet_export.apps.export import command as export
from rexnet_export.apps.export import predict_command as predict
from rexnet_export.apps.export.doctor import command as doctor
from rexnet_export.apps.export.info import command as info
from rexnet_export.apps.export.npu import command as npu
from rexnet_export.apps.export.verify import command as verify
from rexnet_export.apps.gate import command as gate
from rexnet_export.apps.gate import latency_command as latency
from rexnet_export.apps.study import command as study
from rexnet_export.apps.train import options as train

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "export": export.parser,
    "backbone": backbone.parser,
    "verify": verify.parser,
    "predict": predict.parser,
    "info": info.parser,
    "doctor": doctor.parser,
    "npu": npu.parser,
    "gate": gate.parser,
    "latency": latency.parser,
    "bench": bench.parser,
    "study": study.parser,
    "train": train.parser,
}
HEAVY = ("torch", "numpy", "onnx", "scipy", "matplotlib", "onnxruntime", "coremltools", "pydantic", "rich", "PIL")
TOOLCHAINS = ("torch", "scipy.stats", "scipy.optimize", "matplotlib", "onnxruntime", "coremltools")
# Work on finished files: what opens them does so in a process of its own, which loads what their format needs.
LIGHT = (
    "export.verify.run_verify",
    "export.info.run_info",
    "export.doctor.run_doctor",
    "export.npu.run_npu",
    "export.run_predict",
    "gate.run_check",
    "gate.run_update",
)


def works(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What a parser and its subcommands name."""
    if work := parser.get_default("work"):
        yield work
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from works(child)


@pytest.mark.parametrize("name", PARSERS)
def test_the_work_that_a_parser_names_is_there(name: str) -> None:
    named = list(works(PARSERS[name]()))
    assert named
    for work in named:
        module, _, function = work.partition(":")
        assert len(inspect.signature(getattr(importlib.import_module(module), function)).parameters) == 2


FIRST_WORDS = {
    "export": ([], ["verify"], ["predict"], ["backbone"]),
    "gate": ([], ["check"], ["plan"], ["update"], ["latency"]),
    "bench": ([], ["bundle"], ["run"], ["serve"], ["devices"], ["compare"]),
    "train": ([],),
    "study": ([], ["table"], ["rank"], ["control"], ["search"]),
}


@pytest.mark.parametrize("asked", ["--help", "--no-such-flag"])
@pytest.mark.parametrize(("module", "words"), [(module, w) for module, each in FIRST_WORDS.items() for w in each])
def test_parsing_loads_nothing_that_only_work_needs(module: str, words: list[str], asked: str) -> None:
    code = (
        f"import sys; from rexnet_export.apps.{module}.command import main\n"
        f"try: main({[*words, asked]})\n"
        "except SystemExit: pass\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_work_on_finished_files_begins_without_toolchains() -> None:
    modules = ", ".join(f"rexnet_export.apps.{name}" for name in LIGHT)
    code = f"import sys, {modules}; sys.exit(', '.join(n for n in {TOOLCHAINS!r} if n in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["export", "gate", "bench", "train", "study"])
def test_every_command_says_its_version(module: str, capfd: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"rexnet_export.apps.{module}.command").main
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capfd.readouterr().out == f"rexnet-{module} {version('rexnet-export')}\n"


def test_the_package_runs_as_a_module() -> None:
    command = [sys.executable, "-P", "-m", "rexnet_export", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"rexnet-export {version('rexnet-export')}\n"
