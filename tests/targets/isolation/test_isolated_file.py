"""One file in a process of its own: the same answers, and a crash that stays there."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shared import ArtifactOf

from rexnet_export.pipeline.artifact.target import Source
from rexnet_export.pipeline.core.errors import ConversionError, DataError, InvalidMeasurement, ProcessEnded, UsageError
from rexnet_export.pipeline.core.records import Artifact, Precision
from rexnet_export.targets import TARGETS
from rexnet_export.targets.isolation.isolated_file import IsolatedFile, target_of

type Sources = Mapping[Precision, Source]


@pytest.fixture(scope="module")
def artifacts(artifact_of: ArtifactOf) -> Mapping[str, Artifact]:
    return {name: artifact_of(name, "int8", "plain") for name in TARGETS}


@pytest.fixture(scope="module", params=TARGETS)
def pair(request: pytest.FixtureRequest, artifacts: Mapping[str, Artifact]) -> Iterator[tuple[Artifact, IsolatedFile]]:
    artifact = artifacts[request.param]
    with IsolatedFile(artifact.file.path) as file:
        yield artifact, file


def test_it_answers_as_the_target_does(pair: tuple[Artifact, IsolatedFile], images: NDArray[np.uint8]) -> None:
    artifact, file = pair
    target = TARGETS[artifact.target]
    session = target.open(artifact)
    there, here = file.inspect(), target.inspect(artifact)
    assert there.metadata == here.metadata
    assert there.coverage == here.coverage
    assert there.structure == here.structure
    assert there.qparams == here.qparams
    assert there.altered == here.altered == []
    assert (file.executed_by, file.timed) == (session.executed_by, session.timed)
    for found, wanted in (
        (there.parameters, here.parameters),
        (file.trace(images[:1]), session.trace(images[:1])),
        ({"logits": file.run(images)}, {"logits": session.run(images)}),
    ):
        assert list(found) == list(wanted)
        for name, values in wanted.items():
            assert found[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values)


def test_errors_keep_their_class_and_words(pair: tuple[Artifact, IsolatedFile]) -> None:
    artifact, file = pair
    if artifact.target == "gpu":
        pytest.skip("torch takes any size")
    with pytest.raises(DataError, match=r"uint8"):
        file.run(np.zeros((1, 64, 64, 3), np.uint8))


def test_a_damaged_file_is_one_line(artifacts: Mapping[str, Artifact], tmp_path: Path) -> None:
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(artifacts["tflite"].file.path.read_bytes()[:5000])
    with IsolatedFile(cut) as file, pytest.raises(ConversionError, match=r"cut\.tflite"):
        _ = file.inspect().metadata


def test_a_crash_stays_in_the_child(artifacts: Mapping[str, Artifact], tmp_path: Path) -> None:
    path = shutil.copy(artifacts["tflite"].file.path, tmp_path / "crash.tflite")
    with IsolatedFile(Path(path)) as file:
        _ = file.inspect().metadata
        os.kill(file.process_id, signal.SIGSEGV)
        with pytest.raises(ProcessEnded, match=r"crash\.tflite crashed .*SIGSEGV.* coverage"):
            _ = file.inspect().coverage
        with pytest.raises(ConversionError, match="crashed"):
            _ = file.inspect().coverage


def test_silence_has_an_end(artifacts: Mapping[str, Artifact]) -> None:
    with IsolatedFile(artifacts["tflite"].file.path, answer_within_s=0.5) as file:
        os.kill(file.process_id, signal.SIGSTOP)
        with pytest.raises(ConversionError, match=r"gave no answer in 0\.5 s"):
            _ = file.inspect().metadata


def test_the_name_says_the_target(tmp_path: Path) -> None:
    for name, target in TARGETS.items():
        assert {target_of(tmp_path / f"model{suffix}") for suffix in target.suffixes} == {name}
    with pytest.raises(UsageError, match=r"photo\.jpeg is no artifact.*\.tflite"):
        target_of(tmp_path / "photo.jpeg")


def test_it_times_blocks_of_one_image(pair: tuple[Artifact, IsolatedFile], images: NDArray[np.uint8]) -> None:
    _, file = pair
    spent = file.time_block(images[:1], dropped=1, counted=3)
    assert len(spent) == 3
    assert min(spent) > 10_000  # nanoseconds: no network is computed in less
    assert file.time_kernel(dropped=1, counted=3) > 10_000
    with pytest.raises(InvalidMeasurement, match="one image"):
        file.time_block(images[:2], dropped=1, counted=3)


@pytest.mark.parametrize("name", ["tflite", "ort", "gpu"])
def test_threads_reach_the_runtime(artifacts: Mapping[str, Artifact], images: NDArray[np.uint8], name: str) -> None:
    path = artifacts[name].file.path
    with IsolatedFile(path, threads=1) as one, IsolatedFile(path, threads=3) as three:
        for file in (one, three):
            file.run(images[:1])
        assert threads_of(three) > threads_of(one)


def test_files_have_one_parent_that_survives_them(artifacts: Mapping[str, Artifact], images: NDArray[np.uint8]) -> None:
    tflite, ort = (artifacts[name].file.path for name in ("tflite", "ort"))
    with IsolatedFile(tflite) as one, IsolatedFile(ort) as other:
        assert parent_of(one.process_id) == parent_of(other.process_id) != os.getpid()
        os.kill(one.process_id, signal.SIGABRT)
        with pytest.raises(ProcessEnded, match="SIGABRT"):
            one.run(images[:1])
        assert other.run(images[:1]).shape == (1, 10)
        number = other.process_id
    assert not Path(f"/proc/{number}").exists()


def test_what_is_timed_has_a_process_started_for_it(artifacts: Mapping[str, Artifact]) -> None:
    with IsolatedFile(artifacts["ort"].file.path, threads=1) as file:
        assert parent_of(file.process_id) == os.getpid()


def test_a_parent_that_is_gone_is_replaced(artifacts: Mapping[str, Artifact], images: NDArray[np.uint8]) -> None:
    path = artifacts["ort"].file.path
    with IsolatedFile(path) as file:
        gone = parent_of(file.process_id)
        os.kill(gone, signal.SIGKILL)
        wait_for_the_end({gone, file.process_id})  # the kernel ends the child in its own time
        with pytest.raises(ProcessEnded, match="SIGKILL"):
            file.run(images[:1])
    with IsolatedFile(path) as file:
        assert parent_of(file.process_id) not in {gone, os.getpid()}
        assert file.executed_by.startswith("ONNX Runtime")


def test_nothing_outlives_a_program_that_is_killed(artifacts: Mapping[str, Artifact]) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from rexnet_export.targets.isolation.isolated_file import IsolatedFile\n"
        "file = IsolatedFile(Path(sys.argv[1])); print(file.process_id, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-P", "-c", code, str(artifacts["ort"].file.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            child = int(program.stdout.readline())
            processes = {child, parent_of(child)}
            assert program.pid not in processes
        finally:
            program.kill()
    wait_for_the_end(processes)


def test_a_relative_path_is_the_programs(artifacts: Mapping[str, Artifact], monkeypatch: pytest.MonkeyPatch) -> None:
    path = artifacts["ort"].file.path
    monkeypatch.chdir(path.parent)
    with IsolatedFile(Path(path.name)) as file:
        assert file.inspect().metadata["precision"] == "int8"


def wait_for_the_end(processes: set[int]) -> None:
    deadline = time.monotonic() + 60
    while any(map(runs, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(process: int) -> bool:
    """Neither gone nor waiting for somebody to ask how it ended."""
    status = Path(f"/proc/{process}/status")
    return status.exists() and "\nState:\tZ" not in status.read_text(encoding="utf-8")


def parent_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.partition("PPid:")[2].split()[0])


def threads_of(file: IsolatedFile) -> int:
    return len(list(Path(f"/proc/{file.process_id}/task").iterdir()))
