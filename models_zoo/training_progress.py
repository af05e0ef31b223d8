"""What a training run says about itself while it runs, and plain lines of it for terminals that are none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

LINE_SECONDS = 60.0
"""Inside an epoch a line is written at most this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training run stands after an epoch."""

    epoch: int
    """From 1."""
    epochs: int
    loss: float
    """Mean objective over the epoch's training images."""
    accuracy: float
    """Share of right answers on the clean validation images."""
    objective: float
    """The recipe's objective on the validation images; the epoch with the lowest is kept."""
    eta_seconds: float
    rate: float = 0.0
    """Learning rate of the epoch's last step."""
    seconds: float = 0.0
    """Duration of the epoch, validation included."""
    extras: tuple[tuple[str, float], ...] = ()
    """(name, mean over the epoch's steps) of what the recipe noted, sorted."""
    restored: bool = False
    """Whether the epoch was run before an interruption and is only told again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Where a training run stands inside an epoch."""

    epoch: int
    epochs: int
    step: int
    """Steps done in this epoch."""
    steps: int
    """Steps of an epoch."""
    eta_seconds: float
    """To the end of training, at the pace since this process began."""


class LineWatch:
    """A line for each epoch, and one a minute inside long epochs; for logs, where a progress bar would be noise.

    Args:
        stream: written to, and flushed after each line.
        clock: seconds; the monotonic clock by default.
    """

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last = clock()
        self._restored = 0

    def step(self, step: Step) -> None:
        """Say where the epoch stands, if nothing was said for a minute, and once where an interrupted run goes on."""
        if self._restored:
            self._line(f"going on after epoch {self._restored} of {step.epochs}")
            self._restored = 0
        if self._clock() - self._last >= LINE_SECONDS and step.step < step.steps:
            self._line(
                f"epoch {step.epoch}/{step.epochs}: step {step.step} of {step.steps}, {duration(step.eta_seconds)} left"
            )

    def epoch(self, progress: Progress) -> None:
        """Say how an epoch ended. The epochs before an interruption are only counted."""
        if progress.restored:
            self._restored = progress.epoch
        else:
            extras = "".join(f", {name} {value:.4f}" for name, value in progress.extras)
            self._line(
                f"epoch {progress.epoch}/{progress.epochs}: loss {progress.loss:.4f}{extras}, validation objective "
                f"{progress.objective:.4f}, validation accuracy {progress.accuracy:.4f}, "
                f"{duration(progress.eta_seconds)} left"
            )

    def _line(self, text: str) -> None:
        self._last = self._clock()
        self._stream.write(text + "\n")
        self._stream.flush()


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 1:02:03."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
