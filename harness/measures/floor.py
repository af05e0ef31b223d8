"""The class selectivity index of a network, and its floor: what it would be if labels meant nothing.

The index takes a maximum over noisy class means, so that it is above 0 for a unit that knows nothing of classes: with n
images a class and responses of coefficient of variation s about d / (2 + d), d = s E_C / sqrt(n), E_C the expected
maximum of C standard normal numbers (E_10 = 1.54). Permuting the labels of the same responses measures this floor:
class sizes and responses stay, their relation goes. Networks of different variability, or measured on different numbers
of images, are compared by what they have above their floors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness import rng
from harness.errors import ModelError
from harness.measures.base import FLOOR_VERSION, SELECTIVITY_VERSION, MeasureEntry, MeasureResult
from harness.measures.selectivity import DEAD_BELOW, selectivity_from_means
from harness.measures.stream import STATE_BYTES, layer_entries, responses_of, walk, with_network
from harness.types import FeatureModel

if TYPE_CHECKING:
    from harness.types import Labels


def permutations(seed: int, shuffles: Sequence[int], count: int) -> NDArray[np.int64]:
    """Permutations of 0..count-1, one a row: the order of 64-bit draws.

    Args:
        seed: of the stream "measure/selectivity_floor".
        shuffles: numbers of the permutations; each is drawn by itself.
        count: of what is permuted.
    """
    low, high = np.split(rng.words(seed, "measure/selectivity_floor", shuffles, 2 * count).astype(np.uint64), 2, axis=1)
    order: NDArray[np.int64] = np.argsort((high << np.uint64(32)) | low, axis=1, kind="stable").astype(np.int64)
    return order


def measure_selectivity(model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
    """The work of the measure "selectivity", in one pass; see `Measure.run`.

    Returns:
        "selectivity_index" (layers with one value a unit), "dead_units" (a count) and "selectivity_index_alive" (dead
        units left out, so that silencing units does not pass for selectivity).

    Raises:
        InvalidArgument: no `features`, batches and labels that differ, or one class alone.
        ModelError: activations that are not finite, or negative class means.
    """
    kinds, targets = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    layers = {}
    for layer, (index, largest) in _indices(model, batches, labels, targets[None, :], len(kinds)).items():
        units, alive = index[0], largest[0] >= DEAD_BELOW
        dead = int((~alive).sum())
        layers[layer] = layer_entries(
            layer,
            {
                "selectivity_index": (float(units.mean()), units.float().numpy()),
                "dead_units": dead,
                "selectivity_index_alive": float(units[alive].mean()) if dead < len(units) else 0.0,
            },
        )
    return MeasureResult(
        measure="selectivity", version=SELECTIVITY_VERSION, images=len(targets), entries=with_network(layers)
    )


def measure_floor(
    model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels, *, shuffles: int, seed: int
) -> MeasureResult:
    """The work of the measure "selectivity_floor"; see `Measure.run`.

    Returns:
        "floor" (layers with one value a unit, the mean over shuffles), "above_floor" (index minus floor; layers with
        one value a unit), "dead_units" (a count: largest class mean below 1e-6) and "dead_fraction".

    Raises:
        InvalidArgument: no `features`, batches and labels that differ, or one class alone.
        ModelError: activations that are not finite, or negative class means.
    """
    kinds, targets = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    sizes = {layer: values.shape[1] for layer, values in responses_of(model, next(iter(batches))[:1]).items()}
    bytes_each = 8 * (len(kinds) * sum(sizes.values()) + len(targets))  # of a shuffle: its sums and its labels
    at_once = max(1, STATE_BYTES // bytes_each)
    true = _indices(model, batches, labels, targets[None, :], len(kinds))
    floors: dict[str, list[torch.Tensor]] = {layer: [] for layer in sizes}
    walks = 1
    for first in range(0, shuffles, at_once):
        chosen = range(first, min(first + at_once, shuffles))
        drawn = np.empty((len(chosen), len(targets)), dtype=np.int64)
        for row, number in zip(drawn, chosen, strict=True):  # the draws behind one take several times its bytes
            row[:] = targets[permutations(seed, [number], len(targets))[0]]
        walks += 1
        for layer, (values, _) in _indices(model, batches, labels, drawn, len(kinds)).items():
            floors[layer].append(values)
    return MeasureResult(
        measure="selectivity_floor",
        version=FLOOR_VERSION,
        images=len(targets),
        entries=_entries(true, {layer: torch.cat(parts) for layer, parts in floors.items()}),
        forwards=walks * len(targets),
    )


def _indices(
    model: FeatureModel,
    batches: Iterable[torch.Tensor],
    labels: Labels,
    rows: NDArray[np.int64],
    classes: int,
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Layer -> (index, largest class mean), both rows x units, for each row of labels in one pass.

    Raises:
        ModelError: negative class means, of which the index is no index.
    """
    shuffled = torch.from_numpy(rows)
    sums: dict[str, torch.Tensor] = {}
    seen = 0
    for images, _, _ in walk(batches, labels):
        where = shuffled[:, seen : seen + len(images)] + classes * torch.arange(len(rows)).unsqueeze(1)
        seen += len(images)
        for layer, responses in responses_of(model, images).items():
            if layer not in sums:
                sums[layer] = torch.zeros(len(rows) * classes, responses.shape[1], dtype=torch.float64)
            for row in where:
                sums[layer].index_add_(0, row, responses)
    counts = torch.from_numpy(np.bincount(rows[0], minlength=classes)).double().unsqueeze(1)
    found = {}
    for layer, table in sums.items():
        means = table.reshape(len(rows), classes, -1) / counts
        if bool((means < 0).any()):
            raise ModelError(f"layer {layer!r}: activations are negative; the index needs non-negative ones")
        index = torch.stack([selectivity_from_means(part) for part in means])
        found[layer] = index, means.amax(1)
    return found


def _entries(
    true: dict[str, tuple[torch.Tensor, torch.Tensor]], floors: dict[str, torch.Tensor]
) -> tuple[MeasureEntry, ...]:
    layers = {}
    for layer, (index, largest) in true.items():
        units = floors[layer].mean(0)
        above = index[0] - units
        dead = int((largest[0] < DEAD_BELOW).sum())
        layers[layer] = layer_entries(
            layer,
            {
                "floor": (float(units.mean()), units.float().numpy()),
                "above_floor": (float(above.mean()), above.float().numpy()),
                "dead_units": dead,
                "dead_fraction": dead / len(above),
            },
        )
    return with_network(layers)
