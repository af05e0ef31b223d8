"""The Python interface for notebooks: evaluate a model, get its scores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import InvalidArgument, WorkError

if TYPE_CHECKING:
    import pandas as pd

    from harness.storage.records import StoredScore
    from harness.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of one model on one board."""

    model: str
    benchmark: str
    """`name@version`."""
    dataset: str
    cells: tuple[StoredScore, ...]

    def __getitem__(self, column: str) -> StoredScore:
        """The cell of one column: `value`, `low`, `high`, `n`, `images`.

        Raises:
            KeyError: there is no such cell.
        """
        for cell in self.cells:
            if cell.column == column:
                return cell
        raise KeyError(column)

    def to_pandas(self) -> pd.DataFrame:
        """One row a column of the board: value, low, high (95 %), n, images, bound, rank and its range."""
        import pandas as pd

        fields = ("column", "value", "low", "high", "n", "images", "bound", "rank", "rank_low", "rank_high")
        rows = [{name: asdict(cell)[name] for name in fields} for cell in self.cells]
        return pd.DataFrame(rows, columns=list(fields)).set_index("column")


def evaluate(
    model: Any,
    *,
    benchmark: str,
    dataset: str | None = None,
    limit: int | None = None,
    store: Store | str | None = None,
    workers: int = 1,
) -> Scores:
    """Evaluate one model on a benchmark: computes what the store lacks, and nothing twice.

    Args:
        model: a model's name, or a model from `models_zoo.load_model` (bundled or registered: its card is looked up).
        benchmark: `name` (newest version) or `name@version`.
        dataset: another data set with the same classes.
        limit: only the first images of the stratified order.
        store: an open store, or a file or URL; ROBUSTBOARD_DB, else results.db, when None.
        workers: processes; 1 runs in this one.

    Returns:
        The model's cells on the board.

    Raises:
        RequestError: an unknown name, or a data set or model that does not fit.
        WorkError: a part of the evaluation failed.
    """
    from harness.benchmarks import load_benchmark
    from harness.data import open_dataset
    from harness.jobs.context import find_models
    from harness.jobs.executors.local import choose_executor
    from harness.jobs.runner import Job, run_job
    from harness.storage import open_store
    from harness.storage.store import Store

    loaded = load_benchmark(benchmark)
    opened = store if isinstance(store, Store) else open_store(store)
    try:
        name = _name(model)
        wanted = dataset or loaded.dataset
        declarations = opened.declarations()
        data = open_dataset(wanted, "test", folders=declarations)
        sources = find_models(opened, [name])
        if not isinstance(model, str) and sources[0].digest != model.card.digest:
            raise InvalidArgument("model", name, "a model as registered: the store's has other weights or another card")
        target = opened.newest_target(wanted)
        job = Job(benchmark=loaded, models=sources, data=data, target=target, declarations=declarations, limit=limit)
        report = run_job(opened, job, choose_executor(workers), command="harness.evaluate")
        if report.failures:
            spec, failure = report.failures[0]
            raise WorkError(f"{spec.model.name}, {spec.perturbation.label}: {failure.message}")
        cells = opened.scores(benchmark=loaded.name, version=loaded.version, dataset=wanted, model=name)
        fresh = tuple(cell for cell in cells if not cell.stale and cell.data.digest == job.goal.data.digest)
        return Scores(model=name, benchmark=loaded.label, dataset=wanted, cells=fresh)
    finally:
        if opened is not store:
            opened.close()


def _name(model: Any) -> str:
    if isinstance(model, str):
        return model
    name = getattr(getattr(model, "card", None), "name", None)
    if not isinstance(name, str):
        raise InvalidArgument("model", type(model).__name__, "a model's name, or a model from models_zoo.load_model")
    return name
