"""The models of the selectivity study with all that was found about them: cells of a board, and what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.benchmarks import load_benchmark
from harness.errors import RequestError
from harness.leaderboard import Board, BoardQuery, board_data, load_board
from harness.measure_view import MeasureTable, evaluation_tables
from harness.metrics.accuracy import accuracy, severity_curves
from harness.scoring import MEASURE_SCORE, Scorer
from harness.storage.queries import Reader
from harness.storage.records import StoredModel
from harness.types import Cell

EPS: Final = ("1", "2", "4", "8")
"""Radii of the benchmark's attacks, in 255ths."""
LEAST: Final = 3
"""Settings of alpha without which there is nothing to correlate."""
BY_CORRUPTION: Final = "corruption_accuracy"
"""The column whose evaluations are also shown corruption by corruption."""

_LAYERED: Final = {
    "dimension": ("dimensionality", "fraction_95"),
    "change_corruptions": ("dimensionality_corruptions", "change_fraction_95"),
    "change_pgd": ("dimensionality_attack", "change_fraction_95"),
    "difference_corruptions": ("dimensionality_corruptions", "difference_95"),
    "difference_pgd": ("dimensionality_attack", "difference_95"),
}
"""Name -> (measure, quantity) of what is also averaged over the early layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One model."""

    name: str
    recipe: str
    alpha: float | None
    """Scale of the regulariser; 0 for the recipe `supervised`; None outside the sweep."""
    values: Mapping[str, float]
    """Board columns by name, and what `derived` adds; what is missing is absent."""
    flags: tuple[str, ...]
    images: int
    """Clean test images that its numbers rest on."""
    epochs: int
    """Of its training; 0 if its card does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subjects:
    """All models of a study on one data set, of one architecture."""

    dataset: str
    architecture: str
    board: Board
    sweep: tuple[Subject, ...]
    """By alpha, then by name."""
    others: tuple[Subject, ...]
    """Models trained another way: adversarial, AugMix."""
    left_out: tuple[str, ...]
    """Models of the board that take no part, other architectures and recipes."""

    @property
    def alphas(self) -> tuple[float, ...]:
        """Settings of the sweep, ascending."""
        return tuple(sorted({subject.alpha for subject in self.sweep if subject.alpha is not None}))

    def at(self, alpha: float) -> tuple[Subject, ...]:
        """The models of one setting."""
        return tuple(subject for subject in self.sweep if subject.alpha == alpha)


def read_subjects(store: Reader, benchmark: str, dataset: str, recipes: Sequence[str]) -> Subjects:
    """The models of a study: of the recipes, and of the architecture that most of them have.

    Raises:
        UnknownName: no board of this data set.
        RequestError: fewer than three settings of alpha on it.
    """
    board = load_board(store, BoardQuery(benchmark=benchmark, dataset=dataset, sort="model", order="asc"))
    stored = {model.name: model for model in store.models()}
    taking_part = [
        stored[str(row["model"])] for row in board.rows if str(stored[str(row["model"])].card.get("recipe")) in recipes
    ]
    counted = Counter(str(model.card.get("architecture")) for model in taking_part)
    architecture = max(counted, key=lambda name: (counted[name], name)) if counted else ""
    rows = {str(row["model"]): row for row in board.rows}
    chosen_models = [model for model in taking_part if model.card.get("architecture") == architecture]
    reach = _reach(board, [rows[model.name] for model in chosen_models])
    loaded = load_benchmark(benchmark)
    data = board_data(store, loaded, dataset)
    found = []
    if data is not None:  # without a board there are no rows either
        scorer = Scorer(loaded, store.target(data))
        found = [_subject(store, scorer, model, rows[model.name], reach) for model in chosen_models]
    chosen = {subject.name for subject in found}
    sweep = sorted((item for item in found if item.alpha is not None), key=lambda item: (item.alpha, item.name))
    subjects = Subjects(
        dataset=dataset,
        architecture=architecture,
        board=board,
        sweep=tuple(sweep),
        others=tuple(item for item in found if item.alpha is None),
        left_out=tuple(name for name in rows if name not in chosen),
    )
    if len(subjects.alphas) < LEAST:
        raise RequestError(
            f"{benchmark} on {dataset} holds {len(subjects.alphas)} settings of alpha, a report needs {LEAST}: "
            "robustboard study run selectivity"
        )
    return subjects


def alpha_of(card: Mapping[str, object]) -> float | None:
    """The setting of the sweep that a model's card tells: 0 for `supervised`, None for other recipes and variants.

    A regulariser that is warmed up or holds for some layers only is another experiment.
    """
    if card.get("recipe") == "supervised":
        return 0.0
    if card.get("recipe") != "selectivity":
        return None
    settings = card.get("hyper_parameters")
    if not isinstance(settings, Mapping):
        return None
    if settings.get("layers", "all") != "all" or float(settings.get("alpha_warmup", 0)) != 0:
        return None
    return float(settings["alpha"])


def derived(cells: Mapping[str, float], tables: Sequence[MeasureTable]) -> dict[str, float]:
    """What follows from a model's cells and measures.

    Args:
        cells: board column -> value.
        tables: its measures, as the benchmark's evaluations on the board's data set.

    Returns:
        `retention` (corruption accuracy over clean accuracy), `on_correct_E` (PGD accuracy over clean accuracy: the
        share of the images that are right clean, since a robust image is right clean), `above_floor` (selectivity minus
        its floor), and for each dimension, `NAME` over all layers and `early_NAME` over the first half of the layers.
    """
    values: dict[str, float] = {}
    clean = cells.get("clean_accuracy")
    if clean:
        if "corruption_accuracy" in cells:
            values["retention"] = cells["corruption_accuracy"] / clean
        for eps in EPS:
            if (name := f"pgd_accuracy_linf_{eps}_255") in cells:
                values[f"on_correct_{eps}"] = cells[name] / clean
    if "selectivity" in cells and "selectivity_floor" in cells:
        values["above_floor"] = cells["selectivity"] - cells["selectivity_floor"]
    for name, (measure, quantity) in _LAYERED.items():
        found = [table for table in tables if table.measure == measure and table.layers]
        if found:
            layers = found[-1].over_layers(quantity)
            early = layers[: max(1, len(layers) // 2)]
            values[name] = sum(layers) / len(layers)
            values[f"early_{name}"] = sum(early) / len(early)
    for kind in ("change", "difference"):
        pair = (f"early_{kind}_pgd", f"early_{kind}_corruptions")
        if all(name in values for name in pair):
            values[f"early_{kind}_gap"] = values[pair[0]] - values[pair[1]]
    return values


def _reach(board: Board, rows: Sequence[Mapping[str, Cell]]) -> dict[str, int]:
    """Score column -> the most images that any of the rows has there: cells of fewer are no match for the others."""
    names = [column.name for column in board.columns if column.score]
    return {name: max((int(row[f"{name}_n"] or 0) for row in rows), default=0) for name in names}


def _subject(
    store: Reader, scorer: Scorer, model: StoredModel, row: Mapping[str, Cell], reach: Mapping[str, int]
) -> Subject:
    cells = {
        name: float(value)
        for name, images in reach.items()
        if isinstance(value := row[name], (int, float)) and row[f"{name}_n"] == images
    }
    images = row.get("clean_accuracy_n")
    return Subject(
        name=model.name,
        recipe=str(model.card.get("recipe")),
        alpha=alpha_of(model.card),
        values=cells
        | derived(cells, _tables(store, scorer, model, reach))
        | _by_corruption(store, scorer, model, reach),
        flags=tuple(str(row.get("flags") or "").split()),
        images=images if isinstance(images, int) else 0,
        epochs=_epochs(model.card),
    )


def _tables(store: Reader, scorer: Scorer, model: StoredModel, reach: Mapping[str, int]) -> tuple[MeasureTable, ...]:
    """What stands behind the board's cells layer by layer: the benchmark's own evaluations, on as many images as reach.

    Other options, other images of that name, and runs on fewer or more images are other evaluations.
    """
    specs = [
        request.spec
        for column in scorer.benchmark.columns
        if column.score == MEASURE_SCORE and reach[column.name]
        for request in scorer.benchmark.requests(model.ref, scorer.target, limit=reach[column.name])
        if request.group in column.evaluations
    ]
    return evaluation_tables(store, model.name, specs)


def _by_corruption(store: Reader, scorer: Scorer, model: StoredModel, reach: Mapping[str, int]) -> dict[str, float]:
    """Accuracy under each corruption, mean over severities, of the verdicts behind the board's cell."""
    outcomes = scorer.outcomes(store, scorer.benchmark.column(BY_CORRUPTION), model.ref, None)
    if outcomes is None or outcomes.verdicts.shape[1] != reach[BY_CORRUPTION]:
        return {}
    values = {cell: accuracy(row) for cell, row in zip(outcomes.cells, outcomes.verdicts, strict=True)}
    return {f"corruption:{name}": sum(curve) / len(curve) for name, curve in severity_curves(values).items()}


def _epochs(card: Mapping[str, object]) -> int:
    settings = card.get("hyper_parameters")
    return int(settings.get("epochs", 0)) if isinstance(settings, Mapping) else 0
