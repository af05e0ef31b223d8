"""Two models on the images they share: paired differences, column by column."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from harness.benchmarks import load_benchmark
from harness.errors import UnknownName
from harness.metrics.intervals import mean_interval
from harness.metrics.ranks import LEAST_DIFFERING
from harness.metrics.scores import SCORES, Outcomes
from harness.scoring import MEASURE_SCORE, Scorer
from harness.storage.queries import Reader
from harness.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One column of two models on their shared images; `difference` is second minus first."""

    column: str
    first: float
    second: float
    difference: float
    low: float
    high: float
    n: int
    differing: int
    """Images on which the two differ."""

    @property
    def significant(self) -> bool:
        """Whether the paired 95 % interval leaves zero out, on enough differing images (as for ranks)."""
        return (self.low > 0 or self.high < 0) and self.differing >= LEAST_DIFFERING

    def to_dict(self) -> Json:
        """Plain data."""
        return {**asdict(self), "significant": self.significant}


def compare_models(
    store: Reader, first: str, second: str, *, benchmark: str, dataset: str | None = None
) -> tuple[Difference, ...]:
    """Compare two models on a board, on the leading images that both have for a column.

    Args:
        store: the store.
        first: a model's name.
        second: another model's name.
        benchmark: `name` or `name@version`.
        dataset: the board of another data set.

    Returns:
        One difference a column that both have verdicts for; the interval is a paired bootstrap over images (95 %).

    Raises:
        UnknownName: unknown benchmark, or a model that is not on this board.
    """
    loaded = load_benchmark(benchmark)
    wanted = dataset or loaded.dataset
    on_board = {
        score.model_name: score for score in store.scores(benchmark=loaded.name, version=loaded.version, dataset=wanted)
    }
    for name in (first, second):
        if name not in on_board:
            raise UnknownName(f"model on board {loaded.label} ({wanted})", name, on_board)
    scorer = Scorer(loaded, store.target(on_board[first].data))
    found = []
    for column in loaded.columns:
        if column.score == MEASURE_SCORE:
            continue
        pair = [scorer.outcomes(store, column, store.find_ref(name), None) for name in (first, second)]
        if pair[0] is None or pair[1] is None:
            continue
        found.append(_difference(column.name, column.score, pair[0], pair[1]))
    return tuple(found)


def _difference(column: str, score_name: str, first: Outcomes, second: Outcomes) -> Difference:
    score = SCORES.get(score_name)
    n = min(first.verdicts.shape[1], second.verdicts.shape[1])
    parts = [
        replace(item, verdicts=item.verdicts[:, :n], clean=None if item.clean is None else item.clean[:n])
        for item in (first, second)
    ]
    one, other = (score.per_image(part) for part in parts)
    least, most = score.bounds(parts[0])
    low, high = mean_interval(other - one, (least - most, most - least))
    return Difference(
        column=column,
        first=float(one.mean()),
        second=float(other.mean()),
        difference=float((other - one).mean()),
        low=low,
        high=high,
        n=n,
        differing=int(np.count_nonzero(one != other)),
    )
