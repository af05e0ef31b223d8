"""`robustboard run` and `robustboard quickstart`."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness.cli.options import BatchOption, DbOption, DeviceOption, JsonOption, WorkersOption
from harness.cli.output import emit_json, emit_table, say

if TYPE_CHECKING:
    from harness.benchmarks import Benchmark
    from harness.jobs.context import Settings
    from harness.jobs.executors.base import Executor
    from harness.jobs.plan import Plan
    from harness.jobs.runner import Job, Report
    from harness.storage.queries import Reader
    from harness.storage.store import Store

QUICKSTART: Final = (
    "small_cnn.supervised.digits.s0",
    "small_cnn.selectivity-am1.digits.s0",
    "small_cnn.selectivity-ap2.digits.s0",
    "small_cnn.adversarial-linf8.digits.s0",
    "small_cnn.augmix.digits.s0",
)
"""Of the bundled models one of each kind, since a first look should take minutes: AutoAttack and 95 corrupted copies of
each image make more than half a minute a model, and the seeds of a sweep are there for its study."""


def run(
    models: Annotated[
        list[str] | None, typer.Argument(help="More models, so that --models A B C works.", show_default=False)
    ] = None,
    benchmark: Annotated[
        str, typer.Option("--benchmark", "-b", help="Benchmark: NAME (newest version) or NAME@VERSION.")
    ] = "digits",
    first: Annotated[
        list[str] | None,
        typer.Option("--models", "-m", help="Models: names, or patterns such as 'small_cnn.*' (quote them)."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Another data set with the same classes: a board of its own.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Only the first N images of the stratified order; rows stay unranked.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; compute nothing.")] = False,
    keep_examples: Annotated[
        int, typer.Option("--keep-examples", help="Keep the first N images that each attack breaks (at most 1000).")
    ] = 0,
    workers: WorkersOption = None,
    batch_size: BatchOption = 128,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Evaluate models: computes what the store lacks, and nothing twice.

    A run that was stopped, or killed, goes on where it was when the same command is given again.

    Examples:
        robustboard run --benchmark digits --models small_cnn.supervised.digits.s0

        robustboard run -b digits -m 'small_cnn.*' --dry-run

        robustboard run -b cifar10 --dataset photos --limit 200 -m resnet18.public.photos
    """
    from harness.benchmarks import load_benchmark
    from harness.errors import RequestError
    from harness.jobs.runner import plan_job
    from harness.storage import open_store

    names = [*(first or []), *(models or [])]
    if not names:
        raise RequestError("models: none given; name some with --models, or all with --models '*'")
    loaded = load_benchmark(benchmark)
    with existing(db) as reader:  # a request that cannot be met leaves no trace, not even an empty store
        job = make_job(reader, loaded, names, dataset=dataset, limit=limit)
        plan = plan_job(reader, job) if dry_run else None
        crew = make_crew(workers, batch_size=batch_size, device=device, keep_examples=keep_examples)
    if plan is not None:
        _show_plan(job, plan, as_json=as_json)
        return
    with contextlib.closing(open_store(db)) as store:
        report = execute(store, job, *crew)
    if keep_examples and report.plan.missing < report.plan.wanted:
        say("adversarial images are kept of what was computed now; what the store held already is not computed again")
    _show_report(report, job, as_json=as_json)
    if report.failures:
        raise typer.Exit(1)


def quickstart(
    workers: WorkersOption = None,
    db: DbOption = None,
) -> None:
    """Fill the store from five bundled models, one of each kind, on the embedded digits and print the board.

    Examples:
        robustboard quickstart

        robustboard quickstart --db try.db
    """
    from harness.benchmarks import load_benchmark
    from harness.cli.board import print_board
    from harness.storage import open_store

    loaded = load_benchmark("digits")
    crew = make_crew(workers)
    with contextlib.closing(open_store(db)) as store:
        report = execute(store, make_job(None, loaded, list(QUICKSTART)), *crew)
        print_board(store, loaded.label)
        say(f"done in {report.seconds:.0f} s, {report.computed} verdicts computed")
        suffix = f" --db {shlex.quote(db)}" if db else ""
        say(f"look at it in a browser: robustboard serve{suffix}   (then open http://127.0.0.1:8000/)")
    if report.failures:
        raise typer.Exit(1)


def make_job(
    store: Reader | None,
    benchmark: Benchmark,
    names: list[str],
    *,
    dataset: str | None = None,
    limit: int | None = None,
) -> Job:
    """A checked job from names.

    Patterns take only the models that were made for the board's data set or the benchmark's own; a model that is named
    in full is taken as it is.
    """
    from harness.data import open_dataset
    from harness.errors import UnknownName
    from harness.jobs.context import find_models
    from harness.jobs.runner import Job

    declarations = {} if store is None else store.declarations()
    wanted = dataset or benchmark.dataset
    data = open_dataset(wanted, "test", folders=declarations)
    found = find_models(store, names)
    fitting = {wanted, benchmark.dataset}
    models = tuple(model for model in found if model.name in names or model.card["dataset"] in fitting)
    if not models:
        raise UnknownName(f"model for data set {wanted}", " ".join(names), [model.name for model in found])
    return Job(
        benchmark=benchmark,
        models=models,
        data=data,
        target=None if store is None else store.newest_target(wanted),
        declarations=declarations,
        limit=limit,
    )


def make_crew(
    workers: int | None, *, batch_size: int = 128, device: str = "cpu", keep_examples: int = 0
) -> tuple[Executor, Settings]:
    """Executor and settings, checked before any store is touched."""
    from harness.device import check_device
    from harness.jobs.context import Settings
    from harness.jobs.executors.local import choose_executor

    check_device(device)
    return choose_executor(workers), Settings(device=device, batch_size=batch_size, keep_examples=keep_examples)


def execute(store: Store, job: Job, executor: Executor, settings: Settings) -> Report:
    """Run a job with progress on standard error."""
    from harness.cli.progress import RunProgress
    from harness.jobs.runner import run_job

    progress = RunProgress()
    command = re.sub(r"://\S*@", "://***@", shlex.join(sys.argv))  # a store's password is nobody's business
    try:
        return run_job(store, job, executor, settings=settings, progress=progress, command=command)
    except KeyboardInterrupt:
        say("stopped; what was finished is stored, and the same command goes on from there")
        raise typer.Exit(130) from None
    finally:
        progress.close()


@contextlib.contextmanager
def existing(db: str | None) -> Iterator[Reader | None]:
    """The store for reading, brought to this version's schema if it is older; None if there is none yet."""
    from harness.errors import StoreMissing, StoreNotReady
    from harness.storage import open_store

    try:
        reader: Reader = open_store(db, read_only=True)
    except StoreMissing:
        yield None
        return
    except StoreNotReady:
        reader = open_store(db)
    with contextlib.closing(reader):
        yield reader


def _show_plan(job: Job, plan: Plan, *, as_json: bool) -> None:
    cost = plan.cost
    if as_json:
        emit_json(
            {
                "benchmark": job.benchmark.name,
                "version": job.benchmark.version,
                "dataset": job.goal.data.name,
                "evaluations": plan.evaluations,
                "verdicts": plan.wanted,
                "missing": plan.missing,
                "corrupted_images": cost.corrupted,
                "forwards": cost.forwards,
                "backwards": cost.backwards,
                "skipped": list(plan.skipped),
                "tasks": [
                    {
                        "perturbation": task.label,
                        "images": [task.start, task.stop],
                        "models": [piece.spec.model.name for piece in task.pieces],
                        "forwards": piece_cost.forwards,
                        "backwards": piece_cost.backwards,
                    }
                    for task, piece_cost in zip(plan.tasks, plan.costs, strict=True)
                ],
            }
        )
        return
    rows = [
        (
            task.label,
            f"{task.start}..{task.stop}",
            str(len(task.pieces)),
            f"{piece_cost.forwards:,}",
            f"{piece_cost.backwards:,}",
        )
        for task, piece_cost in zip(plan.tasks, plan.costs, strict=True)
    ]
    emit_table(("perturbation", "images", "models", "forwards", "backwards"), rows, right=(2, 3, 4))
    say(
        f"{len(plan.tasks)} tasks, {plan.missing} of {plan.wanted} verdicts missing; {cost.corrupted:,} images to "
        f"corrupt, at most {cost.forwards:,} forward and {cost.backwards:,} backward passes"
    )
    for line in plan.skipped:
        say(f"left out by the limit: {line}")


def _show_report(report: Report, job: Job, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "benchmark": job.benchmark.name,
                "version": job.benchmark.version,
                "dataset": job.goal.data.name,
                "computed": report.computed,
                "seconds": round(report.seconds, 3),
                "failures": [
                    {"model": spec.model.name, "perturbation": spec.perturbation.label, "message": failure.message}
                    for spec, failure in report.failures
                ],
            }
        )
        return
    say(f"{report.computed} verdicts computed in {report.seconds:.1f} s")
    if report.failures:
        say(f"{len(report.failures)} pieces failed; `robustboard show MODEL` has the errors, a new run tries again")
    own = "" if job.goal.data.name == job.benchmark.dataset else f" --dataset {job.goal.data.name}"
    say(f"board: robustboard leaderboard --benchmark {job.benchmark.label}{own}")
