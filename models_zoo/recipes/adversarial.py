"""Recipe `adversarial`: cross-entropy on images that projected gradient descent has moved (Madry et al., 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from harness.spec import eps_fraction, parse_eps
from models_zoo.model import ZooModel
from models_zoo.objectives.adversarial import pgd_linf
from models_zoo.recipes.base import Batch, HyperParameter, Recipe, Settings


def objective(model: ZooModel, batch: Batch, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy on attacked images; see `Objective`.

    The attack runs in eval mode, so that batch normalisation does not learn the statistics of half-made attacks and
    each image is attacked by itself.
    """
    training = model.training
    eps = parse_eps(str(settings["eps"]))
    steps = int(settings["steps"])
    model.eval()
    attacked = pgd_linf(
        model,
        batch.images,
        batch.labels,
        eps=eps,
        step=float(settings["relative_step"]) * eps / steps,
        steps=steps,
        start=(2 * batch.noise() - 1) * eps,
    )
    model.train(training)
    logits = model(attacked)
    return F.cross_entropy(logits.float(), batch.labels), logits


def variant(settings: Settings) -> str:
    """The radius as a name: "linf8" for 8/255, "linf0_05" for 0.05."""
    steps = eps_fraction(str(settings["eps"])) * 255
    size = str(steps) if steps.denominator == 1 else f"{parse_eps(str(settings['eps'])):g}"
    return "linf" + size.replace(".", "_").replace("-", "m")


EPS = HyperParameter(name="eps", kind="radius", default="8/255", maximum=1.0, help="Linf radius of the attack")
RELATIVE_STEP = HyperParameter(
    name="relative_step",
    kind="number",
    default=2.5,
    minimum=0.01,
    maximum=100.0,
    help="step size times steps, in radii",
)

ADVERSARIAL = Recipe(
    name="adversarial",
    version="1",
    family="adversarial",
    description="cross-entropy on images moved by projected gradient descent inside an Linf ball, random start",
    citation="Madry, Makelov, Schmidt, Tsipras and Vladu, "
    "Towards deep learning models resistant to adversarial attacks, ICLR 2018",
    objective=objective,
    own=(
        EPS,
        HyperParameter(name="steps", kind="integer", default=7, minimum=1, maximum=1000, help="steps of the attack"),
        RELATIVE_STEP,
    ),
    variant=variant,
)  # fmt: skip
