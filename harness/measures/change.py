"""Dimensionality of the change that perturbations make (Leavitt & Morcos, arXiv 2010.07693 and 2007.04440).

Of each image the responses to the perturbed copy minus those to the clean one, row by row, and the principal components
of these differences: in how many directions a layer moves. That is another thing than the difference of the two
dimensionalities, which is given beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import InvalidArgument
from harness.measures.base import DIMENSIONALITY_ATTACK_VERSION, DIMENSIONALITY_CORRUPTIONS_VERSION, MeasureResult
from harness.measures.dimensionality import THRESHOLDS, CovarianceAccumulator, fractions, spectrum_of
from harness.measures.perturbed import ascended, corrupted
from harness.measures.stream import STATE_BYTES, Indices, Part, layer_entries, responses_of, walk, with_network
from harness.spec import as_norm, parse_eps
from harness.types import FeatureModel

if TYPE_CHECKING:
    from harness.types import Labels

Perturb = Callable[[Part], torch.Tensor]
"""A batch with labels and indices to its perturbed images."""

Sums = dict[str, CovarianceAccumulator]


@dataclass(slots=True)
class _Moved:
    """Sums of one condition, layer by layer."""

    change: Sums
    perturbed: Sums


def changes(
    model: FeatureModel,
    batches: Iterable[torch.Tensor],
    labels: Labels,
    conditions: Sequence[Perturb],
    indices: Indices | None = None,
) -> tuple[dict[str, dict[str, NDArray[np.float64]]], int]:
    """Fractions of dimensionality, clean, perturbed and of the change, under each condition.

    Args:
        model: with `features`, in eval mode.
        batches: float images; gone through again where the sums of all conditions do not fit into memory together.
        labels: int64, one an image.
        conditions: what perturbs.
        indices: positions in the data set.

    Returns:
        Layer -> quantity -> one value a condition; quantities are "clean_fraction_P", "perturbed_fraction_P",
        "change_fraction_P" and "difference_P" (perturbed minus clean) for P of 90, 95 and 99. And the number of times
        that all images went through the model clean.
    """
    sizes = {layer: values.shape[1] for layer, values in responses_of(model, next(iter(batches))[:1]).items()}
    at_once = max(1, STATE_BYTES // (16 * sum(units * units for units in sizes.values())))
    columns: dict[str, dict[str, list[float]]] = {layer: {} for layer in sizes}
    walks = 0
    for first in range(0, len(conditions), at_once):
        chosen = conditions[first : first + at_once]
        clean, moved = _walked(model, walk(batches, labels, indices), chosen, sizes)
        walks += 1
        for layer, sums in clean.items():
            before, power = fractions(spectrum_of(sums)), sums.power()
            for condition in moved:
                for name, value in _row(before, power, condition, layer).items():
                    columns[layer].setdefault(name, []).append(value)
    return {layer: {name: np.array(row) for name, row in table.items()} for layer, table in columns.items()}, walks


def _walked(
    model: FeatureModel, parts: Iterable[Part], conditions: Sequence[Perturb], sizes: Mapping[str, int]
) -> tuple[Sums, list[_Moved]]:
    """One pass: sums of the clean responses, and of each condition."""

    def fresh() -> Sums:
        return {layer: CovarianceAccumulator(units) for layer, units in sizes.items()}

    clean, moved = fresh(), [_Moved(fresh(), fresh()) for _ in conditions]
    for part in parts:
        before = responses_of(model, part[0])
        for layer, rows in before.items():
            clean[layer].update(rows)
        for perturb, sums in zip(conditions, moved, strict=True):
            for layer, rows in responses_of(model, perturb(part)).items():
                sums.perturbed[layer].update(rows)
                sums.change[layer].update(rows - before[layer])
    return clean, moved


def _row(before: Mapping[int, float], power: float, moved: _Moved, layer: str) -> dict[str, float]:
    """One layer under one condition; `before` and `power` are its clean fractions and mean square."""
    after = fractions(spectrum_of(moved.perturbed[layer]))
    change = fractions(spectrum_of(moved.change[layer], power))
    values = {}
    for percent in THRESHOLDS:
        values[f"change_fraction_{percent}"] = change[percent]
        values[f"clean_fraction_{percent}"] = before[percent]
        values[f"perturbed_fraction_{percent}"] = after[percent]
        values[f"difference_{percent}"] = after[percent] - before[percent]
    return values


def _result(
    measure: str,
    version: str,
    table: Mapping[str, Mapping[str, NDArray[np.float64]]],
    images: int,
    passes: tuple[int, int],
) -> MeasureResult:
    layers = {
        layer: layer_entries(
            layer, {name: (float(row.mean()), row.astype(np.float32)) for name, row in columns.items()}
        )
        for layer, columns in table.items()
    }
    return MeasureResult(
        measure=measure,
        version=version,
        images=images,
        entries=with_network(layers),
        forwards=images * passes[0],
        backwards=images * passes[1],
    )


def measure_corruptions(
    model: FeatureModel,
    batches: Iterable[torch.Tensor],
    labels: Labels,
    *,
    suite: str,
    corruptions: str,
    severities: str,
    seed: int,
    indices: Indices | None,
) -> MeasureResult:
    """The work of the measure "dimensionality_corruptions"; see `Measure.run` and `changes`.

    A layer's number is the mean over conditions; its array has one value a condition: the corruptions in the order of
    the option, each at its severities.

    Raises:
        InvalidArgument: no `features`, batches and labels that differ, images of a size that is not the suite's.
        ModelError: activations that are not finite.
    """

    def perturb(name: str, severity: int) -> Perturb:
        return lambda part: corrupted(part[0], name, severity, suite=suite, seed=seed, indices=part[2])

    conditions = [perturb(name, int(level)) for name in corruptions.split(",") for level in severities.split(",")]
    table, walks = changes(model, batches, labels, conditions, indices)
    return _result(
        "dimensionality_corruptions",
        DIMENSIONALITY_CORRUPTIONS_VERSION,
        table,
        len(labels),
        (walks + len(conditions), 0),
    )


def measure_attack(
    model: FeatureModel,
    batches: Iterable[torch.Tensor],
    labels: Labels,
    *,
    norm: str,
    eps: str,
    steps: int,
    step_size: float,
    random_start: bool,
    seed: int,
    indices: Indices | None,
) -> MeasureResult:
    """The work of the measure "dimensionality_attack"; see `Measure.run` and `changes`.

    Raises:
        InvalidArgument: no `features`, or batches and labels that differ.
        ModelError: activations or logits that are not finite, no gradient.
    """
    kind = as_norm(norm)
    if kind == "L1":
        raise InvalidArgument("norm", norm, "Linf or L2")

    def perturb(part: Part) -> torch.Tensor:
        images, targets, places = part
        return ascended(
            model,
            images,
            targets,
            norm=kind,
            eps=parse_eps(eps),
            steps=steps,
            step_size=step_size,
            random_start=random_start,
            seed=seed,
            indices=places,
        )

    table, walks = changes(model, batches, labels, [perturb], indices)
    passes = (walks + 1 + steps, steps)
    return _result("dimensionality_attack", DIMENSIONALITY_ATTACK_VERSION, table, len(labels), passes)
