"""The contract of an architecture: a network on normalised images that can record its named features on the way."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from harness.errors import InvalidArgument

Record: TypeAlias = dict[str, torch.Tensor] | None
"""Where a forward pass leaves its features; None keeps nothing alive."""


class Network(nn.Module, abc.ABC):
    """A network without its normalisation.

    In eval mode it treats images independently. It writes nothing in place into a tensor that it has recorded.
    """

    @abc.abstractmethod
    def run(self, images: torch.Tensor, record: Record) -> torch.Tensor:
        """Logits of normalised images, recording features in forward order.

        Args:
            images: normalised, n x 3 x h x w.
            record: gets layer name -> activations after the non-linearity, or None.

        Returns:
            Logits, n x classes.
        """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x classes, of normalised images, n x 3 x h x w."""
        return self.run(images, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A registered architecture.

    Args:
        name: first part of the names of its models.
        version: part of the model digest; bumped whenever the same weights would give other logits.
        builder: (classes, (height, width)) -> network with fresh weights from torch's random state.
        min_size: smallest height and width of images.
        classifier: name of the weight whose rows are the classes.
    """

    name: str
    version: str
    builder: Callable[[int, tuple[int, int]], Network]
    min_size: int
    default_size: tuple[int, int]
    classifier: str
    description: str
    citation: str

    def build(self, classes: int, input_size: tuple[int, int] | None = None, *, seed: int = 0) -> Network:
        """A network with fresh weights; torch's global random state is left as it was.

        Args:
            classes: number of classes, at least 2.
            input_size: (height, width) of images; `default_size` if None.
            seed: of the weights.

        Raises:
            InvalidArgument: too few classes or too small images.
        """
        size = self.default_size if input_size is None else input_size
        if classes < 2:
            raise InvalidArgument("classes", classes, "at least 2")
        if min(size) < self.min_size:
            raise InvalidArgument("input_size", size, f"at least {self.min_size} x {self.min_size} for {self.name}")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # of the CPU alone: torch.manual_seed reseeds every device
            return self.builder(classes, size)
