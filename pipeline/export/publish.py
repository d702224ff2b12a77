"""An output folder that is filled whole or not at all: written in private, exchanged in one step when all is done.

A killed run leaves the older files or the new ones, whole. Where a folder cannot be exchanged (a mount point, the
working directory) its files are moved one by one, and the next start completes or takes back what was cut off.
What of a folder is an older run's is what a record in it names, an export's manifest unless the caller has another.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rexnet_export.pipeline.artifact.export_folder import digests
from rexnet_export.pipeline.core.errors import FULL, ConversionError, DiskFull, UsageError
from rexnet_export.pipeline.core.files import MANIFEST_FILE, NPU_FILE, VOUCHING, compiled_folder, take_mode
from rexnet_export.pipeline.core.progress import Progress
from rexnet_export.pipeline.machine.locks import held, is_owned, owned

UNFINISHED = ".unfinished-"
PREVIOUS = ".previous"  # the older run's files, while those of a new one are moved in
AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2
LITTLE = 2**20  # bytes: less than that is a full disk
KINDS = {MANIFEST_FILE: "an export", NPU_FILE: "compiling for NPUs"}  # who publishes, by its record
# What says that a folder cannot be renamed where it is, or not exchanged.
FIXED = {errno.EXDEV, errno.EBUSY, errno.EINVAL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSYS, errno.ENOTSUP}


@dataclass(frozen=True, kw_only=True)
class Record:
    """The file that says what else of a folder a run has written; of all that is moved in, it appears last.

    `names` gives all that it says, by name; nothing where it is damaged. `vouching` are files that are a run's in
    any case, as they speak of its other files.
    """

    file: str
    vouching: tuple[str, ...] = ()
    names: Callable[[Path], set[str]]


def _exported(folder: Path) -> set[str]:
    """An export's files, and what was compiled from them: it goes when they go."""
    try:
        known = digests(folder)
    except ConversionError:
        return set()
    compiled = {name for name in map(compiled_folder, known) if (folder / name / NPU_FILE).is_file()}
    return {*known, *compiled, *VOUCHING}


EXPORT = Record(file=MANIFEST_FILE, vouching=VOUCHING, names=_exported)


@contextmanager
def staging(output: Path, progress: Progress, record: Record = EXPORT) -> Iterator[Path]:
    """A private folder in the files' destination, gone afterwards whatever happens; one run at a time has it.

    What runs that were killed have left there is completed, taken back or deleted first.
    """
    with ExitStack() as owner:
        try:
            existed = output.is_dir()
            output.mkdir(parents=True, exist_ok=True)
            output = output.resolve()
            with held(output):
                _require_alone(output)
                _recover(output, progress, record)
                folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=output))
                owner.enter_context(owned(folder))
        except OSError as error:
            raise UsageError(f"--output {output}: {error.strerror}; choose a folder you can write to") from error
        try:
            yield folder
        except KeyboardInterrupt:
            _end(folder, output, existed=existed)
            raise KeyboardInterrupt(_remains(folder, output)) from None
        except Exception as error:
            raise _explained(error, output, folder) from error
        finally:
            _end(folder, output, existed=existed)


def _end(folder: Path, output: Path, *, existed: bool) -> None:
    """Delete what is not published; deleting it twice does no harm."""
    shutil.rmtree(folder, ignore_errors=True)
    if not existed:
        with suppress(OSError):  # it has the export in it, or is gone
            output.rmdir()


def _remains(folder: Path, output: Path) -> str:
    """What an interrupted run left, as it is now."""
    return f"left {folder}: delete it" if folder.exists() else f"nothing was left in {output}"


def publish(folder: Path, output: Path, progress: Progress, record: Record = EXPORT) -> None:
    """Put the finished folder in the place of `output`, with whatever in there is of no older run."""
    output = output.resolve()
    _sync(folder)
    with held(output):
        strangers = _strangers(output, record, {folder.name, *(path.name for path in folder.iterdir())})
        if strangers:
            progress.note(f"{output} keeps what is not of the older run: {', '.join(map(ascii, strangers))}")
        if not _is_fixed(output):
            replaced = output.with_name(f".{output.name}.replaced-{folder.name.removeprefix(UNFINISHED)}")
            with suppress_fixed():
                take_mode(folder, output)
                folder.rename(replaced)
                try:
                    _exchange(replaced, output)
                except OSError:
                    replaced.rename(folder)
                    raise
                with suppress(OSError):  # done is done
                    _sync_names(output.parent)
                _carry(replaced, output, record)
                return
        _move_in(folder, output, strangers, record)


@contextmanager
def suppress_fixed() -> Iterator[None]:
    """Go on where a folder could not be renamed."""
    try:
        yield
    except OSError as error:
        if error.errno not in FIXED:
            raise


def _exchange(one: Path, other: Path) -> None:
    """Two folders change their names in one step; `OSError` where the system or its file system cannot do that."""
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        exchange, arguments = getattr(library, "renamex_np", None), (*names, RENAME_SWAP)
    else:
        exchange = getattr(library, "renameat2", None)
        arguments = (AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    if exchange is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if exchange(*arguments):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one))


def _carry(replaced: Path, output: Path, record: Record) -> None:
    """Move what is of no run from a folder that was replaced to the one in its place, then delete the rest."""
    for name in _strangers(replaced, record, {path.name for path in output.iterdir()}):
        (replaced / name).rename(output / name)
    with suppress(OSError):  # done is done; the next start goes on
        for path in list(replaced.iterdir()):
            if path.name != record.file:  # last: without it the next start would take what is left for a stranger's
                # nor half a folder, which has lost what tells that it is ours
                _delete(path.rename(replaced / f"{UNFINISHED}{path.name}") if _is_folder(path) else path)
        shutil.rmtree(replaced)


def _move_in(folder: Path, output: Path, strangers: list[str], record: Record) -> None:
    """Move files one by one: the older ones aside, the new ones in with their record last, the older ones deleted."""
    previous = output / PREVIOUS
    previous.mkdir()
    staying = {*strangers, PREVIOUS, folder.name}
    for path in sorted(output.iterdir(), key=lambda path: path.name != record.file):
        if path.name not in staying and not path.name.startswith(UNFINISHED):
            path.rename(previous / path.name)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == record.file):
        path.rename(output / path.name)
    _sync_names(output)
    shutil.rmtree(previous)


def _recover(output: Path, progress: Progress, record: Record) -> None:
    """Complete or take back what a killed run of this kind had begun to publish; `UsageError` where it was another."""
    replaced = [path for path in output.parent.glob(f".{_escaped(output.name)}.replaced-*") if not is_owned(path)]
    previous, dead = output / PREVIOUS, list(output.glob(f"{UNFINISHED}*"))
    if replaced or previous.is_dir():
        _require_of_this_kind(output, [*replaced, *dead, previous, output], record)
    for path in replaced:
        _carry(path, output, record)
    cut_off = previous.is_dir() and not (output / record.file).exists()
    if cut_off:
        progress.note(f"{output}: a run was killed while it published; what was there before is put back")
        for folder in dead:
            _take_back(folder, output, record)
    for folder in dead:
        (folder / record.file).unlink(missing_ok=True)  # first: what is gone from here was not moved in
        shutil.rmtree(folder)
    if cut_off:
        for path in sorted(previous.iterdir(), key=lambda path: path.name == record.file):
            _delete(output / path.name)
            path.rename(output / path.name)
    if previous.is_dir():
        shutil.rmtree(previous)


def _require_of_this_kind(output: Path, places: list[Path], record: Record) -> None:
    """`UsageError` where what a killed run left is for another kind of run to put right: our record does not name it.

    Its own record is in one of the places, as it is moved out first and in last. That of an export may lie beside
    compiled files, which it keeps; nothing is compiled into an export's folder.
    """
    found = next((name for name in KINDS for place in places if (place / name).exists()), record.file)
    if found != record.file:
        raise UsageError(
            f"--output {output}: {KINDS[found]} was killed while it published there; run that again, which puts it "
            "right, or name another folder"
        )


def _take_back(folder: Path, output: Path, record: Record) -> None:
    """Delete the files of an unfinished run that were moved in: those that are gone from its own folder."""
    for name in record.names(folder):
        if not (folder / name).exists():
            _delete(output / name)


def _require_alone(output: Path) -> None:
    """A living run has the folder to itself."""
    if any(is_owned(folder) for folder in output.glob(f"{UNFINISHED}*")):
        raise UsageError(f"--output {output}: another run is writing there; wait for it, or name another folder")


def _strangers(output: Path, record: Record, but: set[str]) -> list[str]:
    """What lies in a folder that its record does not know and that is not called as one of `but`."""
    known = {*record.names(output), *but, record.file, *record.vouching, PREVIOUS}
    return sorted(path.name for path in output.iterdir() if path.name not in known and not _is_ours(path))


def _is_ours(path: Path) -> bool:
    return path.name.startswith(UNFINISHED) and not is_owned(path)


def _is_fixed(output: Path) -> bool:
    """Whether the folder itself has to stay: others see it by its inode."""
    try:
        return os.path.ismount(output) or Path.cwd().is_relative_to(output)
    except OSError:
        return False


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _delete(path: Path) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    """Everything in the folder is on the disk, should the machine stop the moment after it is published."""
    for path in (*folder.rglob("*"), folder):
        _sync_names(path)


def _sync_names(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system may not offer it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _escaped(name: str) -> str:
    """A name as a pattern that only it fits."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _explained(error: Exception, output: Path, folder: Path) -> Exception:
    """The error as it is, or what really happened to the folder or its disk."""
    if not folder.is_dir():
        return UsageError(f"--output {output}: the folder was removed while the run went on; run again")
    if not _disk_is_full(error):
        return error
    places = {"--output": output, "the temporary folder (TMPDIR)": Path(tempfile.gettempdir())}
    full = {what: place for what, place in places.items() if shutil.disk_usage(place).free < LITTLE}
    what, place = next(iter((full or places).items()))
    return DiskFull(f"{what} {place}: the disk is full; free some space and run again")


def _disk_is_full(error: BaseException | None) -> bool:
    """Whether that is what an error comes from; toolchains wrap it in their own exceptions, or only quote it."""
    if error is None:
        return False
    found = isinstance(error, OSError) and error.errno in FULL
    return found or os.strerror(errno.ENOSPC) in str(error) or _disk_is_full(error.__cause__ or error.__context__)
