"""OpenVINO as a guest in a process that has signals of its own."""

import subprocess
import sys

from shared import ArtifactOf

# The second is opened while the first is there, and is the last to go; then comes Ctrl-C.
OPENED_AND_CLOSED = """
import gc, signal, sys
from pathlib import Path
from rexnet_export.targets.openvino.session import open_session

first = open_session(Path(sys.argv[1]))
second = open_session(Path(sys.argv[1]))
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_signal_after_models_were_closed_is_an_interrupt(artifact_of: ArtifactOf) -> None:
    path = artifact_of("openvino", "fp32", "plain").file.path
    ended = subprocess.run(
        [sys.executable, "-P", "-c", OPENED_AND_CLOSED, path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")
