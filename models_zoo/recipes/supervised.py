"""Recipe `supervised`: plain cross-entropy."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models_zoo.model import ZooModel
from models_zoo.recipes.base import Batch, Recipe, Settings


def objective(model: ZooModel, batch: Batch, _settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy on the clean images; see `Objective`."""
    logits = model(batch.images)
    return F.cross_entropy(logits.float(), batch.labels), logits


SUPERVISED = Recipe(
    name="supervised",
    version="1",
    family="supervised",
    description="cross-entropy on clean images, SGD with momentum, half-cosine learning rate, random shifts",
    citation="robustboard",
    objective=objective,
)
