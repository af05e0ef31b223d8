"""How the kernel runs a measure: images read batch by batch, as often as the measure goes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.data import Dataset
from harness.measures import MEASURES
from harness.outcome import MeasureValue
from harness.spec import MeasureSpec

if TYPE_CHECKING:
    from harness.types import FeatureModel, ImagesU8

MEASURE_BATCH = 128
"""Images in a batch of a measure: sums of floats depend on the cut, so it is not the user's to choose."""


@dataclass(frozen=True, slots=True)
class Batches:
    """Images [start, stop) of a data set in batches, read anew at each iteration: one batch is in memory at a time."""

    data: Dataset
    start: int
    stop: int
    convert: Callable[[ImagesU8], torch.Tensor]

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Float images in [0, 1], b x 3 x h x w."""
        for at in range(self.start, self.stop, MEASURE_BATCH):
            yield self.convert(self.data.images(at, min(at + MEASURE_BATCH, self.stop)))


class _Among:
    """A model with features whose logits are those of some classes alone: for sets that have a part of the classes."""

    def __init__(self, model: FeatureModel, present: tuple[int, ...]) -> None:
        self.model = model
        self.present = list(present)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x the classes that are present."""
        return self.model(images)[:, self.present]

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The model's own."""
        return self.model.features(images)


def run_measure(
    model: FeatureModel, spec: MeasureSpec, data: Dataset, convert: Callable[[ImagesU8], torch.Tensor]
) -> tuple[tuple[MeasureValue, ...], tuple[int, int]]:
    """Values of a measure, and the rows that went (forward, backward).

    Args:
        model: on its device, in eval mode.
        spec: the measure with its range and options.
        data: the images.
        convert: uint8 NHWC to float NCHW on the model's device.

    Raises:
        UnknownName: a measure or option that is not there.
        InvalidArgument: what the measure refuses.
        ModelError: numbers that are not finite.
    """
    labels = data.labels[spec.start : spec.stop]
    if data.present is not None:
        model, labels = _Among(model, data.present), np.searchsorted(data.present, labels)
    result = MEASURES.get(spec.measure).run(
        model,
        Batches(data, spec.start, spec.stop, convert),
        labels,
        options=dict(spec.options),
        indices=np.arange(spec.start, spec.stop),
    )
    values = tuple(
        MeasureValue(layer=entry.layer, quantity=entry.quantity, mean=entry.mean, units=entry.units)
        for entry in result.entries
    )
    return values, (result.images if result.forwards is None else result.forwards, result.backwards)
