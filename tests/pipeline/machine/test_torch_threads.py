"""torch's threads are the process's, and there are none where nothing has loaded torch."""

import subprocess
import sys

import torch

from rexnet_export.pipeline.machine.torch_threads import thread_count, torch_threads


def test_the_number_is_set_for_a_while() -> None:
    before = torch.get_num_threads()
    assert thread_count() == before
    with torch_threads(before + 1) as there_were:
        assert (there_were, torch.get_num_threads(), thread_count()) == (before, before + 1, before + 1)
    assert torch.get_num_threads() == before


def test_who_does_not_use_torch_does_not_load_it() -> None:
    code = (
        "import sys\n"
        "from rexnet_export.pipeline.machine.torch_threads import thread_count, torch_threads\n"
        "with torch_threads(3) as there_were: assert (there_were, thread_count()) == (1, 1)\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
