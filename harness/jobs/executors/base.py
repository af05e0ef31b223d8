"""The contract of executors."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

from harness.jobs.context import Context
from harness.jobs.plan import Task
from harness.outcome import BlockOutcome, Failure


class Executor(Protocol):
    """Runs tasks somewhere and hands back outcomes as they finish, in any order.

    Every piece of every task comes back exactly once, as a `BlockOutcome` or as a `Failure`. Closing the generator
    early stops the work. An executor never touches the store.
    """

    name: str
    workers: int

    def run(self, tasks: Sequence[Task], context: Context) -> Generator[BlockOutcome | Failure]:
        """Run the tasks, roughly in order."""
        ...
