"""What was measured of a model: per-layer tables out of the store. No torch, no HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from harness.digest import canonical_json
from harness.errors import UnknownName
from harness.measures import MEASURES
from harness.measures.base import NETWORK
from harness.measures.catalogue import conditions
from harness.outcome import MeasureValue
from harness.spec import DataRef, EvaluationSpec, MeasureSpec, perturbation_from_identity
from harness.storage.queries import Reader
from harness.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Distribution of the values behind a number: percentiles 5, 25, 50, 75 and 95 of `n` values."""

    p05: float
    p25: float
    p50: float
    p75: float
    p95: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number with the distribution behind it, where there is one."""

    mean: float
    spread: Spread | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureTable:
    """One measure of one model under one set of options on one data set."""

    model: str
    measure: str
    version: str
    current: bool
    """False if this robustboard would measure it in another version."""
    options: Mapping[str, object]
    parts: str
    """What the values behind a number are: units, conditions or images."""
    dataset: str
    split: str
    dataset_digest: str
    images: int
    dataset_images: int
    """Images in the whole split."""
    evaluation: str
    """Digest of the evaluation."""
    network: Mapping[str, Quantity]
    """Quantity -> the network's."""
    layers: Mapping[str, Mapping[str, Quantity]]
    """Layer, in forward order -> quantity -> the layer's; none for measures of the logits alone."""
    conditions: Mapping[str, Mapping[str, float]]
    """Condition ("fog/3") -> quantity -> mean over layers; for measures over several conditions."""

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantities that the network and all layers have, in the measure's order."""
        return tuple(name for name in self.network if all(name in values for values in self.layers.values()))

    def over_layers(self, quantity: str) -> tuple[float, ...]:
        """A quantity layer by layer."""
        return tuple(values[quantity].mean for values in self.layers.values())

    def to_dict(self) -> Json:
        """Plain data, the same on the command line and over HTTP."""
        return {
            "measure": self.measure,
            "version": self.version,
            "current": self.current,
            "options": dict(self.options),
            "parts": self.parts,
            "dataset": self.dataset,
            "split": self.split,
            "dataset_digest": self.dataset_digest,
            "images": self.images,
            "dataset_images": self.dataset_images,
            "evaluation": self.evaluation,
            "network": {name: asdict(value) for name, value in self.network.items()},
            "layers": [
                {"name": layer, "values": {name: asdict(value) for name, value in values.items()}}
                for layer, values in self.layers.items()
            ],
            "conditions": [{"name": name, "values": dict(values)} for name, values in self.conditions.items()],
        }


def model_measures(store: Reader, model_name: str) -> tuple[MeasureTable, ...]:
    """All that was measured of a model, each measure with its options and data set once.

    Of several versions today's counts, of several ranges of images the largest, of equals the one stored last.

    Args:
        store: where values are.
        model_name: a registered model; its current revision counts.

    Returns:
        Tables by data set, in the order in which measures are registered. Measures that are no longer registered are
        left out.

    Raises:
        UnknownName: the store has no such model.
    """
    evaluations = [item for item in store.evaluations(model=model_name) if item.kind == "measure"]
    stored = store.measures([item.digest for item in evaluations])
    chosen: dict[tuple[str, str, str], tuple[tuple[bool, int], MeasureSpec, DataRef, str]] = {}
    for item in evaluations:
        spec = perturbation_from_identity(item.perturbation)
        # one that failed has an evaluation without values
        if item.digest not in stored or not isinstance(spec, MeasureSpec) or spec.measure not in MEASURES:
            continue
        key = (item.data.digest, spec.measure, canonical_json(dict(spec.options)))
        rank = (_is_current(spec), spec.stop - spec.start)
        if key not in chosen or rank >= chosen[key][0]:
            chosen[key] = rank, spec, item.data, item.digest
    order = {name: place for place, name in enumerate(MEASURES.names())}
    tables = [_table(model_name, spec, data, digest, stored[digest]) for _, spec, data, digest in chosen.values()]
    return tuple(sorted(tables, key=lambda table: (table.dataset, order[table.measure])))


def evaluation_tables(store: Reader, model_name: str, specs: Iterable[EvaluationSpec]) -> tuple[MeasureTable, ...]:
    """The tables of exactly these evaluations of a model, in their order; those without stored values are left out."""
    wanted = {spec.digest: spec for spec in specs}
    stored = store.measures(wanted)
    return tuple(
        _table(model_name, spec.perturbation, spec.data, digest, stored[digest])
        for digest, spec in wanted.items()
        if digest in stored and isinstance(spec.perturbation, MeasureSpec)
    )


def choose_tables(tables: Sequence[MeasureTable], model_name: str) -> tuple[MeasureTable, ...]:
    """The tables; at least one.

    Raises:
        UnknownName: nothing was measured.
    """
    if not tables:
        raise UnknownName("measures of model", model_name, ())
    return tuple(tables)


def tables_to_dict(model_name: str, tables: Iterable[MeasureTable]) -> Json:
    """What a machine gets of one model."""
    return {"model": model_name, "measures": [table.to_dict() for table in tables]}


def _is_current(spec: MeasureSpec) -> bool:
    """Whether today's measure would be of the same version; options that it no longer takes make it another."""
    measure = MEASURES.get(spec.measure)
    options = dict(spec.options)
    return set(options) == set(measure.options) and measure.version_with(options) == spec.version


def _table(model: str, spec: MeasureSpec, data: DataRef, digest: str, values: Sequence[MeasureValue]) -> MeasureTable:
    by_layer: dict[str, dict[str, Quantity]] = {}
    for value in values:
        by_layer.setdefault(value.layer, {})[value.quantity] = Quantity(mean=value.mean, spread=_spread(value.units))
    measure = MEASURES.get(spec.measure)
    return MeasureTable(
        model=model,
        measure=spec.measure,
        version=spec.version,
        current=_is_current(spec),
        options=dict(spec.options),
        parts=measure.parts,
        dataset=data.name,
        split=data.split,
        dataset_digest=data.digest,
        images=spec.stop - spec.start,
        dataset_images=data.images,
        evaluation=digest,
        network=by_layer.pop(NETWORK, {}),
        layers=by_layer,
        conditions=_conditions(spec, values),
    )


def _spread(units: NDArray[np.float32] | None) -> Spread | None:
    """Percentiles of an array; NaN stands for values that were left out."""
    if units is None:
        return None
    finite = units[np.isfinite(units)].astype(np.float64)
    if not finite.size:
        return None
    p05, p25, p50, p75, p95 = (float(value) for value in np.percentile(finite, (5, 25, 50, 75, 95)))
    return Spread(p05=p05, p25=p25, p50=p50, p75=p75, p95=p95, n=finite.size)


def _conditions(spec: MeasureSpec, values: Iterable[MeasureValue]) -> dict[str, dict[str, float]]:
    options = dict(spec.options)
    if not {"corruptions", "severities"} <= set(options):
        return {}
    names = conditions(options)
    columns: dict[str, list[NDArray[np.float32]]] = {}
    for value in values:
        if value.layer != NETWORK and value.units is not None and len(value.units) == len(names):
            columns.setdefault(value.quantity, []).append(value.units)
    means = {name: np.stack(arrays).astype(np.float64).mean(axis=0).tolist() for name, arrays in columns.items()}
    return {name: {quantity: column[place] for quantity, column in means.items()} for place, name in enumerate(names)}
