"""A made-up sweep whose numbers are known: what is linear in alpha, what turns round, and what is noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.benchmarks import load_benchmark
from harness.leaderboard import FIXED_COLUMNS, Board, score_columns
from harness.types import Cell
from models_zoo.studies.subjects import Subject, Subjects, derived

ALPHAS = (-2.0, -1.0, 0.0, 0.5, 1.0, 2.0)


def cells(alpha: float, seed: int) -> dict[str, float]:
    """Board cells of a model: selectivity rises with alpha, corruption accuracy falls, PGD is best in the middle."""
    noise = float(np.random.default_rng([round(10 * alpha) + 100, seed]).normal(0, 0.002))
    made = {
        "clean_accuracy": 0.98 - 0.01 * max(alpha, 0.0),
        "corruption_accuracy": 0.5 - 0.05 * alpha + noise,
        "selectivity": 0.2 + 0.05 * alpha + noise / 4,
        "jacobian_norm": 10.0 + alpha,
    }
    for eps in (1, 2, 4, 8):
        made[f"pgd_accuracy_linf_{eps}_255"] = 0.6 - 0.1 * (alpha - 0.1) ** 2 + noise
        made[f"fgsm_accuracy_linf_{eps}_255"] = 0.3 + 0.1 * alpha + noise
    return made


def subject(name: str, recipe: str, alpha: float | None, values: Mapping[str, float], *flags: str) -> Subject:
    """A model with what follows from its cells."""
    every = {**values, **derived(values, ())}
    return Subject(name=name, recipe=recipe, alpha=alpha, values=every, flags=flags, images=500, epochs=40)


def sweep() -> Subjects:
    """Six settings of three seeds, an adversarial model of high and an AugMix model of middling selectivity."""
    models = tuple(
        subject(f"small_cnn.sweep-{alpha:g}.digits.s{seed}", "selectivity", alpha, cells(alpha, seed))
        for alpha in ALPHAS
        for seed in range(3)
    )
    middle = sum(item.values["selectivity"] for item in models if item.alpha == 0) / 3
    others = (
        subject("small_cnn.adversarial.digits.s0", "adversarial", None, {"selectivity": 0.4}),
        subject("small_cnn.augmix.digits.s0", "augmix", None, {"selectivity": middle}, "zero_gradients"),
    )
    return Subjects(
        dataset="digits", architecture="small_cnn", board=board({}), sweep=models, others=others, left_out=()
    )


def board(rows: Mapping[str, Mapping[str, Cell]]) -> Board:
    """The study's board with the given cells, 500 images each, unless a cell's `_n` is given."""
    benchmark = load_benchmark("selectivity@1")
    columns = FIXED_COLUMNS + score_columns(benchmark)
    made = []
    for name, values in rows.items():
        row: dict[str, Cell] = dict.fromkeys((column.name for column in FIXED_COLUMNS), None)
        row |= {"model": name, "family": "f"}
        for column in columns:
            if column.score:
                value = values.get(column.name)
                row |= {column.name: value, f"{column.name}_low": None, f"{column.name}_high": None}
                row[f"{column.name}_n"] = values.get(f"{column.name}_n", None if value is None else 500)
                row[f"{column.name}_bound"] = None
        made.append(row)
    return Board(
        benchmark="selectivity", version=1, dataset="digits", title="T", description="", ranked_by="clean_accuracy",
        columns=columns, total=len(made), rows=tuple(made), sort="model", order="asc", families=("f",),
    )  # fmt: skip
