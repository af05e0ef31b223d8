"""Sets with a part of a model's classes (ImageNet-A and -R, say): models are judged among those that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.data import Dataset
    from harness.types import FeatureModel


class Among(torch.nn.Module):
    """A model with the logits of some of its classes alone. It has no mode of its own: the model's modules keep theirs.

    Args:
        model: logits of all classes.
        present: positions of those that count, ascending.
    """

    def __init__(self, model: FeatureModel, present: tuple[int, ...]) -> None:
        super().__init__()
        self.training = False
        self.inner = model
        self.present = list(present)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x the classes that are present."""
        return self.inner(images)[:, self.present]

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The model's own."""
        return self.inner.features(images)


def among(model: FeatureModel, data: Dataset, labels: NDArray[np.int64]) -> tuple[FeatureModel, NDArray[np.int64]]:
    """A model and labels among the classes that a set has; both as they are where it lacks none.

    Args:
        model: logits of all classes of the set.
        data: the set.
        labels: of any of its images.

    Returns:
        The model whose outputs are the classes that are present, and the labels as positions among them.
    """
    if data.present is None or len(data.present) == len(data.classes):
        return model, labels
    return Among(model, data.present), np.searchsorted(data.present, labels)
