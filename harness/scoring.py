"""From outcomes to the cells of a board: scores with their intervals, and rank ranges. A cache that can be rebuilt."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy.orm import Session

from harness.benchmarks import Benchmark, ColumnSpec, Request
from harness.corruptions.suites import SUITES
from harness.errors import StoreError
from harness.metrics.ranks import rank_ranges
from harness.metrics.scores import SCORES, Outcomes
from harness.spec import DataRef, MeasureSpec, ModelRef
from harness.storage.queries import Reader
from harness.storage.store import BoardKey, CellScore, Store
from harness.target import Target

MEASURE_SCORE = "measure"
"""The one score that is not made of verdicts: the mean of a measured quantity over the network."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores of one benchmark on one data set.

    Args:
        benchmark: declares the columns.
        target: what the board's evaluations run on.
    """

    benchmark: Benchmark
    target: Target

    @property
    def data(self) -> DataRef:
        """The data set that names the board."""
        return self.target.data

    @property
    def key(self) -> BoardKey:
        """Which board it is."""
        return BoardKey(benchmark=self.benchmark.name, version=self.benchmark.version, data=self.data)

    def refresh(self, store: Store, models: Iterable[ModelRef]) -> None:
        """Rebuild the cells of some models and the ranks of the whole board."""
        for model in models:
            store.put_scores(self.key, model, self.cells(store, model))
        store.put_ranks(self.key, self.benchmark.ranked_by, self.ranks(store))

    def cells(
        self, reader: Reader, model: ModelRef, *, session: Session | None = None, touched: str | None = None
    ) -> list[CellScore]:
        """The cells that a model's outcomes give.

        Args:
            reader: the store.
            model: the model.
            session: read inside this transaction.
            touched: keep only the columns made of verdicts that the evaluation with this digest enters. An unfinished
                cell then gets its value but no bootstrap interval, which is made when the cell is complete or the run
                ends.
        """
        found = []
        for column in self.benchmark.columns:
            if column.score == MEASURE_SCORE:
                cell = self._measured(reader, column, model, session) if touched is None else None
            else:
                if touched is not None and not self._enters(touched, model, column):
                    continue
                outcomes = self.outcomes(reader, column, model, session)
                cell = self._scored(column, outcomes, final=touched is None) if outcomes is not None else None
            if cell is not None:
                found.append(cell)
        return found

    def ranks(self, store: Store) -> dict[str, tuple[int, int, int]]:
        """(rank, rank_low, rank_high) by model digest, over the models whose ranking cell is complete."""
        column = self.benchmark.column(self.benchmark.ranked_by)
        complete = [
            score
            for score in store.scores(
                benchmark=self.benchmark.name, version=self.benchmark.version, dataset=self.data.name
            )
            if score.column == column.name
            and score.data.digest == self.data.digest
            and score.n == score.images
            and not score.stale
        ]
        if not complete:
            return {}
        score = SCORES.get(column.score)
        rows = []
        for item in complete:
            outcomes = self.outcomes(store, column, ModelRef(name=item.model_name, digest=item.model), None)
            if outcomes is None:
                raise StoreError(f"scores of {item.model_name!r} have no outcomes; run `robustboard db rescore`")
            rows.append(score.per_image(outcomes))
        ranges = rank_ranges(
            np.stack(rows), higher_is_better=column.higher_is_better is not False, seed=self.benchmark.seed
        )
        return {
            item.model: (int(ranges.rank[at]), int(ranges.low[at]), int(ranges.high[at]))
            for at, item in enumerate(complete)
        }

    def _enters(self, digest: str, model: ModelRef, column: ColumnSpec) -> bool:
        """Whether an evaluation is one of a column's."""
        requests = _column_requests(self.benchmark, self.target, model, column)
        return any(digest == known for known, _ in requests)

    def outcomes(self, reader: Reader, column: ColumnSpec, model: ModelRef, session: Session | None) -> Outcomes | None:
        """A column's verdicts on the leading images that all of its evaluations share; None while one lacks any.

        For relative mCE the column's evaluation without a corruption is the clean one; for all other scores every
        evaluation is a row.
        """
        requests = _column_requests(self.benchmark, self.target, model, column)
        verdicts = reader.verdicts({digest for digest, _ in requests}, session=session)
        n = min(
            self.benchmark.column_images(column, self.target),
            *(verdicts[digest].size if digest in verdicts else 0 for digest, _ in requests),
        )
        if n == 0:
            return None
        relative = column.score == "relative_mce"
        aside = [digest for digest, request in requests if relative and request.cell is None]
        rows = [(digest, request.cell) for digest, request in requests if not relative or request.cell is not None]
        cells = tuple(cell for _, cell in rows if cell is not None)
        suites = {self.benchmark.group(request.group).suite for _, request in requests if request.cell is not None}
        suite = SUITES.get(suites.pop()) if suites else None
        return Outcomes(
            verdicts=np.stack([verdicts[digest][:n] for digest, _ in rows]),
            cells=cells if len(cells) == len(rows) else (),
            clean=verdicts[aside[0]][:n] if aside else None,
            baseline=suite.baselines if suite else None,
            baseline_clean=suite.baseline_clean if suite else None,
        )

    def _scored(self, column: ColumnSpec, outcomes: Outcomes, *, final: bool) -> CellScore:
        score = SCORES.get(column.score)
        images = self.benchmark.column_images(column, self.target)
        n = outcomes.verdicts.shape[1]
        low: float | None = None
        high: float | None = None
        if final or score.verdict or n == images:
            computed = score.compute(outcomes)
            value, low, high = computed.value, computed.low, computed.high
        else:
            value = score.value(outcomes)
        return CellScore(
            column=column.name,
            metric_version=f"{score.name}/{score.version}",
            value=value,
            low=low,
            high=high,
            n=n,
            images=images,
            bound=self.benchmark.column_bound(column),
        )

    def _measured(
        self, reader: Reader, column: ColumnSpec, model: ModelRef, session: Session | None
    ) -> CellScore | None:
        """The network's mean of a quantity, on the largest range that was measured."""
        full = self.benchmark.column_images(column, self.target)
        specs = {
            request.spec.digest: request.spec.perturbation
            for limit in reader.measured_ranges(model, self.target.clean, session=session)
            for request in self.benchmark.requests(model, self.target, limit=limit)
            if request.group in column.evaluations
        }
        values = reader.measures(specs, session=session)
        best: CellScore | None = None
        for digest, perturbation in specs.items():
            for value in values.get(digest, ()):
                if not isinstance(perturbation, MeasureSpec) or (value.layer, value.quantity) != ("", column.quantity):
                    continue
                n = perturbation.stop - perturbation.start
                if best is None or n > best.n:
                    best = CellScore(
                        column=column.name,
                        metric_version=f"{perturbation.measure}/{perturbation.version}",
                        value=value.mean,
                        low=None,
                        high=None,
                        n=n,
                        images=full,
                        bound="exact",
                    )
        return best


@functools.lru_cache(maxsize=4096)
def _column_requests(
    benchmark: Benchmark, target: Target, model: ModelRef, column: ColumnSpec
) -> tuple[tuple[str, Request], ...]:
    """Evaluations of a column on its full range, in the benchmark's order, with their digests.

    A digest may come twice: files of two cells may hold the same images (a grey picture has no colours to saturate).
    """
    return tuple(
        (request.spec.digest, request)
        for request in benchmark.requests(model, target)
        if request.group in column.evaluations
    )
