"""Recipe `selectivity`: cross-entropy minus alpha times the mean class selectivity index."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from harness.errors import ModelError
from models_zoo.model import ZooModel
from models_zoo.objectives.selectivity import batch_selectivity
from models_zoo.recipes.base import Batch, HyperParameter, Recipe, Settings


def objective(model: ZooModel, batch: Batch, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Regularised cross-entropy on the clean images; see `Objective`. The index is noted as "selectivity"."""
    logits, features = model.forward_with_features(batch.images)
    loss = F.cross_entropy(logits.float(), batch.labels)
    alpha = alpha_at(batch.elapsed, alpha=float(settings["alpha"]), warmup=float(settings["alpha_warmup"]))
    if alpha == 0:
        return loss, logits
    chosen = layer_subset(features, str(settings["layers"]))
    index = batch_selectivity(chosen, batch.labels, classes=logits.shape[1])
    batch.notes["selectivity"] = index.detach()
    return loss - alpha * index, logits


def check(model: ZooModel, images: torch.Tensor, settings: Settings) -> None:
    """Refuse a network with signed activations, on which the index is not defined.

    Raises:
        ModelError: a layer that would be regularised has negative ones.
    """
    if float(settings["alpha"]) == 0:
        return
    for layer, activations in layer_subset(model.features(images), str(settings["layers"])).items():
        if bool((activations < 0).any()):
            raise ModelError(
                f"layer {layer!r} of {model.card.architecture}: activations are negative; the recipe selectivity needs "
                "non-negative ones, as a ReLU gives"
            )


def alpha_at(elapsed: float, *, alpha: float, warmup: float) -> float:
    """Alpha after `elapsed` epochs: a line from 0 up to `alpha` over `warmup` epochs, then `alpha`."""
    return alpha if elapsed >= warmup or math.isinf(elapsed) else alpha * elapsed / warmup


def layer_subset(features: Mapping[str, torch.Tensor], which: str) -> dict[str, torch.Tensor]:
    """The layers that are regularised: "all", or the "first3" or "last3" in forward order."""
    names = list(features)
    chosen = {"all": names, "first3": names[:3], "last3": names[-3:]}[which]
    return {name: features[name] for name in chosen}


def variant(settings: Settings) -> str:
    """Alpha as a name: "am1" for -1, "ap0_5" for 0.5, "a0" for 0; then "first3" or "last3" and "w5" for a warm-up."""
    alpha, warmup = float(settings["alpha"]), float(settings["alpha_warmup"])
    parts = [f"a{'m' if alpha < 0 else 'p' if alpha > 0 else ''}{abs(alpha):g}"]
    if settings["layers"] != "all":
        parts.append(str(settings["layers"]))
    if warmup > 0:
        parts.append(f"w{warmup:g}")
    return "-".join(part.replace(".", "_").replace("-", "m").replace("+", "") for part in parts)


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
        HyperParameter(
            name="alpha_warmup", kind="number", default=0.0, minimum=0.0, maximum=10_000.0,
            help="epochs over which alpha rises linearly from 0; validation always uses the full alpha",
        ),
        HyperParameter(
            name="layers", kind="choice", default="all", choices=("all", "first3", "last3"),
            help="layers whose units are regularised, in forward order, the classifier never",
        ),
    ),
    variant=variant,
    check=check,
)  # fmt: skip
