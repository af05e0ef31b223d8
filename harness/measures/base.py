"""What a measure is: a number about a model's representation, by layer, with the units behind it. No torch here."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from harness.types import FeatureModel, Labels

SELECTIVITY_VERSION = "1"
"""Version of the measure "selectivity"."""

NETWORK = ""
"""Layer name of an entry about the whole network."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasureEntry:
    """One quantity of one layer."""

    layer: str
    """Name of the layer as `FeatureModel.features` has it, or "" for the network."""
    quantity: str
    """E.g. "selectivity_index"."""
    mean: float
    """The layer's (or network's) number."""
    units: NDArray[np.float32] | None = None
    """The quantity unit by unit, float32, or None where it has no units."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasureResult:
    """All entries of a measure, layers in forward order, the network's first."""

    measure: str
    version: str
    images: int
    """Images that the numbers rest on."""
    entries: tuple[MeasureEntry, ...]

    def value(self, quantity: str, layer: str = NETWORK) -> float:
        """The mean of one entry.

        Raises:
            KeyError: there is no such entry.
        """
        for entry in self.entries:
            if entry.quantity == quantity and entry.layer == layer:
                return entry.mean
        raise KeyError((layer, quantity))


class MeasureFunction(Protocol):
    """The work of a measure."""

    def __call__(self, model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
        """See `Measure.run`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A registered measure; the code behind it is imported when it is first run.

    Args:
        name: what boards and benchmark files call it.
        version: bumped whenever the same model and images could give another number.
        target: "module:function" of a `MeasureFunction`.
    """

    name: str
    version: str
    target: str
    description: str

    def run(self, model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels) -> MeasureResult:
        """Measure `model` in one pass over `batches`, in bounded memory.

        Args:
            model: a classifier with `features`, in eval mode; batches are moved to its device by the caller.
            batches: float images in [0, 1], each b x 3 x h x w, in the order of `labels`.
            labels: int64, one for each image of all batches together.

        Raises:
            InvalidArgument: the model has no `features`, or batches and labels do not cover the same images.
        """
        module, _, attribute = self.target.partition(":")
        function = cast("MeasureFunction", getattr(importlib.import_module(module), attribute))
        return function(model, batches, labels)
