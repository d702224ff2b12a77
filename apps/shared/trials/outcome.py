"""How a trial may end other than with its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rexnet_export.pipeline.core import errors
from rexnet_export.pipeline.core.errors import DiskFull, ExportError
from rexnet_export.pipeline.core.records import Count, Text


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Why there is no result, and the exit code that a command of its own would have ended with."""

    reason: Text
    exit_code: Count

    def error(self, what_to_do: str | None = None) -> ExportError:
        """The same as an error of the kind that it was; its reason may say already what to do."""
        kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ExportError))
        kind = next((kind for kind in kinds if kind.exit_code == self.exit_code), ExportError)
        return kind(self.reason if what_to_do is None else f"{self.reason}: {what_to_do}")


class OutOfDisk(Failed):
    """There is no room for its result, and none for any other's."""

    def error(self, what_to_do: str | None = None) -> ExportError:
        """The same as the error that it was."""
        return DiskFull(str(super().error(what_to_do)))


def attempted[**Given, Result](
    run: Callable[Given, Result], *given: Given.args, **named: Given.kwargs
) -> Result | Failed:
    """What `run` gives, or why it gives nothing; only what ends the whole process gets out of here."""
    try:
        return run(*given, **named)
    except DiskFull as error:
        return OutOfDisk(reason=str(error), exit_code=error.exit_code)
    except ExportError as error:
        return Failed(reason=str(error), exit_code=error.exit_code)
    except MemoryError:
        return Failed(reason="there is not enough memory for it", exit_code=ExportError.exit_code)
    except Exception as error:  # noqa: BLE001 - one trial's fault must not end the others
        return Failed(reason=f"unexpected {error!r}", exit_code=ExportError.exit_code)
