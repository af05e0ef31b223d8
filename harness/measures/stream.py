"""What the drivers of measures share: images batch by batch with their labels, and the network's means over layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import InvalidArgument, ModelError
from harness.measures.base import NETWORK, MeasureEntry
from harness.measures.selectivity import unit_responses
from harness.types import FeatureModel

if TYPE_CHECKING:
    from harness.types import Labels

STATE_BYTES = 256 << 20
"""Sums that a driver holds at a time; where it needs more, it goes through the images again."""

GRAPH_PIXELS = 1 << 18
"""Pixels of the images whose graph is held at a time for backward passes."""

Indices = NDArray[np.int64]
Part = tuple[torch.Tensor, torch.Tensor, Indices]


def walk(batches: Iterable[torch.Tensor], labels: Labels, indices: Indices | None = None) -> Iterator[Part]:
    """(images, labels on their device, indices) batch by batch.

    Args:
        batches: float images in [0, 1], b x 3 x h x w each.
        labels: int64, one an image over all batches.
        indices: positions in the data set; 0, 1, 2, ... by default.

    Raises:
        InvalidArgument: batches, labels and indices do not cover the same images.
    """
    targets = torch.from_numpy(np.array(labels, dtype=np.int64))  # a copy: label arrays are read-only
    places = np.arange(len(targets)) if indices is None else np.asarray(indices, dtype=np.int64)
    if len(places) != len(targets):
        raise InvalidArgument("indices", f"{len(places)} positions", f"one for each of {len(targets)} labels")
    seen = 0
    for batch in batches:
        where = slice(seen, seen + batch.shape[0])
        seen += batch.shape[0]
        if seen > len(targets):
            break
        yield batch, targets[where].to(batch.device), places[where]
    if seen != len(targets) or not seen:
        raise InvalidArgument("batches", f"{seen} images", f"as many as labels, {len(targets)}, and at least one")


def graph_parts(part: Part) -> Iterator[Part]:
    """A batch in parts that are small enough for the graph of a backward pass."""
    images, labels, places = part
    rows = max(1, GRAPH_PIXELS // (images.shape[2] * images.shape[3]))
    for at in range(0, len(images), rows):
        yield images[at : at + rows], labels[at : at + rows], places[at : at + rows]


def responses_of(model: FeatureModel, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Layer -> responses (spatial means) of its units, n x units, float64 on the host; see `unit_responses`.

    Raises:
        InvalidArgument: the model has no `features`.
        ModelError: responses that are not finite.
    """
    check_features(model)
    with torch.no_grad():
        found = {layer: unit_responses(maps).double().cpu() for layer, maps in model.features(images).items()}
    for layer, values in found.items():
        if not bool(torch.isfinite(values).all()):
            raise ModelError(f"layer {layer!r}: activations are not finite")
    return found


def check_features(model: FeatureModel) -> None:
    """Refuse a model without named layers.

    Raises:
        InvalidArgument: it has no `features`.
    """
    if not hasattr(model, "features"):
        raise InvalidArgument("model", type(model).__name__, "a model with named features")


def with_network(layers: Mapping[str, Mapping[str, MeasureEntry]]) -> tuple[MeasureEntry, ...]:
    """Entries of the network, then of its layers; a network's number is the mean over its layers.

    Counts (quantities that begin with "dead", "silent" or "few") are added up. The network has no arrays of its own:
    units of different layers do not mix.

    Args:
        layers: layer -> quantity -> entry, the same quantities for each layer.
    """
    network: list[MeasureEntry] = []
    for quantity in next(iter(layers.values())):
        column = [entries[quantity] for entries in layers.values()]
        means = [entry.mean for entry in column]
        total = float(np.sum(means)) if quantity.startswith(("dead", "silent", "few")) else float(np.mean(means))
        network.append(MeasureEntry(layer=NETWORK, quantity=quantity, mean=total))
    return (*network, *(entry for entries in layers.values() for entry in entries.values()))


def layer_entries(
    layer: str, values: Mapping[str, float | tuple[float, NDArray[np.float32]]]
) -> dict[str, MeasureEntry]:
    """Entries of one layer from numbers, or numbers with the array behind them."""
    found = {}
    for quantity, value in values.items():
        mean, units = value if isinstance(value, tuple) else (value, None)
        found[quantity] = MeasureEntry(layer=layer, quantity=quantity, mean=float(mean), units=units)
    return found
