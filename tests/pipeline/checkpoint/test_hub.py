"""Checkpoints fetched from a hub that the tests themselves serve on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from rexnet_export.pipeline.checkpoint.hub import fetch
from rexnet_export.pipeline.checkpoint.load import load
from rexnet_export.pipeline.core import extras
from rexnet_export.pipeline.core.errors import CheckpointError, TargetUnavailable
from rexnet_export.pipeline.core.records import Preprocess
from rexnet_export.pipeline.model.architecture import architecture
from rexnet_export.pipeline.model.rexnet import ReXNet

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TIMM_CONFIG = {
    "architecture": "rexnet_100",
    "num_classes": 1000,
    "pretrained_cfg": {
        "tag": "nav_in1k",
        "input_size": [3, 288, 288],
        "crop_pct": 0.95,
        "crop_mode": "center",
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    },
}
TIMM_PREPROCESS = Preprocess(
    size=288, crop_ratio=0.95, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a dictionary of files; some answer with a refusal instead."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        self.server.asked.append(f"{self.command} {self.path}")
        owner, name, _, revision, file = unquote(self.path).strip("/").split("/", 4)
        files = self.server.repositories.get(f"{owner}/{name}")
        if refusal := self.server.refusals.get(f"{owner}/{name}"):
            return self._refuse(*refusal)
        if files is None:
            return self._refuse(401, "RepoNotFound")
        if revision not in ("main", "v2", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if file not in files:
            return self._refuse(404, "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(files[file]).hexdigest()}"')
        self.send_header("Content-Length", str(len(files[file])))
        self.end_headers()
        return files[file]

    def _refuse(self, status: int, code: str) -> bytes:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return b""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with timm's layout; huggingface_hub reads its environment at import, hence the constants."""
    hub = Hub()
    hub.repositories["timm/tiny"] = {"model.safetensors": weights(), "config.json": json.dumps(TIMM_CONFIG).encode()}
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield hub
    hub.shutdown()
    hub.server_close()
    thread.join()


@cache
def weights() -> bytes:
    return save(ReXNet(architecture(width=0.1, classes=4)).state_dict(), {"format": "pt"})


def refusal(reference: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        fetch(reference)
    message = str(caught.value)
    assert message.isprintable()
    assert reference in message
    return message


def test_weights_and_their_preprocessing_arrive(server: Hub) -> None:
    fetched = fetch("hf-hub:timm/tiny")
    assert fetched.path.read_bytes() == weights()
    loaded = load("hf-hub:timm/tiny")
    assert (loaded.preprocess, loaded.labels) == (TIMM_PREPROCESS, None)
    assert set(loaded.stated.preprocess.sources.values()) == {"config.json"}


def test_a_reference_loads_like_a_file(server: Hub) -> None:
    config = TIMM_CONFIG | {"label_names": ["a", "b", "c", "d"]}
    server.repositories["timm/tiny"]["config.json"] = json.dumps(config).encode()
    loaded = load("hf-hub:timm/tiny@v2")
    assert loaded.network.spec == architecture(width=0.1, classes=4)
    assert (loaded.labels, loaded.preprocess) == (("a", "b", "c", "d"), TIMM_PREPROCESS)
    assert loaded.metadata["source"] == "hf-hub:timm/tiny@v2"
    assert loaded.file.sha256 == hashlib.sha256(weights()).hexdigest()


def test_labels_must_be_one_per_class(server: Hub) -> None:
    server.repositories["timm/tiny"]["config.json"] = json.dumps({"label_names": ["a", "b"]}).encode()
    with pytest.raises(CheckpointError, match="names 2 labels for a classifier of 4 classes"):
        load("hf-hub:timm/tiny")


def test_safetensors_are_preferred_and_pickles_are_the_second_choice(server: Hub) -> None:
    repository = server.repositories["timm/tiny"]
    repository["pytorch_model.bin"] = b"pickle"
    assert fetch("hf-hub:timm/tiny").path.name == "model.safetensors"
    assert not any(asked.startswith("GET") and "pytorch_model.bin" in asked for asked in server.asked)
    server.repositories["timm/old"] = {"pytorch_model.bin": b"pickle"}
    fetched = fetch("hf-hub:timm/old")
    assert (fetched.path.name, fetched.config) == ("pytorch_model.bin", None)


def test_what_the_hub_declines_is_said_in_one_line(server: Hub) -> None:
    server.repositories["timm/bare"] = {"README.md": b""}
    server.refusals |= {"timm/gated": (403, "GatedRepo"), "timm/locked": (403, "")}
    assert "no such repository, or no access" in refusal("hf-hub:timm/absent")
    assert "has no model.safetensors or pytorch_model.bin" in refusal("hf-hub:timm/bare")
    assert "no such revision" in refusal("hf-hub:timm/tiny@v3")
    assert "is gated" in refusal("hf-hub:timm/gated")
    assert "refused access (HTTP 403)" in refusal("hf-hub:timm/locked")


@pytest.mark.parametrize("name", ["", "timm", "a/b/c", "../../etc/passwd", "a/b@", "a/b c", "a/..--b"])
def test_malformed_references(server: Hub, name: str) -> None:
    assert "not " in refusal(f"hf-hub:{name}")
    assert not server.asked


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (b"\xff{", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (json.dumps({"pretrained_cfg": {"input_size": [3, 224, 0]}}).encode(), r"has size [224, 0], not 1 to 4096"),
        (json.dumps({"pretrained_cfg": {"input_size": "224"}}).encode(), "has size '224'"),
        (json.dumps({"input_size": [3, 64, 64], "crop_mode": "stretch"}).encode(), "crop_mode 'stretch'"),
        (json.dumps({"input_size": [3, 64, 64], "crop_pct": 7}).encode(), "crop_ratio 7"),
        (json.dumps({"input_size": [3, 64, 64], "interpolation": "cubic"}).encode(), "interpolation 'cubic'"),
        (json.dumps({"label_names": "abcd"}).encode(), "not a list of strings"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(server: Hub, config: bytes, complaint: str) -> None:
    server.repositories["timm/tiny"]["config.json"] = config
    with pytest.raises(CheckpointError) as caught:
        load("hf-hub:timm/tiny")
    assert complaint in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("config", "preprocess", "labels"),
    [
        ({"input_size": [3, 64, 64]}, Preprocess(size=64), None),
        ({"labels": ["x", "y", "z", "w"]}, None, ("x", "y", "z", "w")),
        ({"label_names": {"1": "y", "0": "x", "3": "w", "2": "z"}}, None, ("x", "y", "z", "w")),
        ({"label_names": {"1": "y", "5": "x"}}, None, None),
        ({"id2label": {"1": "y", "0": "x", "3": "w", "2": "z"}}, None, ("x", "y", "z", "w")),
        ({"id2label": {str(index): f"LABEL_{index}" for index in range(4)}}, None, None),
    ],
)
def test_older_and_shorter_configs(
    server: Hub, config: object, preprocess: Preprocess | None, labels: tuple[str, ...] | None
) -> None:
    server.repositories["timm/tiny"]["config.json"] = json.dumps(config).encode()
    loaded = load("hf-hub:timm/tiny")
    assert (loaded.preprocess, loaded.labels) == (preprocess, labels)


def test_an_unreachable_hub_is_told_at_once_and_the_cache_still_serves(
    server: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fetched = fetch("hf-hub:timm/tiny")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    assert fetch("hf-hub:timm/tiny") == fetched
    start = time.perf_counter()
    message = refusal("hf-hub:timm/other")
    assert time.perf_counter() - start < 5
    assert "not in the local cache" in message
    assert "Connection refused" in message
    assert capfd.readouterr().err == ""


def test_offline_mode_uses_the_cache_and_asks_nobody(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = fetch("hf-hub:timm/tiny")
    server.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("hf-hub:timm/tiny") == fetched
    assert "not in the local cache" in refusal("hf-hub:timm/other")
    assert not server.asked


def test_the_endpoint_and_cache_of_the_environment_are_used_quietly(server: Hub, tmp_path: Path) -> None:
    code = "import sys; from rexnet_export.pipeline.checkpoint.hub import fetch; print(fetch(sys.argv[1]).path)"
    home = str(tmp_path / "home")
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code, "hf-hub:timm/tiny"],
        env={**os.environ, "HF_HOME": home, "HF_ENDPOINT": server.address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(home)
    assert ran.stdout.endswith("model.safetensors\n")


def test_a_missing_library_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(TargetUnavailable, match=r"timm/tiny needs huggingface_hub; run: .*(?:\[|--extra )hub\b"):
        fetch("hf-hub:timm/tiny")


def test_a_download_cut_short_is_one_error(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device\nsecond line")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", cut)
    assert "model.safetensors" in (message := refusal("hf-hub:timm/tiny"))
    assert "No space left on device" in message


def test_timm_weights_without_a_config_still_load(server: Hub) -> None:
    del server.repositories["timm/tiny"]["config.json"]
    loaded = load("hf-hub:timm/tiny")
    assert (loaded.labels, loaded.preprocess, loaded.metadata["keys"]) == (None, None, "timm")
    with torch.no_grad():
        assert loaded.network(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
