"""Executors on this machine: in this process, or in several processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, cast

from harness.errors import InvalidArgument
from harness.jobs.context import Context
from harness.jobs.executors.base import Executor
from harness.jobs.plan import Task
from harness.jobs.state import (
    Discard,
    Dispatch,
    Event,
    PieceDone,
    Replace,
    Report,
    Stop,
    Submit,
    TaskDone,
    WorkerLost,
    WorkerReady,
)
from harness.outcome import BlockOutcome, Failure


class SerialExecutor:
    """One task after the other in this process."""

    name = "serial"
    workers = 1

    def run(self, tasks: Sequence[Task], context: Context) -> Generator[BlockOutcome | Failure]:
        """Run the tasks in order."""
        from harness.jobs.kernel import Kernel

        kernel = Kernel(context)
        for task in tasks:
            yield from kernel.run(task)


class ProcessExecutor:
    """Tasks in `workers` spawned processes; a process that dies costs its task one retry, not the run.

    Args:
        workers: number of processes, at least 1.
    """

    name = "processes"

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise InvalidArgument("workers", workers, "at least 1")
        self.workers = workers

    def run(self, tasks: Sequence[Task], context: Context) -> Generator[BlockOutcome | Failure]:
        """Run the tasks, handing each free process the next one."""
        dispatch = Dispatch(tasks=tasks)
        crew = {number: _Worker(context) for number in range(min(self.workers, len(tasks)))}
        try:
            while not dispatch.finished:
                for number, message in _messages(crew):
                    if isinstance(message, (BlockOutcome, Failure)):
                        yield message
                    for action in dispatch.step(_event(number, message)):
                        if isinstance(action, Report):
                            yield action.failure
                        else:
                            _perform(action, crew, context)
        finally:
            for worker in crew.values():
                worker.kill()


def choose_executor(workers: int | None) -> Executor:
    """Serial for one worker, processes for more; by default a process for each processor this one may use."""
    count = workers if workers is not None else len(os.sched_getaffinity(0))
    if count < 1:
        raise InvalidArgument("workers", count, "at least 1")
    return SerialExecutor() if count == 1 else ProcessExecutor(count)


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, context: Context) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process: SpawnProcess = spawn.Process(target=_work, args=(theirs, context), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pipe(self) -> Connection[Any, Any]:
        """Readable when there are messages, or when the process has ended."""
        return self._pipe

    def receive(self) -> Iterator[object]:
        """Messages that are there, and `_Lost` when the process has ended."""
        try:
            while not self._pipe.closed and self._pipe.poll():  # it may be stopped while its messages are worked on
                yield self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            yield _Lost(f"exit code {self._process.exitcode}")

    def send(self, task: Task) -> None:
        """Hand over a task; a process that has just died is noticed at the next `receive`."""
        try:
            self._pipe.send(task)
        except (BrokenPipeError, ConnectionResetError):
            return

    def stop(self) -> None:
        """Let the process end by itself."""
        self.send(cast("Task", None))
        self._process.join(5)
        self.kill()

    def kill(self) -> None:
        """End the process now."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


class _Lost:
    def __init__(self, reason: str) -> None:
        self.reason = reason


def _messages(crew: Mapping[int, _Worker]) -> Iterator[tuple[int, object]]:
    """Messages of all workers that have some; waits for the first."""
    owners = {worker.pipe: (number, worker) for number, worker in crew.items()}
    for pipe in wait(list(owners)):
        number, worker = owners[cast("Connection[Any, Any]", pipe)]
        for message in worker.receive():
            yield number, message


def _event(worker: int, message: object) -> Event:
    match message:
        case BlockOutcome(evaluation=evaluation, start=start) | Failure(evaluation=evaluation, start=start):
            return PieceDone(worker=worker, evaluation=evaluation, start=start)
        case _Lost(reason=reason):
            return WorkerLost(worker=worker, reason=reason)
        case "ready":
            return WorkerReady(worker=worker)
        case "done":
            return TaskDone(worker=worker)
    raise TypeError(f"unexpected message from a worker: {message!r}")


def _perform(action: Submit | Stop | Discard | Replace, crew: dict[int, _Worker], context: Context) -> None:
    match action:
        case Submit(worker=worker, task=task):
            crew[worker].send(task)
        case Stop(worker=worker):
            crew.pop(worker).stop()
        case Discard(worker=worker):
            crew.pop(worker).kill()
        case Replace(worker=worker):
            crew[worker] = _Worker(context)


def _work(pipe: Connection[Any, Any], context: Context) -> None:
    """Main function of a worker process: tasks in, outcomes out, until the parent says stop or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business; it ends its workers
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    from harness.jobs.kernel import Kernel

    kernel = Kernel(context)
    try:
        pipe.send("ready")
        while (task := pipe.recv()) is not None:
            for outcome in kernel.run(task):
                pipe.send(outcome)
            pipe.send("done")
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return


def _follow(sentinel: int) -> None:
    """End this process when the parent's ends, however hard (kill -9): nobody would read its outcomes."""
    wait([sentinel])
    os._exit(1)
