"""Recipe `augmix`: cross-entropy, and agreement with two mixes of augmentations (Hendrycks et al., 2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from models_zoo.augmix import WORDS, mix_augmentations
from models_zoo.model import ZooModel
from models_zoo.objectives.augmix import jensen_shannon
from models_zoo.recipes.base import Batch, HyperParameter, Recipe, Settings

VIEWS = 2
"""Mixes of each image, beside the image itself."""


def objective(model: ZooModel, batch: Batch, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy on the clean images plus the weighted consistency; see `Objective`.

    The images and both mixes of each pass as one batch. The consistency is noted as "consistency".
    """
    words = batch.words("augmix", VIEWS * WORDS)
    mixes = [
        mix_augmentations(
            batch.pixels, words[:, view * WORDS : (view + 1) * WORDS], severity=float(settings["severity"])
        )
        for view in range(VIEWS)
    ]
    views = [batch.images, *(torch.from_numpy(mix).permute(0, 3, 1, 2).to(batch.images.device) for mix in mixes)]
    logits = model(torch.cat(views)).float().chunk(1 + VIEWS)
    consistency = jensen_shannon([each.softmax(1) for each in logits])
    batch.notes["consistency"] = consistency.detach()
    return F.cross_entropy(logits[0], batch.labels) + float(settings["consistency"]) * consistency, logits[0]


def variant(settings: Settings) -> str:
    """Empty for the published settings; "nojsd" without the consistency."""
    return "nojsd" if float(settings["consistency"]) == 0 else ""


AUGMIX = Recipe(
    name="augmix",
    version="1",
    family="augmentation",
    description="cross-entropy on clean images plus the Jensen-Shannon divergence of predictions on them and on two "
    "mixes of augmentations that are none of the benchmark's corruptions",
    citation="Hendrycks, Mu, Cubuk, Zoph, Gilmer and Lakshminarayanan, "
    "AugMix: a simple data processing method to improve robustness and uncertainty, ICLR 2020",
    objective=objective,
    own=(
        HyperParameter(
            name="severity", kind="number", default=3.0, minimum=0.1, maximum=10.0,
            help="upper end of the strengths of the augmentations, on a scale of 10",
        ),
        HyperParameter(
            name="consistency", kind="number", default=12.0, minimum=0.0, maximum=1000.0,
            help="weight of the Jensen-Shannon divergence against the cross-entropy",
        ),
    ),
    variant=variant,
)  # fmt: skip
