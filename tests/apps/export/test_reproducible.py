"""Two exports with `SOURCE_DATE_EPOCH` are the same bytes, wherever, whenever and however quickly they were made."""

import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from signed_folders import key_pair
from small_export import FEW

from rexnet_export.apps.export.command import main
from rexnet_export.pipeline.core.records import file_sha256


def exported(
    home: Path, checkpoint: Path, key: Path, zone: str, threads: int, patch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """The files of one run in `home`, by name; a stray text lies among its calibration images, for a notice."""
    (home / "photos").mkdir(parents=True)
    for number in range(40):
        Image.effect_noise((40, 32), 90).point(lambda value, n=number: (value * (n + 3)) % 256).save(
            home / "photos" / f"{number}.png"
        )
    return run(home, checkpoint, key, zone, threads, patch)


def run(
    home: Path, checkpoint: Path, key: Path, zone: str, threads: int, patch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    (home / "photos" / "notes.txt").touch()
    shutil.copy(checkpoint, home / "network.safetensors")
    patch.setenv("TZ", zone)
    time.tzset()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        given = ("--checkpoint", str(home / "network.safetensors"), "--calibration-data", str(home / "photos"))
        flags = ("--target", "ort", "--target", "gpu", "--quiet", "--output", str(home / f"out-{threads}"))
        assert main([*given, *FEW, *flags, "--sign", str(key)]) == 0
    finally:
        torch.set_num_threads(before)
        patch.undo()
        time.tzset()
    return {path.name: path.read_bytes() for path in (home / f"out-{threads}").iterdir()}


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    secret, public = key_pair(tmp_path, "key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        first = exported(tmp_path / "one", checkpoint, secret, "UTC", 1, patch)
    (tmp_path / "two" / "deeper").mkdir(parents=True)
    shutil.copytree(tmp_path / "one" / "photos", tmp_path / "two" / "deeper" / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        second = run(tmp_path / "two" / "deeper", checkpoint, secret, "Asia/Kathmandu", 2, patch)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    report = json.loads(first["report.json"])
    assert report["created"] == "2023-11-14T22:13:20+00:00"
    assert "SOURCE_DATE_EPOCH" in report["seconds"]["not_measured"]
    assert "SOURCE_DATE_EPOCH" in report["targets"]["ort"]["latency"]["not_measured"]
    assert any("photos: 1 file is no image" in notice for notice in report["notices"])
    options = json.loads(first["manifest.json"])["inputs"]["options"]
    assert (options["checkpoint"], options["calibration_data"]) == ("network.safetensors", "photos")
    assert "output" not in options
    stated = json.loads(first["provenance.intoto.json"])
    build = stated["predicate"]["buildDefinition"]
    materials = {part["name"]: part["digest"]["sha256"] for part in build["resolvedDependencies"] if "name" in part}
    assert materials == {
        "network.safetensors": file_sha256(checkpoint),
        "calibration images": report["calibration"]["images_sha256"],
        "evaluation images": report["reference"]["images_sha256"],
    }
    assert build["externalParameters"] == options
    output = tmp_path / "one" / "out-1"
    believe_only_what_was_signed(output, public, capfd)
    rebuild_what_was_recorded(output, checkpoint, tmp_path / "two" / "deeper" / "photos", capfd)


def believe_only_what_was_signed(output: Path, public: Path, capfd: pytest.CaptureFixture[str]) -> None:
    asked = ["verify", str(output), "--quiet", "--trusted", str(public)]
    assert main(asked) == 0
    kept = (output / "predictions.npz").read_bytes()
    (output / "predictions.npz").write_bytes(b"")
    assert main(asked) == 12
    assert "'predictions.npz' is not what was stated" in capfd.readouterr().err
    (output / "predictions.npz").write_bytes(kept)


def rebuild_what_was_recorded(output: Path, checkpoint: Path, photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Elsewhere, from the same checkpoint and photos: all files again, and others after one flipped option."""
    again = ["verify", str(output), "--rebuild", str(checkpoint.parent / "network.safetensors")]
    shutil.copy(checkpoint, again[-1])
    again += ["--calibration-data", str(photos)]
    assert main(again) == 0
    files = len(list(output.iterdir())) - 1  # the signature needs the key
    assert f"made again, {files} of {files} files are the same, byte by byte" in capfd.readouterr().out
    (output / "provenance.intoto.json").unlink()
    manifest = output / "manifest.json"
    assert '"seed": 0' in manifest.read_text()
    manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 1'))
    assert main([*again, "--quiet"]) == 12
    said = capfd.readouterr().err
    assert "rexnet_050-int8.ort" in said
    assert "qparams.json calibration.seed: 0 then, 1 now" in said
