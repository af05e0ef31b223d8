"""The runner end to end on a tiny benchmark: promise A, resume, kill -9, failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.benchmarks import Benchmark
from harness.data import open_dataset
from harness.errors import InvalidArgument
from harness.jobs.context import Context, ModelSource, Settings, find_models
from harness.jobs.executors.base import Executor
from harness.jobs.executors.local import ProcessExecutor, SerialExecutor
from harness.jobs.plan import Task
from harness.jobs.runner import Job, run_job
from harness.outcome import BlockOutcome, Failure
from harness.storage import open_store
from harness.storage.store import Store
from tests.harness.jobs.conftest import MODELS, TINY, board_state, limited, outcome_state, stored_verdicts

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[tuple[object, ...]], dict[str, bytes]]:
    """Board and outcomes of an uninterrupted serial run."""
    from harness.benchmarks import parse_benchmark

    store = open_store(str(tmp_path_factory.mktemp("expected") / "results.db"))
    job = Job(benchmark=parse_benchmark(TINY), models=find_models(store, MODELS), data=open_dataset("digits"))
    report = run_job(store, job, SerialExecutor())
    assert not report.failures
    assert report.computed == report.plan.missing == 2 * (5 * 60 + 140 + 60)
    state = board_state(store), outcome_state(store, job)
    store.close()
    return state


def check(store: Store, job: Job, expected: tuple[list[tuple[object, ...]], dict[str, bytes]]) -> None:
    """The store's rows and verdicts are those of the uninterrupted run, bit by bit."""
    assert outcome_state(store, job) == expected[1]
    assert board_state(store) == expected[0]


def test_a_second_run_computes_nothing(
    store: Store, job: Job, expected: tuple[list[tuple[object, ...]], dict[str, bytes]]
) -> None:
    """What is in the store is never computed again."""
    run_job(store, job, SerialExecutor())
    again = run_job(store, job, SerialExecutor())
    assert again.computed == 0
    assert again.plan.tasks == ()
    check(store, job, expected)


@pytest.mark.parametrize("batch_size", [1, 17, 256])
def test_outcomes_do_not_depend_on_the_batch_size(
    store: Store, job: Job, batch_size: int, expected: tuple[list[tuple[object, ...]], dict[str, bytes]]
) -> None:
    """Promise A: bit-identical verdicts, margins and steps at any requested batch size."""
    run_job(store, job, SerialExecutor(), settings=Settings(batch_size=batch_size))
    check(store, job, expected)


def test_outcomes_do_not_depend_on_workers_or_order(
    store: Store, job: Job, expected: tuple[list[tuple[object, ...]], dict[str, bytes]]
) -> None:
    """Promise A: three processes give what one gives."""
    run_job(store, job, ProcessExecutor(3))
    check(store, job, expected)


def test_outcomes_do_not_depend_on_the_path(
    store: Store, job: Job, expected: tuple[list[tuple[object, ...]], dict[str, bytes]]
) -> None:
    """Promise A: one model after the other, from 17 images to 50 to all, ends at the same bits; nothing runs twice."""
    first, second = (replace(job, models=(model,)) for model in job.models)
    done = 0
    for part in (limited(second, 17), limited(first, 50), limited(job, 50), job):
        done += run_job(store, part, SerialExecutor()).computed
    # measures are made for each range that is asked for: 17, 50 and 60 images
    assert done == 2 * (5 * 60 + 140) + (17 + 50 + 60) + (50 + 60)
    check(store, job, expected)


class Stopping:
    """A serial executor that stops in the middle, as Ctrl-C would."""

    name = "stopping"
    workers = 1

    def __init__(self, after: int) -> None:
        self.after = after

    def run(self, tasks: Sequence[Task], context: Context) -> Generator[BlockOutcome | Failure, None, None]:
        """The first outcomes, then an interrupt."""
        for number, outcome in enumerate(SerialExecutor().run(tasks, context)):
            if number == self.after:
                raise KeyboardInterrupt
            yield outcome


def test_an_interrupted_run_goes_on(
    store: Store, job: Job, expected: tuple[list[tuple[object, ...]], dict[str, bytes]]
) -> None:
    """What was finished before an interrupt is kept and not repeated."""
    stopping: Executor = Stopping(5)
    with pytest.raises(KeyboardInterrupt):
        run_job(store, job, stopping)
    report = run_job(store, job, SerialExecutor())
    assert 0 < report.computed < 2 * (5 * 60 + 140 + 60)
    check(store, job, expected)


def test_kill_9_loses_nothing_that_was_finished(
    tmp_path: Path, expected: tuple[list[tuple[object, ...]], dict[str, bytes]]
) -> None:
    """A run with two workers is killed hard in the middle; the same call goes on and ends at the same bits."""
    db = tmp_path / "results.db"
    code = (
        "import sys\n"
        "from harness.benchmarks import parse_benchmark\n"
        "from harness.data import open_dataset\n"
        "from harness.jobs.context import find_models\n"
        "from harness.jobs.executors.local import ProcessExecutor\n"
        "from harness.jobs.runner import Job, run_job\n"
        "from harness.storage import open_store\n"
        "from tests.harness.jobs.conftest import MODELS, TINY\n"
        "if __name__ == '__main__':\n"
        "    store = open_store(sys.argv[1])\n"
        "    data, models = open_dataset('digits'), find_models(store, MODELS)\n"
        "    job = Job(benchmark=parse_benchmark(TINY), models=models, data=data)\n"
        "    run_job(store, job, ProcessExecutor(2))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script), str(db)], cwd=ROOT, env=environment)
    stored = _wait_for_outcomes(process, db)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = open_store(str(db))
    from harness.benchmarks import parse_benchmark

    job = Job(benchmark=parse_benchmark(TINY), models=find_models(store, MODELS), data=open_dataset("digits"))
    report = run_job(store, job, SerialExecutor())
    assert report.computed <= 2 * (5 * 60 + 140 + 60) - stored
    check(store, job, expected)
    store.close()


def _wait_for_outcomes(process: subprocess.Popen[bytes], db: Path, wanted: int = 100, patience_s: float = 90) -> int:
    """Wait until the run has stored some verdicts; returns how many."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        assert process.poll() is None, "the run ended before it could be killed"
        if db.exists():
            found = stored_verdicts(db)
            if found >= wanted:
                return found
        time.sleep(0.02)
    raise AssertionError("the run stored nothing in time")


def test_an_error_is_a_value_and_never_ranks(store: Store, job: Job) -> None:
    """A model whose weights are gone fails by itself: recorded with its traceback, unranked, the others unharmed."""
    broken = replace(job.models[0], weights="/nonexistent/weights.safetensors")
    store.put_model(broken.card, broken.digest, blob=None)
    failing = replace(job, models=(broken, job.models[1]))
    report = run_job(store, failing, SerialExecutor())
    assert {spec.model.name for spec, _ in report.failures} == {broken.name}
    assert all("Traceback" in failure.traceback for _, failure in report.failures)
    ranked = {score.model_name for score in store.scores() if score.rank is not None}
    assert ranked == {job.models[1].name}
    (failed,) = {item.executions[0]["status"] for item in store.evaluations(model=broken.name)}
    assert failed == "failed"
    mended = run_job(store, job, SerialExecutor())
    assert not mended.failures
    assert {score.model_name for score in store.scores() if score.rank is not None} == set(MODELS)


def test_processes_report_a_worker_that_dies(store: Store, job: Job) -> None:
    """A worker that ends hard costs its task a retry and then a failure, not the run."""
    lethal = job.models[0]
    sources = {lethal.digest: _Lethal(name=lethal.name, digest=lethal.digest, card=lethal.card, weights=lethal.weights)}
    from harness.jobs.runner import context_of, plan_job

    plan = plan_job(store, replace(job, models=(job.models[0],), limit=20))
    context = context_of(job, Settings())
    context = replace(context, models={**context.models, **sources})
    outcomes = list(ProcessExecutor(2).run(plan.tasks, context))
    assert len(outcomes) == sum(len(task.pieces) for task in plan.tasks)
    assert all(isinstance(outcome, Failure) and "2 times" in outcome.message for outcome in outcomes)


class _Lethal(ModelSource):
    """A model source that ends the process that uses it."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> object:
        import multiprocessing

        if name == "card" and multiprocessing.parent_process() is not None:
            os._exit(9)
        return super().__getattribute__(name)


def test_one_image_is_enough_for_a_run(store: Store, job: Job) -> None:
    """A limit of one leaves the measure out, which needs two classes, and says so; nothing fails."""
    report = run_job(store, limited(job, 1), SerialExecutor())
    assert not report.failures
    assert report.computed == 2 * 6
    assert len(report.plan.skipped) == 2


def test_patterns_pass_over_models_that_cannot_be_loaded(store: Store) -> None:
    """A registered model without weights, once bundled and gone since, is not offered."""
    store.put_model({"name": "small_cnn.gone.digits", "dataset": "digits"}, "9" * 64, blob=None)
    assert "small_cnn.gone.digits" not in {model.name for model in find_models(store, ["*"])}


def test_requests_that_cannot_fit_are_refused(tiny: Benchmark, models: tuple[ModelSource, ...]) -> None:
    """A model with other classes, and a limit below one, are refused before any work."""
    other = replace(models[0], card={**models[0].card, "classes": 7})
    with pytest.raises(InvalidArgument, match="7 classes"):
        Job(benchmark=tiny, models=(other,), data=open_dataset("digits"))
    with pytest.raises(InvalidArgument, match="limit"):
        Job(benchmark=tiny, models=models, data=open_dataset("digits"), limit=0)
