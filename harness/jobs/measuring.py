"""How the kernel runs a measure: images read batch by batch, as often as the measure goes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.data import Dataset
from harness.jobs.present import among
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
    model, labels = among(model, data, data.labels[spec.start : spec.stop])
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
