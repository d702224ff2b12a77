"""A program in place of this one, with a bound on its memory; started by `child.command`, it ends with the parent.

`bounded BYTES PROGRAM ARGUMENTS...`: what makes a process end with its parent outlives the change of program.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> None:
    """Become the program."""
    most, program, *arguments = argv
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = int(most) if hard == resource.RLIM_INFINITY else min(int(most), hard)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    os.execv(program, [program, *arguments])  # noqa: S606 - no shell, and a path of ours


if __name__ == "__main__":
    main(sys.argv[1:])
