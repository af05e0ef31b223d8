"""A real network for the measures: the bundled resnet20 on handwritten digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from harness.data import open_dataset
from harness.jobs.context import find_models, load
from harness.types import FeatureModel

Table = NDArray[np.float64]


@dataclass(frozen=True)
class Digits:
    """A model with its images and labels, and the responses of its units by NumPy."""

    model: FeatureModel
    images: torch.Tensor
    labels: NDArray[np.int64]

    def responses(self, images: torch.Tensor | None = None) -> dict[str, Table]:
        """Layer -> n x units: spatial means taken in float64 by NumPy."""
        with torch.no_grad():
            maps = self.model.features(self.images if images is None else images)
        return {layer: values.double().numpy().mean(axis=(2, 3)) for layer, values in maps.items()}


def floats(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 NHWC to float NCHW in [0, 1]."""
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2).float().div(255).contiguous()


@pytest.fixture(scope="session")
def digits() -> Digits:
    """The bundled resnet20 on 96 test images."""
    data = open_dataset("digits")
    (source,) = find_models(None, ["resnet20.supervised.digits.s0"])
    return Digits(model=load(source), images=floats(data.images(0, 96)), labels=data.labels[:96])


class Linear(torch.nn.Module):
    """Logits = W x + b on flattened images; its one layer of features is the logits above their smallest value."""

    def __init__(self, classes: int = 4, side: int = 4, seed: int = 0) -> None:
        super().__init__()
        self.last = torch.nn.Linear(3 * side * side, classes)
        torch.nn.init.normal_(self.last.weight, generator=torch.Generator().manual_seed(seed))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x classes."""
        logits: torch.Tensor = self.last(images.flatten(1))
        return logits

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """One layer, signed."""
        return {"last": self(images)}


class TwoMaps(torch.nn.Module):
    """A convolution and a ReLU: one layer of 6 maps, the last of them dead; logits are their means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3)
        torch.nn.init.normal_(self.conv.weight, std=0.2, generator=torch.Generator().manual_seed(1))
        torch.nn.init.constant_(self.conv.bias, 1.0)  # type: ignore[arg-type]
        with torch.no_grad():
            self.conv.weight[5], self.conv.bias[5] = 0.0, -1.0  # type: ignore[index]

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """One layer."""
        return {"maps": F.relu(self.conv(images))}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x 6."""
        return self.features(images)["maps"].mean((2, 3))
