"""The runner: plan, execute, store, score. The only place where work becomes results."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy.orm import Session

from harness.benchmarks import Benchmark, Request
from harness.data import Dataset
from harness.data.declared import Declaration
from harness.errors import InvalidArgument
from harness.jobs.context import Context, DataSource, ModelSource, Settings
from harness.jobs.executors.base import Executor
from harness.jobs.plan import Plan, make_plan
from harness.jobs.provenance import provenance
from harness.outcome import BlockOutcome, Failure
from harness.scoring import Scorer
from harness.spec import EvaluationSpec
from harness.storage.queries import Reader
from harness.storage.store import Rescore, Store, write_scores
from harness.target import Target


class Progress(Protocol):
    """Who watches a run."""

    def planned(self, plan: Plan) -> None:
        """The plan stands; work begins."""

    def advanced(self, spec: EvaluationSpec, outcome: BlockOutcome | Failure) -> None:
        """A piece is done and stored."""


class Silent:
    """Watches nothing."""

    def planned(self, plan: Plan) -> None:
        """Nothing to do."""

    def advanced(self, spec: EvaluationSpec, outcome: BlockOutcome | Failure) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a run is asked to do."""

    benchmark: Benchmark
    models: tuple[ModelSource, ...]
    data: Dataset
    """The clean images."""
    target: Target | None = None
    """What to run on; by default the clean images, corrupted in memory."""
    declarations: Mapping[str, Declaration] = field(default_factory=dict)
    """Declared data sets that workers need."""
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InvalidArgument("limit", self.limit, "at least 1")
        self.benchmark.check_data(self.data.ref(), self.data.image_size)
        for model in self.models:
            classes, size = model.card["classes"], tuple(model.card["input_size"])
            if classes != len(self.data.classes):
                wanted = f"a model of {len(self.data.classes)} classes, as data set {self.data.name!r} has"
                raise InvalidArgument("models", f"{model.name} ({classes} classes)", wanted)
            if size != self.data.image_size:
                wanted = f"a model for {self.data.image_size[0]}x{self.data.image_size[1]} images"
                raise InvalidArgument("models", f"{model.name} ({size[0]}x{size[1]})", wanted)

    @property
    def goal(self) -> Target:
        """What to run on."""
        return self.target or Target.plain(self.data.ref())

    def requests(self) -> tuple[Request, ...]:
        """All evaluations of all models."""
        return tuple(
            request
            for model in self.models
            for request in self.benchmark.requests(model.ref, self.goal, limit=self.limit)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run did."""

    plan: Plan
    computed: int
    """Image verdicts computed and stored."""
    failures: tuple[tuple[EvaluationSpec, Failure], ...]
    seconds: float


def plan_job(store: Reader | None, job: Job) -> Plan:
    """The plan of a job against what the store holds (None: no store yet); computes and writes nothing."""
    requests = job.requests()
    coverage = {} if store is None else store.coverage(request.spec.digest for request in requests)
    return make_plan(requests, coverage)


def run_job(
    store: Store,
    job: Job,
    executor: Executor,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    command: str = "",
) -> Report:
    """Compute what is missing and bring the board's scores and ranks up to date.

    Each piece is committed as soon as it is done: a run that is killed loses at most the pieces in flight, and the next
    one goes on from there. A piece that fails is recorded as a failure and leaves the others alone.

    Args:
        store: where results go.
        job: what to do.
        executor: where tasks run.
        settings: how to run.
        progress: who watches.
        command: the command line, for the record.
    """
    settings = settings or Settings()
    watcher = progress or Silent()
    started = time.perf_counter()
    for model in job.models:
        if model.weights is None:  # bundled models are registered on first use
            store.put_model(model.card, model.digest, blob=None, replace=True)
    plan = plan_job(store, job)
    scorer = Scorer(job.benchmark, job.goal)
    computed, failures = 0, []
    watcher.planned(plan)
    if plan.tasks:
        specs = {piece.spec.digest: piece.spec for task in plan.tasks for piece in task.pieces}
        run = store.start_run(command, provenance(settings, executor.name, executor.workers))
        with contextlib.closing(executor.run(plan.tasks, context_of(job, settings))) as outcomes:
            for outcome in outcomes:
                spec = specs[outcome.evaluation]
                if isinstance(outcome, Failure):
                    store.put_failure(run, spec, outcome)
                    failures.append((spec, outcome))
                else:
                    store.put_outcome(run, spec, outcome, rescore=_rescore(store, scorer, spec))
                    computed += outcome.stop - outcome.start
                watcher.advanced(spec, outcome)
    scorer.refresh(store, [model.ref for model in job.models])
    return Report(plan=plan, computed=computed, failures=tuple(failures), seconds=time.perf_counter() - started)


def context_of(job: Job, settings: Settings) -> Context:
    """What workers need for a job."""
    goal = job.goal
    clean = goal.clean
    sources = {
        clean.digest: DataSource(name=clean.name, split=clean.split, digest=clean.digest, declarations=job.declarations)
    }
    for cell in goal.cells:
        sources[cell.data.digest] = DataSource(
            name=goal.data.name,
            split="test",
            digest=cell.data.digest,
            declarations=job.declarations,
            cell=(cell.corruption, cell.severity),
        )
    return Context(models={model.digest: model for model in job.models}, data=sources, settings=settings)


def _rescore(store: Store, scorer: Scorer, spec: EvaluationSpec) -> Rescore:
    """Scores of the columns that an evaluation enters, written in its outcome's transaction."""

    def rescore(session: Session, digest: str) -> None:
        cells = scorer.cells(store, spec.model, session=session, touched=digest)
        write_scores(session, scorer.key, spec.model, cells, complete=False)

    return rescore
