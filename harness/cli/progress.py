"""Progress of a run with the time that is left, on standard error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from harness.cli.output import console, say
from harness.outcome import Failure

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from harness.jobs.plan import Plan
    from harness.outcome import BlockOutcome
    from harness.spec import EvaluationSpec

LINE_EVERY_S = 15.0
"""Without a terminal (cron, CI) a plain line this often."""


class RunProgress:
    """A bar in a terminal, a plain line now and then elsewhere; nothing when there is nothing to do."""

    def __init__(self) -> None:
        self._bar: RichProgress | None = None
        self._weights: dict[tuple[str, int], float] = {}
        self._total = 1.0
        self._done = 0.0
        self._started = self._shown = time.monotonic()

    def planned(self, plan: Plan) -> None:
        """Begin."""
        say(
            f"{plan.evaluations} evaluations, {plan.wanted} verdicts: {plan.wanted - plan.missing} in the store, "
            f"{plan.missing} to compute"
        )
        for line in plan.skipped:
            say(f"left out by the limit: {line}")
        if not plan.tasks:
            return
        for task, cost in zip(plan.tasks, plan.costs, strict=True):
            for piece in task.pieces:
                self._weights[piece.spec.digest, piece.start] = cost.weight / len(task.pieces)
        self._total = sum(self._weights.values())
        self._started = self._shown = time.monotonic()
        err = console(stderr=True)
        if err.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.percentage:>3.0f} %"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("left:"),
                TimeRemainingColumn(elapsed_when_finished=False),
                TextColumn("{task.description}", markup=False),
                console=err,
                speed_estimate_period=120,
                transient=True,
            )
            self._bar.add_task("starting", total=self._total)
            self._bar.start()

    def advanced(self, spec: EvaluationSpec, outcome: BlockOutcome | Failure) -> None:
        """One piece more."""
        self._done += self._weights.pop((outcome.evaluation, outcome.start), 0.0)
        label = f"{spec.model.name}: {spec.perturbation.label}"
        if isinstance(outcome, Failure):
            say(f"failed: {label}: {outcome.message}")
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, description=label)
        elif time.monotonic() - self._shown > LINE_EVERY_S:
            self._shown = time.monotonic()
            elapsed = self._shown - self._started
            left = elapsed * (self._total - self._done) / max(self._done, 1e-9)
            say(f"{100 * self._done / self._total:3.0f} %, {elapsed:.0f} s, about {left:.0f} s left: {label}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class CountProgress:
    """Images done of all, with the time that is left: a bar in a terminal, a plain line now and then elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: RichProgress | None = None
        self._started = self._shown = time.monotonic()

    def __enter__(self) -> Self:
        err = console(stderr=True)
        if err.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = MofNCompleteColumn(), BarColumn(), TextColumn("left:"), TimeRemainingColumn()
            self._bar = Progress(*columns, console=err, speed_estimate_period=120, transient=True)
            self._bar.add_task(self._what, total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` images are finished."""
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        elif time.monotonic() - self._shown > LINE_EVERY_S:
            self._shown = time.monotonic()
            elapsed = self._shown - self._started
            left = elapsed * (total - done) / done
            say(f"{done} of {total} images, {elapsed:.0f} s, about {left:.0f} s left: {self._what}")
