"""What all test processes of a run share, and the order in which they take the test files."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from hypothesis import settings
from shared import shared
from slow_ray import skipped_where_ray_does_not_start

from rexnet_export.apps.shared import progress_lines
from rexnet_export.apps.shared.trials import ray_cluster
from rexnet_export.targets.tflite import onnx2tf

# A run that was started in the background, or with nohup, ignores these, and so would every process a test starts.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores, and threads that wait for one another burn them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ray gives its workers the lowest priority but four; beside other tests they would hardly run.
os.environ.setdefault("RAY_worker_niceness", "0")

# Where Python may not write bytecode beside the sources, as in containers, each of the hundred processes that the tests
# start would compile torch again; they keep it in pytest's cache instead.
if sys.dont_write_bytecode:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ.setdefault("PYTHONPYCACHEPREFIX", str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode"))

# Fixtures that export, convert, train or start a process with torch: many seconds where a test is run alone.
SLOW_FIXTURES = {"exported", "bundle", "release", "artifact_of", "converted", "trained", "pair"}

# A change is judged by the same examples as the one before it; `--hypothesis-profile search` looks for new ones.
settings.register_profile("repeated", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("search", deadline=None, max_examples=400)
settings.load_profile("repeated")

RUN = onnx2tf.run_onnx2tf


@pytest.fixture(scope="session", autouse=True)
def onnx2tf_runs_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """onnx2tf takes many seconds, and the same graph gives the same file: each graph is given to it once."""

    def remembered(model: onnx.ModelProto, folder: Path) -> Path:
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()

        def make(made: Path) -> None:
            made.mkdir()
            shutil.copy(RUN(model, folder), made)

        (written,) = shared(tmp_path_factory, f"onnx2tf-{digest}", make).iterdir()
        return Path(shutil.copy(written, folder))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx2tf, "run_onnx2tf", remembered)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_lines_of_progress() -> Iterator[None]:
    """What a command says must not depend on how busy the machine is; tests of those lines ask for them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LOADING_S", "FIRST_S"):
            patch.setattr(progress_lines, name, 1e9)
        yield


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that start Ray on this machine."""
    own = ray_cluster._connected

    def connected(address: str) -> object:
        with skipped_where_ray_does_not_start():
            return own(address)

    monkeypatch.setattr(ray_cluster, "_connected", connected)


@pytest.fixture
def fresh_onnx2tf(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the run itself."""
    monkeypatch.setattr(onnx2tf, "run_onnx2tf", RUN)
    onnx2tf._converted.cache_clear()


class FailuresAtOnce:
    """A run that is cut off, as CI does after its time, has said by then what failed."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter = reporter

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._reporter.write_line(f"\nfailed in {report.when}: {report.nodeid}")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if reporter := config.pluginmanager.getplugin("terminalreporter"):
        config.pluginmanager.register(FailuresAtOnce(reporter))


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: a quarter of the time tests wait, for processes, devices and browsers."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test is as slow as its fixtures. Files with the most slow tests come first: then processes end together."""
    for item in items:
        if SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
