"""The dispatcher, without processes: every piece of every task is accounted for exactly once, whatever happens."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from harness.jobs.plan import Piece, Task
from harness.jobs.state import (
    Action,
    Discard,
    Dispatch,
    PieceDone,
    Replace,
    Report,
    Stop,
    Submit,
    TaskDone,
    WorkerLost,
    WorkerReady,
)
from harness.spec import CleanSpec, DataRef, EvaluationSpec, ModelRef

DATA = DataRef(name="d", split="test", digest="d" * 64, images=500, classes=10)


def make_tasks(count: int, pieces: int) -> list[Task]:
    """Tasks of several pieces each, all different."""
    tasks = []
    for number in range(count):
        parts = tuple(
            Piece(
                spec=EvaluationSpec(
                    model=ModelRef(name="m", digest=f"{number}/{at}"), data=DATA, perturbation=CleanSpec()
                ),
                block=0,
                start=0,
                stop=10,
            )
            for at in range(pieces)
        )
        tasks.append(Task(id=number, start=0, stop=10, pieces=parts))
    return tasks


def done(worker: int, piece: Piece) -> PieceDone:
    """The event of a finished piece."""
    return PieceDone(worker=worker, evaluation=piece.spec.digest, start=piece.start)


def test_tasks_are_handed_out_in_order_and_workers_stopped_at_the_end() -> None:
    """A ready worker gets the next task; without one it is stopped."""
    (task,) = make_tasks(1, 1)
    dispatch = Dispatch(tasks=[task])
    assert dispatch.step(WorkerReady(worker=0)) == (Submit(worker=0, task=task),)
    assert dispatch.step(WorkerReady(worker=1)) == (Stop(worker=1),)
    assert not dispatch.finished
    dispatch.step(done(0, task.pieces[0]))
    assert dispatch.step(TaskDone(worker=0)) == (Stop(worker=0),)
    assert dispatch.finished


def test_a_lost_worker_costs_only_what_it_had_not_finished() -> None:
    """The retry holds the unfinished pieces alone; a second loss makes them failures."""
    (task,) = make_tasks(1, 3)
    dispatch = Dispatch(tasks=[task])
    dispatch.step(WorkerReady(worker=0))
    dispatch.step(done(0, task.pieces[0]))
    actions = dispatch.step(WorkerLost(worker=0, reason="exit code -9"))
    assert actions == [Discard(worker=0), Replace(worker=0)]
    (again,) = dispatch.step(WorkerReady(worker=0))
    assert isinstance(again, Submit)
    assert again.task.pieces == task.pieces[1:]
    actions = dispatch.step(WorkerLost(worker=0, reason="exit code -9"))
    reports = [action for action in actions if isinstance(action, Report)]
    assert [report.failure.evaluation for report in reports] == [piece.spec.digest for piece in task.pieces[1:]]
    assert all("exit code -9" in report.failure.message for report in reports)
    assert dispatch.finished


def test_workers_that_never_start_end_the_run() -> None:
    """Three false starts in a row fail everything that waits instead of starting processes for ever."""
    tasks = make_tasks(2, 2)
    dispatch = Dispatch(tasks=tasks)
    actions: Sequence[Action] = ()
    for _ in range(3):
        actions = dispatch.step(WorkerLost(worker=0, reason="exit code 1"))
    assert len([action for action in actions if isinstance(action, Report)]) == 4
    assert not any(isinstance(action, Replace) for action in actions)
    assert dispatch.finished


@given(st.data())
def test_every_piece_ends_once(data: st.DataObject) -> None:
    """Random crews, orders and losses: each piece is done or reported, never both, never twice."""
    tasks = make_tasks(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)))
    dispatch = Dispatch(tasks=tasks)
    ended: list[str] = []
    idle = set(range(data.draw(st.integers(1, 3))))
    busy: dict[int, list[Piece]] = {}
    for _ in range(200):
        if dispatch.finished:
            break
        choices = [("ready", worker) for worker in sorted(idle)]
        choices += [(kind, worker) for worker in sorted(busy) for kind in ("step", "lost")]
        kind, worker = data.draw(st.sampled_from(choices))
        actions: Sequence[Action]
        if kind == "ready":
            idle.discard(worker)
            actions = dispatch.step(WorkerReady(worker=worker))
        elif kind == "lost":
            busy.pop(worker)
            actions = dispatch.step(WorkerLost(worker=worker, reason="x"))
        elif busy[worker]:
            piece = busy[worker].pop(0)
            ended.append(piece.spec.digest)
            actions = dispatch.step(done(worker, piece))
        else:
            busy.pop(worker)
            actions = dispatch.step(TaskDone(worker=worker))
        for action in actions:
            match action:
                case Submit(worker=target, task=task):
                    busy[target] = list(task.pieces)
                case Replace(worker=target):
                    idle.add(target)
                case Report(failure=failure):
                    ended.append(failure.evaluation)
        assert idle or busy or dispatch.finished, "work is left and nobody can do it"
    assert dispatch.finished
    assert sorted(ended) == sorted(piece.spec.digest for task in tasks for piece in task.pieces)
