"""Bars of tqdm for `rexnet_export.export(progress=...)`: in a terminal, and in notebooks."""

from __future__ import annotations

from typing import Never

from tqdm.auto import tqdm

from rexnet_export.pipeline.core.progress import Step


class TqdmBars:
    """Shows one bar a stage; the one before is closed when the next begins, or all of it is done."""

    def __init__(self) -> None:
        self._bar: tqdm[Never] | None = None
        self._stage = ""

    def __call__(self, step: Step) -> None:
        """Show a step."""
        if not step.stage:
            tqdm.write(step.note)
            return
        bar = self._of(step)
        bar.set_postfix_str(step.note, refresh=False)
        bar.update(step.done - bar.n)
        if step.done >= step.total:
            self._close()

    def _of(self, step: Step) -> tqdm[Never]:
        """The stage's bar: a new one where another stage had the last, or the same is run again."""
        if self._bar is not None and step.stage == self._stage and step.done >= self._bar.n:
            return self._bar
        self._close()
        bar: tqdm[Never] = tqdm(desc=step.stage, total=step.total, unit=f" {step.unit}")
        self._bar, self._stage = bar, step.stage
        return bar

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
