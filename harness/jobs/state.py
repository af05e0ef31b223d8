"""Decisions of an executor with several workers, kept apart from processes and pipes so that they can be tested bare.

`Dispatch.step` takes an event and returns the actions to perform. The states of a task: waiting, running (with its
unfinished pieces), done, failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from harness.jobs.plan import Piece, Task
from harness.outcome import Failure

MAX_ATTEMPTS = 2
"""A task that took its worker down is tried once more, on a fresh worker; then it has failed."""

MAX_FALSE_STARTS = 3
"""Workers that end before they have taken a task; after that many in a row nothing more is started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReady:
    """A worker can take a task."""

    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceDone:
    """A worker has finished (or failed) a piece of its task."""

    worker: int
    evaluation: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDone:
    """A worker has gone through its task and can take another."""

    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A worker's process has ended by itself."""

    worker: int
    reason: str


Event: TypeAlias = WorkerReady | PieceDone | TaskDone | WorkerLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Send a task to a worker."""

    worker: int
    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Clear away what is left of a lost worker."""

    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Replace:
    """Start a fresh worker in the place of a lost one."""

    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Tell a worker that there is nothing more to do."""

    worker: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Hand a failure to the runner."""

    failure: Failure


Action: TypeAlias = Submit | Discard | Replace | Stop | Report


@dataclass(slots=True)
class _Running:
    task: Task
    attempt: int
    left: list[Piece]


@dataclass(slots=True)
class Dispatch:
    """Tasks in order, handed to workers as they become free."""

    tasks: Iterable[Task]
    _waiting: deque[tuple[Task, int]] = field(init=False)
    _running: dict[int, _Running] = field(init=False, default_factory=dict)
    _false_starts: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._waiting = deque((task, 1) for task in self.tasks)

    @property
    def finished(self) -> bool:
        """True when nothing waits and nothing runs."""
        return not self._waiting and not self._running

    def step(self, event: Event) -> Sequence[Action]:
        """Take an event in and say what to do."""
        match event:
            case WorkerReady(worker=worker):
                return self._give(worker)
            case PieceDone(worker=worker, evaluation=evaluation, start=start):
                running = self._running[worker]
                running.left = [
                    piece for piece in running.left if (piece.spec.digest, piece.start) != (evaluation, start)
                ]
                return ()
            case TaskDone(worker=worker):
                del self._running[worker]
                return self._give(worker)
            case WorkerLost(worker=worker, reason=reason):
                return self._lost(worker, reason)

    def _give(self, worker: int) -> Sequence[Action]:
        if not self._waiting:
            return (Stop(worker=worker),)
        self._false_starts = 0
        task, attempt = self._waiting.popleft()
        self._running[worker] = _Running(task=task, attempt=attempt, left=list(task.pieces))
        return (Submit(worker=worker, task=task),)

    def _lost(self, worker: int, reason: str) -> Sequence[Action]:
        actions: list[Action] = [Discard(worker=worker)]
        running = self._running.pop(worker, None)
        if running is None:
            self._false_starts += 1
        elif running.left and running.attempt < MAX_ATTEMPTS:
            self._waiting.appendleft((_rest(running), running.attempt + 1))
        else:
            text = f"the worker process ended while it worked on this ({reason}), {MAX_ATTEMPTS} times"
            actions += [Report(failure=_lost_piece(piece, text)) for piece in running.left]
        if self._false_starts >= MAX_FALSE_STARTS:
            text = f"no worker process could be started ({reason})"
            actions += [Report(failure=_lost_piece(piece, text)) for task, _ in self._waiting for piece in task.pieces]
            self._waiting.clear()
        if self._waiting:
            actions.append(Replace(worker=worker))
        return actions


def _rest(running: _Running) -> Task:
    """What a lost worker had not finished."""
    left = tuple(running.left)
    return replace(
        running.task,
        start=min(piece.start for piece in left),
        stop=max(piece.stop for piece in left),
        pieces=left,
    )


def _lost_piece(piece: Piece, message: str) -> Failure:
    return Failure(
        evaluation=piece.spec.digest,
        block=piece.block,
        start=piece.start,
        stop=piece.stop,
        message=message,
        traceback="",
    )
