"""Every deliberate failure of the project, each with its exit code.

A message is one line: what happened, which value, what to do next.
"""

from __future__ import annotations

import errno
from typing import ClassVar

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class ExportError(Exception):
    """Base of all deliberate failures; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 70


class GateFailed(ExportError):
    """A regression gate found a real regression."""

    exit_code = 1


class UsageError(ExportError):
    """The command line or configuration asks for something that does not exist."""

    exit_code = 2


class DiskFull(UsageError):
    """A disk that has to be written is full, which no other work on it will find otherwise."""


class Inconclusive(ExportError):
    """There is not enough evidence to decide."""

    exit_code = 3


class InvalidMeasurement(ExportError):
    """A measurement was taken under conditions that make it worthless."""

    exit_code = 4


class DeviceError(ExportError):
    """A device or the connection to it failed."""

    exit_code = 5


class BaselineError(ExportError):
    """A baseline is missing or was taken on something else."""

    exit_code = 6


class CheckpointError(ExportError):
    """A checkpoint is missing, damaged, or of another network."""

    exit_code = 10


class DataError(ExportError):
    """Images or labels are missing, unreadable, or do not fit the model."""

    exit_code = 11


class ConversionError(ExportError):
    """A graph could not be rewritten, quantized or lowered, or the result is not equivalent."""

    exit_code = 12


class ProcessEnded(ConversionError):
    """The process that had a file open crashed, or did not answer in time."""


class TargetUnavailable(ExportError):
    """A target's toolchain or runtime is not installed here."""

    exit_code = 13


def unwritable(cause: OSError, message: str) -> UsageError:
    """What cannot be written, as an error that says whether the disk is full."""
    return (DiskFull if cause.errno in FULL else UsageError)(message)


def first_line(error: BaseException) -> str:
    """What a toolchain's exception says, in one line; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
