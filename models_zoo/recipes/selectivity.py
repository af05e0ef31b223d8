"""Recipe `selectivity`: cross-entropy minus alpha times the mean class selectivity index."""

from __future__ import annotations

import torch

from models_zoo.model import ZooModel
from models_zoo.objectives.selectivity import selectivity_loss
from models_zoo.recipes.base import Batch, HyperParameter, Recipe, Settings


def objective(model: ZooModel, batch: Batch, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Regularised cross-entropy on the clean images; see `Objective`."""
    logits, features = model.forward_with_features(batch.images)
    return selectivity_loss(logits, batch.labels, features, alpha=float(settings["alpha"])), logits


def variant(settings: Settings) -> str:
    """Alpha as a name: "am1" for -1, "ap0_5" for 0.5, "a0" for 0."""
    alpha = float(settings["alpha"])
    sign = "m" if alpha < 0 else "p" if alpha > 0 else ""
    return f"a{sign}{abs(alpha):g}".replace(".", "_").replace("-", "m").replace("+", "")


SELECTIVITY = Recipe(
    name="selectivity",
    version="1",
    family="selectivity",
    description="cross-entropy minus alpha times the mean class selectivity index of all layers but the classifier",
    citation="Leavitt and Morcos, Linking average- and worst-case perturbation robustness via class selectivity and "
    "dimensionality, arXiv 2010.07693; Selectivity considered harmful, ICLR 2021",
    objective=objective,
    own=(
        HyperParameter(
            name="alpha", kind="number", default=-1.0, minimum=-100.0, maximum=100.0,
            help="scale of the regulariser: below 0 discourages class selectivity, above 0 encourages it",
        ),
    ),
    variant=variant,
)  # fmt: skip
