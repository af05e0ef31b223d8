"""Models with known answers, and images to attack them with."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from harness.attacks.physical import Passes


class Linear(nn.Module):
    """Logits W x + b on flattened images: every margin is known in closed form."""

    def __init__(
        self, classes: int, shape: tuple[int, int, int], seed: int = 0, scale: float = 1.0, centred: bool = False
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        features = shape[0] * shape[1] * shape[2]
        self.weight = nn.Parameter(torch.randn(classes, features, generator=generator) * scale)
        self.bias = nn.Parameter(torch.randn(classes, generator=generator) * 0.1)
        if centred:
            # grey images are on every boundary: near them radii are small against the box
            self.bias.data = -0.5 * self.weight.data.sum(dim=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x classes."""
        return images.flatten(1) @ self.weight.T + self.bias


class SmallConv(nn.Module):
    """Three convolutions with batch norm, like the zoo's small network."""

    def __init__(self, seed: int = 0, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        channels = 3
        for out, stride in ((width, 1), (2 * width, 2), (2 * width, 2)):
            layers += [nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
        self.eval()
        with torch.no_grad():
            # standardise each logit over random images, so that all classes are predicted and margins are small
            sample = self(torch.rand(128, 3, 16, 16))
            self.head.weight /= sample.std(dim=0).unsqueeze(1)
            self.head.bias.copy_((self.head.bias - sample.mean(dim=0)) / sample.std(dim=0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x classes."""
        features: torch.Tensor = self.body((images - 0.5) / 0.25).mean(dim=(2, 3))
        logits: torch.Tensor = self.head(features)
        return logits


@pytest.fixture
def linear() -> Callable[..., Linear]:
    """Makes linear models."""
    return Linear


@pytest.fixture(scope="session")
def small_conv() -> Callable[..., SmallConv]:
    """Makes small convolutional networks; the global generator is left as it was."""

    def make(seed: int = 0, width: int = 8, classes: int = 10) -> SmallConv:
        with torch.random.fork_rng(devices=[]):
            return SmallConv(seed, width, classes)

    return make


@pytest.fixture
def own_labels() -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    """What a model says about images: labels that make it right everywhere."""

    def label(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
        return Passes(model).logits(images).argmax(dim=1)

    return label


@pytest.fixture
def images() -> Callable[..., torch.Tensor]:
    """Makes random images in [low, high]."""

    def make(
        n: int, shape: tuple[int, int, int] = (3, 16, 16), seed: int = 1, low: float = 0.0, high: float = 1.0
    ) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    return make
