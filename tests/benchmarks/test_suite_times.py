"""What the tests cost: children count while they live and after, once; and files are summed up."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import suite_times

BURN = "import time\nwhile time.process_time() < 0.4: pass\nprint(flush=True)\ninput()"


def test_children_count_while_they_live_and_after() -> None:
    before = suite_times.spent()
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        own = time.process_time()
        alive = suite_times.spent() - before
        assert 0.35 < alive < 5
        child.communicate(b"\n")
    ended = suite_times.spent() - before - (time.process_time() - own)
    assert abs(ended - alive) < 0.3


def test_both_runs_stand_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("1.50\ttests/a.py::one\n2.00\ttests/a.py::two[x::y]\n")
    (tmp_path / "b.tsv").write_text("0.25\ttests/a.py::one\n4.00\ttests/b.py::new\n")
    before, after = (suite_times.read(tmp_path / name) for name in ("a.tsv", "b.tsv"))
    assert suite_times.by_file(before) == {"tests/a.py": 3.5}
    lines = suite_times.table(before, after, most=1).splitlines()
    assert lines[2:] == ["| - | 4.0 | `b.py::new` |", "| 2.0 | - | `a.py::two[x::y]` |", "| 4 | 4 | all 2, 2 |"]
    assert isinstance(before, Counter)
