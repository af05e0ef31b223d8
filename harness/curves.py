"""How a model holds up corruption by corruption: the grid corruptions x severities out of the store, with its means.

A view of verdicts that are stored already; every number comes from `harness.metrics`. No torch, no HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from harness.corruptions.suites import REFERENCE_VERSION, SEVERITIES, SUITES, Suite
from harness.errors import UnknownName
from harness.metrics.accuracy import accuracy, family_means, mean_accuracy, per_image_means, severity_curves
from harness.metrics.intervals import mean_interval, wilson
from harness.spec import CorruptionSpec, DataRef, perturbation_from_identity
from harness.storage.queries import Reader
from harness.storage.records import StoredEvaluation
from harness.target import PUBLISHED, REGENERATED, CellRef, Target
from harness.types import Json

Fingerprint: TypeAlias = tuple[tuple[str, int], ...]
_Table: TypeAlias = dict[tuple[str, int], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridValue:
    """An accuracy with its 95 % interval and the images that it rests on.

    The interval is Wilson's where each image has one verdict, a bootstrap over images where the value is a mean over
    perturbations.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionGrid:
    """Accuracies of one model under one suite on one data set, fractions in [0, 1].

    Everything that enters a mean rests on the same leading images: `images`, the most that all computed cells of the
    benchmark corruptions share. A mean of which any part is missing is None.
    """

    model: str
    suite: str
    component: str
    """What made the images, without its running number: "engine", "imagecorruptions-1.1.2"."""
    versions: tuple[str, ...]
    """Versions of the component in this grid; corruptions have versions of their own."""
    current: bool
    """False if any cell was made by a version that this robustboard no longer has."""
    seed: int
    dataset: str
    split: str
    dataset_digest: str
    images: int
    dataset_images: int
    """Images in the whole split."""
    families: Mapping[str, tuple[str, ...]]
    """Family -> corruptions that enter means, in published order."""
    extra: tuple[str, ...]
    """Corruptions that are listed and enter no mean."""
    clean: GridValue | None
    """Without corruption, on the same leading images, where that was evaluated."""
    cells: Mapping[str, tuple[GridValue | None, ...]]
    """Corruption -> its values at the severities 1 to 5, None where not evaluated: families first, then `extra`."""
    means: Mapping[str, float | None]
    """Corruption -> mean over severities."""
    severity_means: tuple[float | None, ...]
    """Severity 1 to 5 -> mean over the corruptions of all families."""
    family_values: Mapping[str, GridValue | None]
    """Family -> mean over its corruptions and severities."""
    overall: GridValue | None
    """Mean over all families' corruptions and severities: a board's `mean_accuracy` on the same images."""

    @property
    def complete(self) -> bool:
        """True if every corruption of the families was evaluated at every severity."""
        return self.overall is not None

    @property
    def extras_shown(self) -> tuple[str, ...]:
        """Extra corruptions with any value."""
        return tuple(name for name in self.extra if any(self.cells[name]))

    def to_dict(self) -> Json:
        """Plain data, the same on the command line and over HTTP."""
        return {
            "suite": self.suite,
            "component": self.component,
            "versions": list(self.versions),
            "current": self.current,
            "seed": self.seed,
            "dataset": self.dataset,
            "split": self.split,
            "dataset_digest": self.dataset_digest,
            "images": self.images,
            "dataset_images": self.dataset_images,
            "complete": self.complete,
            "severities": list(SEVERITIES),
            "clean": _plain(self.clean),
            "overall": _plain(self.overall),
            "families": [
                {"name": family, "corruptions": list(names), "mean": _plain(self.family_values[family])}
                for family, names in self.families.items()
            ],
            "severity_means": list(self.severity_means),
            "corruptions": [
                {
                    "name": name,
                    "family": next((family for family, names in self.families.items() if name in names), None),
                    "mean": self.means[name],
                    "cells": [_plain(cell) for cell in row],
                }
                for name, row in self.cells.items()
            ],
        }


def corruption_curves(store: Reader, model_name: str) -> tuple[CorruptionGrid, ...]:
    """One grid for each suite, component, seed and data set content that a model was corrupted with.

    Of a corruption that several versions of a component made, only the newest counts. A suite or corruption that is no
    longer registered has no families to be grouped by and is left out.

    Args:
        store: where verdicts are.
        model_name: a registered model; its current revision counts.

    Returns:
        Grids by suite and data set, those of current versions first, of equals the one stored last first.

    Raises:
        UnknownName: the store has no such model.
    """
    evaluations = store.evaluations(model=model_name)
    targets = [target for item in store.datasets() if (target := store.target(item.ref)).cells]
    clean = {item.data.digest: item.digest for item in evaluations if item.kind == "clean"}
    clean |= {target.data.digest: clean.get(target.clean.digest, "") for target in targets}
    grids = []
    for (suite_name, _, data_digest, seed), members in reversed(_grouped(evaluations, targets).items()):
        suite = SUITES.get(suite_name)
        newest = _newest(members)
        stored = store.verdicts([item.digest for _, item in newest] + [clean.get(data_digest, "")])
        table = {
            (spec.name, spec.severity): stored[item.digest]
            for spec, item in newest
            if stored.get(item.digest, np.zeros(0)).size
        }
        if table:
            bits = stored.get(clean.get(data_digest, ""))
            grids.append(_grid(model_name, suite, [spec for spec, _ in newest], newest[0][1].data, seed, table, bits))
    return tuple(sorted(grids, key=lambda grid: (not grid.current, grid.suite, grid.dataset)))


def fingerprint(store: Reader, model_name: str) -> Fingerprint:
    """What the grids of a model rest on: (digest, images) of its evaluations. Equal ones give equal grids.

    Raises:
        UnknownName: the store has no such model.
    """
    return tuple(
        (item.digest, item.n) for item in store.evaluations(model=model_name) if item.kind in ("clean", "corruption")
    )


def choose_grids(
    grids: Sequence[CorruptionGrid], model_name: str, *, suite: str | None = None, dataset: str | None = None
) -> tuple[CorruptionGrid, ...]:
    """The grids of a suite and a data set; at least one.

    Raises:
        UnknownName: there is none, with the nearest name that there is.
    """
    if not grids:
        raise UnknownName("corruption results of model", model_name, ())
    if suite is not None and suite not in {grid.suite for grid in grids}:
        raise UnknownName("suite of this model", suite, {grid.suite for grid in grids})
    kept = [grid for grid in grids if suite in (None, grid.suite)]
    if dataset is not None and dataset not in {grid.dataset for grid in kept}:
        raise UnknownName("data set of this model and suite", dataset, {grid.dataset for grid in kept})
    return tuple(grid for grid in kept if dataset in (None, grid.dataset))


def grids_to_dict(model_name: str, grids: Iterable[CorruptionGrid]) -> Json:
    """What a machine gets of one model."""
    return {"model": model_name, "grids": [grid.to_dict() for grid in grids]}


_Member: TypeAlias = tuple[CorruptionSpec, StoredEvaluation]


def _grouped(
    evaluations: Iterable[StoredEvaluation], targets: Iterable[Target]
) -> dict[tuple[str, str, str, int], list[_Member]]:
    """(suite, component, data set digest, seed) -> evaluations of registered suites and corruptions.

    Cells of corrupted files are clean evaluations of a data set of their own; their component is where they come from.
    """
    files: dict[
        str, list[tuple[Target, CellRef]]
    ] = {}  # cells may hold the same images: grey has no colour to saturate
    for target in targets:
        for cell in target.cells:
            files.setdefault(cell.data.digest, []).append((target, cell))
    groups: dict[tuple[str, str, str, int], list[_Member]] = {}
    for item in evaluations:
        spec = perturbation_from_identity(item.perturbation)
        members: list[_Member] = [(spec, item)] if isinstance(spec, CorruptionSpec) else []
        if item.kind == "clean":
            members = [
                (_file_spec(target, cell), replace(item, data=target.data))
                for target, cell in files.get(item.data.digest, ())
            ]
        for found, member in members:
            if found.suite in SUITES and found.name in SUITES.get(found.suite).names:
                key = (found.suite, _component(found.version)[0], member.data.digest, found.seed)
                groups.setdefault(key, []).append((found, member))
    return groups


def _file_spec(target: Target, cell: CellRef) -> CorruptionSpec:
    """What a cell of corrupted files would be called, had its images been made in memory."""
    return CorruptionSpec(
        suite=target.suite, name=cell.corruption, severity=cell.severity, seed=0, version=target.source
    )


def _component(version: str) -> tuple[str, int]:
    """A version as the component and its running number: "engine-2" -> ("engine", 2)."""
    found = re.fullmatch(r"(.+)[-/+](\d{1,9})", version, flags=re.DOTALL)
    return (found[1], int(found[2])) if found else (version, 0)


def _newest(members: Sequence[_Member]) -> list[_Member]:
    """The evaluations of each corruption's newest version."""
    latest: dict[str, int] = {}
    for spec, _ in members:
        latest[spec.name] = max(latest.get(spec.name, 0), _component(spec.version)[1])
    return [(spec, item) for spec, item in members if _component(spec.version)[1] == latest[spec.name]]


def _grid(
    model: str,
    suite: Suite,
    specs: Sequence[CorruptionSpec],
    data: DataRef,
    seed: int,
    table: _Table,
    clean: NDArray[np.bool_] | None,
) -> CorruptionGrid:
    counted = [cell for cell in table if cell[0] in suite.benchmark]
    images = min(table[cell].size for cell in counted or table)
    table = {cell: bits[:images] for cell, bits in table.items()}
    cells = {name: tuple(_cell(table.get((name, severity))) for severity in SEVERITIES) for name in suite.names}
    means = _means(cells)
    families: dict[str, tuple[str, ...]] = {str(family): names for family, names in suite.families.items()}
    return CorruptionGrid(
        model=model,
        suite=suite.name,
        component=_component(specs[0].version)[0],
        versions=tuple(sorted({spec.version for spec in specs})),
        current=all(
            spec.version in (suite.version(spec.name), REFERENCE_VERSION, PUBLISHED, REGENERATED) for spec in specs
        ),
        seed=seed,
        dataset=data.name,
        split=data.split,
        dataset_digest=data.digest,
        images=images,
        dataset_images=data.images,
        families=families,
        extra=suite.extra,
        clean=_cell(clean[:images] if clean is not None and clean.size else None),
        cells=cells,
        means=means,
        severity_means=tuple(_severity_mean(table, suite.benchmark, severity) for severity in SEVERITIES),
        family_values={family: _family_value(table, family, names, means) for family, names in families.items()},
        overall=_overall(table, suite.benchmark),
    )


def _cell(bits: NDArray[np.bool_] | None) -> GridValue | None:
    """Accuracy under one perturbation, with Wilson's interval."""
    if bits is None:
        return None
    low, high = wilson(int(np.count_nonzero(bits)), bits.size)
    return GridValue(value=accuracy(bits), low=low, high=high, n=bits.size)


def _means(cells: Mapping[str, tuple[GridValue | None, ...]]) -> dict[str, float | None]:
    """Corruption -> mean over its severities; None unless all of them are there."""
    whole = {
        (name, severity): cell.value
        for name, row in cells.items()
        for severity, cell in zip(SEVERITIES, row, strict=True)
        if cell is not None and None not in row
    }
    curves = severity_curves(whole) if whole else {}
    return {name: sum(curves[name]) / len(curves[name]) if name in curves else None for name in cells}


def _severity_mean(table: _Table, names: Sequence[str], severity: int) -> float | None:
    rows = _rows(table, names, (severity,))
    return None if rows is None else mean_accuracy(rows)


def _family_value(
    table: _Table, family: str, names: Sequence[str], means: Mapping[str, float | None]
) -> GridValue | None:
    rows = _rows(table, names, SEVERITIES)
    if rows is None:
        return None
    known = {name: mean for name, mean in means.items() if mean is not None}
    return _resampled(rows, family_means(known, {family: names})[family])


def _overall(table: _Table, names: Sequence[str]) -> GridValue | None:
    rows = _rows(table, names, SEVERITIES)
    return None if rows is None else _resampled(rows, mean_accuracy(rows))


def _rows(table: _Table, names: Sequence[str], severities: Sequence[int]) -> NDArray[np.bool_] | None:
    """Verdicts perturbations x images; None if any perturbation is missing."""
    wanted = [(name, severity) for name in names for severity in severities]
    if any(cell not in table for cell in wanted):
        return None
    return np.stack([table[cell] for cell in wanted])


def _resampled(rows: NDArray[np.bool_], value: float) -> GridValue:
    """A mean over perturbations with a bootstrap over images: the 75 versions of one image are not independent."""
    low, high = mean_interval(per_image_means(rows), (0.0, 1.0))
    return GridValue(value=value, low=low, high=high, n=rows.shape[1])


def _plain(value: GridValue | None) -> Json:
    return None if value is None else asdict(value)
