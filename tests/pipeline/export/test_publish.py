"""An output folder is the older export or the new one, whole, whatever happens and whenever."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults import Fault, at_every_call
from manifests import vouch

from rexnet_export.pipeline.artifact.export_folder import altered
from rexnet_export.pipeline.core.errors import UsageError
from rexnet_export.pipeline.core.progress import Silent
from rexnet_export.pipeline.export import publish as module
from rexnet_export.pipeline.export.publish import Record, publish, staging

STRANGERS = {"notes.txt": "mine", "m.tflite.bak": "mine too"}


def listed(folder: Path) -> set[str]:
    list_file = folder / "list.txt"
    return set(list_file.read_text().split()) if list_file.exists() else set()


LISTED = Record(file="list.txt", names=listed)


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def write(folder: Path, version: str, *more: str) -> None:
    """A small export, each file of which says which one it is of."""
    (folder / "m.mlpackage" / "Data").mkdir(parents=True)
    for name in ("m.mlpackage/Data/weight.bin", "m.ort", "report.json", *more):
        (folder / name).write_text(f'{{"version": "{version}"}}')
    vouch(folder, version=version)


def export(output: Path, version: str, *more: str) -> list[str]:
    notes = Notes()
    with staging(output, notes) as folder:
        write(folder, version, *more)
        publish(folder, output, notes)
    return notes.notes


def version(output: Path) -> str:
    """Which export it is; it has to be whole."""
    assert altered(output) == []
    found: str = json.loads((output / "manifest.json").read_text())["inputs"]["checkpoint_metadata"]["version"]
    assert json.loads((output / "m.ort").read_text())["version"] == found
    return found


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "out [1]"


@pytest.fixture(params=["exchanged", "not exchanged", "moved in"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How a folder takes the other's place: in one step, or file by file where that cannot be."""

    def unsupported(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    if request.param == "not exchanged":
        monkeypatch.setattr(module, "_exchange", unsupported)
    if request.param == "moved in":
        monkeypatch.setattr(module, "_is_fixed", lambda _: True)
    return str(request.param)


@pytest.mark.usefixtures("way")
def test_a_new_export_replaces_the_older_and_keeps_what_is_of_none(output: Path) -> None:
    assert export(output, "old", "m.tflite") == []
    for name, text in STRANGERS.items():
        (output / name).write_text(text)
    (note,) = export(output, "new")
    assert "'m.tflite.bak', 'notes.txt'" in note
    assert version(output) == "new"
    assert {name: (output / name).read_text() for name in STRANGERS} == STRANGERS
    assert not (output / "m.tflite").exists(), "the manifest does not know it"
    assert {path.name for path in output.parent.iterdir()} == {output.name}
    assert not list(output.glob(".*"))


@pytest.mark.usefixtures("way")
def test_what_was_compiled_from_an_older_file_goes_with_it(output: Path) -> None:
    export(output, "old", "m.tflite")
    for folder, record in (("m-npu", "npu.json"), ("m-notes", "npu.json"), ("m.ort-npu", "notes.txt")):
        (output / folder).mkdir()
        (output / folder / record).touch()
    (note,) = export(output, "new", "m.tflite")
    assert note.endswith(": 'm-notes', 'm.ort-npu'"), "no file of the export has such a folder, or it was not compiled"
    assert version(output) == "new"
    assert not (output / "m-npu").exists()


def test_a_folder_with_a_damaged_manifest_keeps_all_but_what_is_called_the_same(output: Path) -> None:
    (output / "m.ort").mkdir(parents=True)
    (output / "manifest.json").write_text("old")
    (output / "other.ort").touch()
    export(output, "new")
    assert version(output) == "new"
    assert (output / "other.ort").exists()


def stopped(output: Path, how: Callable[[Path], object]) -> None:
    """A run in which something happens once its files are written."""
    with staging(output, Silent()) as folder:
        write(folder, "new")
        how(folder)


def raising(error: BaseException) -> Callable[[Path], object]:
    def how(_: Path) -> None:
        raise error

    return how


def test_a_failure_leaves_nothing(output: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        stopped(output, raising(ZeroDivisionError()))
    assert not output.exists()
    export(output, "old")
    with pytest.raises(KeyboardInterrupt, match="nothing was left"):
        stopped(output, raising(KeyboardInterrupt()))
    assert version(output) == "old"
    assert not list(output.glob(".*"))


def test_what_could_not_be_deleted_is_named(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "rmtree", lambda *_args, **_options: None)
    with pytest.raises(KeyboardInterrupt, match=r"left .*\.unfinished-.*: delete it"):
        stopped(output, raising(KeyboardInterrupt()))


def test_a_folder_that_is_removed_meanwhile_is_what_is_said(output: Path) -> None:
    with pytest.raises(UsageError, match="removed while the run went on"):
        stopped(output, lambda folder: (shutil.rmtree(output), (folder / "m.ort").touch()))


def test_the_disk_that_is_full_is_named(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = {output: 2**40}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(usage.get(Path(path), 0)))
    with pytest.raises(UsageError, match=r"TMPDIR.*disk is full"):
        stopped(output, raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))


class Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_one_run_at_a_time(output: Path) -> None:
    with (
        staging(output, Silent()),
        pytest.raises(UsageError, match="another run is writing there"),
        staging(output, Silent()),
    ):
        pass
    export(output, "new")


def test_concurrent_runs_end_with_a_whole_export(output: Path) -> None:
    export(output, "old")

    def often(name: str) -> None:
        for _ in range(20):
            try:
                export(output, name)
            except UsageError:
                continue

    threads = [threading.Thread(target=often, args=(f"new {number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert version(output).startswith("new")
    assert {path.name for path in output.parent.iterdir()} == {output.name}


@pytest.fixture
def prepared(output: Path) -> Iterator[None]:
    yield
    shutil.rmtree(output.parent, ignore_errors=True)


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("fault", ["kill", "fail"])
def test_a_fault_at_every_call_leaves_one_export_whole(output: Path, way: str, fault: Fault) -> None:
    template = output.parent.parent / "template"
    export(template, "old", "m.tflite")
    (template / "m-npu").mkdir()
    compiled = {"npu.json", "m_one.tflite", "m_two.tflite"}
    for name in compiled:
        (template / "m-npu" / name).touch()
    for name, text in STRANGERS.items():
        (template / name).write_text(text)

    def prepare() -> None:
        shutil.rmtree(output.parent, ignore_errors=True)
        output.parent.mkdir()
        shutil.copytree(template, output)

    def check() -> None:
        if way == "exchanged":
            assert version(output) in {"old", "new"}
        with staging(output, Silent()):  # the next start
            pass
        if fault == "kill":  # a manifest that cannot be read names nothing, and all is kept
            assert (output / "m.tflite").exists() is (version(output) == "old")
            assert {path.name for path in output.glob("m-npu/*")} == (compiled if version(output) == "old" else set())
            assert (output / "m-npu").exists() is (version(output) == "old")
        assert version(output) in {"old", "new"}
        assert {name: (output / name).read_text() for name in STRANGERS} == STRANGERS
        assert {path.name for path in output.parent.iterdir()} == {output.name}
        assert not list(output.glob(".*"))

    calls = at_every_call(prepare, lambda: export(output, "new"), check, output.parent, fault)
    assert calls > 40


@pytest.mark.usefixtures("prepared", "way")
def test_a_folder_with_another_record_is_whole_too(output: Path) -> None:
    def run(names: list[str]) -> None:
        with staging(output, Silent(), LISTED) as folder:
            for name in (*names, "list.txt"):
                (folder / name).write_text(" ".join(["list.txt", *names]))
            publish(folder, output, Silent(), LISTED)

    old, new = ["a", "b", "c"], ["a", "d"]

    def prepare() -> None:
        shutil.rmtree(output.parent, ignore_errors=True)
        run(old)
        (output / "stranger").touch()

    def check() -> None:
        with staging(output, Silent(), LISTED):  # the next start
            pass
        found = {path.name for path in output.iterdir()} - {"list.txt", "stranger"}
        assert found in (set(old), set(new))
        assert all((output / name).read_text().split() == ["list.txt", *sorted(found)] for name in found)
        assert (output / "stranger").exists()

    assert at_every_call(prepare, lambda: run(new), check, output.parent, "kill") > 20


def test_taking_back_may_be_killed_too(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_is_fixed", lambda _: True)
    export(output, "old", "m.tflite")
    killed = output.parent.parent / "killed"

    def half(path: Path, target: Path) -> Path:
        if target == output / "report.json":
            os._exit(9)
        return renamed(path, target)

    renamed = Path.rename
    if not (child := os.fork()):
        Path.rename = half  # type: ignore[method-assign, assignment]
        export(output, "new")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert list(output.glob(".previous/*"))
    output.rename(killed)

    def prepare() -> None:
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(killed, output)

    def next_start() -> None:
        with staging(output, Silent()):
            pass

    def check() -> None:
        next_start()
        assert version(output) == "old"
        assert not list(output.glob(".*"))

    assert at_every_call(prepare, next_start, check, output.parent, "kill") > 20


def compile_for(output: Path, version: str) -> None:
    """What `rexnet-export npu` publishes, as small as can be."""
    with staging(output, Silent(), COMPILED) as folder:
        for name in ("m_one.tflite", "m_two.tflite", "npu.json"):
            (folder / name).write_text(version)
        publish(folder, output, Silent(), COMPILED)


COMPILED = Record(file="npu.json", names=lambda folder: {"m_one.tflite", "m_two.tflite"} if folder.exists() else set())


@pytest.mark.usefixtures("prepared", "way")
@pytest.mark.parametrize("kind", ["export", "compiled"])
def test_a_run_of_another_kind_never_takes_back_what_one_left(output: Path, kind: str) -> None:
    """Whatever a killed run left, the other kind leaves it as it is or does no harm: the first kind puts it right."""
    mine: Callable[..., object] = export if kind == "export" else compile_for

    def prepare() -> None:
        shutil.rmtree(output.parent, ignore_errors=True)
        mine(output, "old")

    def check() -> None:
        if not (output / "manifest.json").exists():  # nothing is ever compiled into an export's folder
            with (
                suppress(UsageError),  # it is for the first kind to put right
                staging(output, Silent(), COMPILED if kind == "export" else module.EXPORT),
            ):
                pass
        with staging(output, Silent(), module.EXPORT if kind == "export" else COMPILED):
            pass
        if kind == "export":
            assert (output / "m.tflite").exists() is (version(output) == "new")
        else:
            assert len({(output / name).read_text() for name in ("m_one.tflite", "m_two.tflite", "npu.json")}) == 1
        assert not list(output.glob(".*"))

    more = ("m.tflite",) if kind == "export" else ()
    assert at_every_call(prepare, lambda: mine(output, "new", *more), check, output.parent, "kill") > 20
