"""coremltools alone: no framework that it could convert from is imported or used, and all can be imported later."""

import subprocess
import sys

CODE = """
import json, sys
sys.modules["sklearn"] = json  # as if it had been imported before
from rexnet_export.targets.coreml.toolchain import FRONT_ENDS, import_alone
import_alone()
import coremltools.converters.mil.frontend.milproto
assert [name for name in FRONT_ENDS if name in sys.modules] == ["sklearn"]
assert not coremltools._deps._HAS_SKLEARN
import torch
"""


def test_no_framework_is_imported_or_out_of_reach() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
