"""A zoo model: a network with its normalisation inside, so that every attack works in pixel space."""

from __future__ import annotations

import torch
from torch import nn

from models_zoo.architectures.base import Network
from models_zoo.cards import ModelCard


class ZooModel(nn.Module):
    """Float images in [0, 1] to logits, with named features and the model's card.

    Args:
        network: takes normalised images.
        card: its mean and std are subtracted and divided by, channel by channel.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: Network, card: ModelCard) -> None:
        super().__init__()
        self.network = network
        self.card = card
        # Not persistent: the card holds them, and the weights digest covers the network alone.
        self.register_buffer("mean", torch.tensor(card.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(card.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x classes, of float images in [0, 1], n x 3 x h x w (NCHW)."""
        logits: torch.Tensor = self.network((images - self.mean) / self.std)
        return logits

    def forward_with_features(self, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Logits and features of one pass; see `forward` and `features`."""
        record: dict[str, torch.Tensor] = {}
        logits = self.network.run((images - self.mean) / self.std, record)
        return logits, record

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Layer name -> activations after the non-linearity, n x units x h x w, in forward order, without logits."""
        return self.forward_with_features(images)[1]
