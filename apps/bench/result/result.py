"""Results of devices: written whole, read with suspicion, compared image by image."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rexnet_export.apps.bench.result.record import DeviceResult
from rexnet_export.pipeline.core.array_files import read_array
from rexnet_export.pipeline.core.errors import ConversionError, DeviceError, UsageError
from rexnet_export.pipeline.core.files import writing
from rexnet_export.pipeline.core.records import file_sha256
from rexnet_export.pipeline.core.untrusted import read_untrusted

MOST_BYTES = 2**26  # of a result
RESULT_FILE, DONE_FILE = "result.json", "DONE"
# A folder with something in it, or a file, is where the result should go.
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


def require_new(output: Path) -> None:
    """Refuse what is there already, or what no folder can be called."""
    with writing(output):
        if output.exists():
            raise UsageError(_exists(output))


@contextmanager
def whole_folder(output: Path) -> Iterator[Path]:
    """A folder that becomes `output` when the context ends well, and is deleted when it does not.

    Of two that end well for one `output`, the first stays and the second is refused.
    """
    require_new(output)
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, so that it can be renamed; in a private folder, so that nobody else has the same.
        private = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        partial = private / output.name
        with writing(output):
            partial.mkdir()
        yield partial
        _publish(partial, output)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _publish(partial: Path, output: Path) -> None:
    with writing(output):
        try:
            partial.rename(output)
        except OSError as error:
            if error.errno not in TAKEN:
                raise
            raise UsageError(_exists(output)) from error


def _exists(output: Path) -> str:
    return f"--output {output} exists; name a new folder"


def finish(partial: Path, result: Mapping[str, Any]) -> None:
    """Write the completed result beside its files; DONE, with every digest, comes last."""
    text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with writing(partial):
        (partial / DONE_FILE).unlink(missing_ok=True)
        (partial / RESULT_FILE).write_text(text, encoding="utf-8")
        lines = [f"{file_sha256(path)}  {path.name}\n" for path in sorted(partial.iterdir())]
        (partial / DONE_FILE).write_text("".join(lines), encoding="utf-8")


def read_result(path: Path) -> dict[str, Any]:
    """A `result.json` (or its folder's) that keeps to its schema; it may come from anywhere."""
    file = path / RESULT_FILE if path.is_dir() else path
    try:
        return DeviceResult.checked(read_untrusted(file, MOST_BYTES))
    except OSError as error:
        raise DeviceError(f"{file} cannot be read ({error}); name a result of rexnet-bench run") from error
    except ConversionError as error:
        raise DeviceError(f"{file} is no result of rexnet-bench run: {error}") from error


def agreement(
    first_folder: Path, first: Mapping[str, Any], second_folder: Path, second: Mapping[str, Any]
) -> dict[str, float | int | None]:
    """Share of images with the same top-1, flipped images, both top-1, and the ratio of medians where both are valid.

    Results of the same images may be compared; of different lengths, the images both have.
    """
    if first["accuracy"]["dataset_sha256"] != second["accuracy"]["dataset_sha256"]:
        raise UsageError("the two results are of different images; compare runs of one bundle")
    ours, theirs = predictions(first_folder, first), predictions(second_folder, second)
    n = min(len(ours), len(theirs))
    same = ours[:n] == theirs[:n]
    valid = first["validity"]["valid"] and second["validity"]["valid"]
    return {
        "n": n,
        "top1_agreement": float(same.mean()),
        "flipped_images": int((~same).sum()),
        "top1_a": first["accuracy"]["top1"],
        "top1_b": second["accuracy"]["top1"],
        "p50_ratio_b_to_a": second["latency"]["p50_ns"] / first["latency"]["p50_ns"] if valid else None,
    }


def predictions(folder: Path, result: Mapping[str, Any]) -> NDArray[np.uint16]:
    """Top-1 of every image, as many as the result says."""
    place = (folder if folder.is_dir() else folder.parent) / "predictions.npy"
    try:
        found: NDArray[np.uint16] = read_array(place, 2 * result["accuracy"]["n"])
    except (OSError, ValueError) as error:
        raise DeviceError(f"{place} cannot be read ({error}); run the bundle again") from error
    if found.dtype != np.uint16 or found.shape != (result["accuracy"]["n"],):
        raise DeviceError(f"{place} does not hold the {result['accuracy']['n']} predictions of its result; run again")
    return found
