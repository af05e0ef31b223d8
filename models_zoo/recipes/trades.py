"""Recipe `trades`: cross-entropy on clean images and agreement with them inside an Linf ball (Zhang et al., 2019)."""

from __future__ import annotations

import torch

from harness.spec import parse_eps
from models_zoo.model import ZooModel
from models_zoo.objectives.adversarial import trades_linf, trades_loss
from models_zoo.recipes import adversarial
from models_zoo.recipes.base import Batch, HyperParameter, Recipe, Settings

START = 1e-3
"""Standard deviation of the Gaussian start, as the published code has it."""
DEFAULT_BETA = 6.0


def objective(model: ZooModel, batch: Batch, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """The TRADES loss; see `Objective`. Its KL term is noted as "divergence".

    The attack runs in eval mode, as the published code has it; clean and moved images then pass in two batches.
    """
    training = model.training
    eps = parse_eps(str(settings["eps"]))
    steps = int(settings["steps"])
    model.eval()
    attacked = trades_linf(
        model,
        batch.images,
        eps=eps,
        step=float(settings["relative_step"]) * eps / steps,
        steps=steps,
        start=START * gaussian(batch.noise()),
    )
    model.train(training)
    logits = model(batch.images)
    loss, divergence = trades_loss(logits, model(attacked), batch.labels, beta=float(settings["beta"]))
    batch.notes["divergence"] = divergence.detach()
    return loss, logits


def gaussian(uniform: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers of uniform ones in [0, 1) by their quantiles, at most some 5.4 in size."""
    normal: torch.Tensor = torch.special.ndtri(uniform.clamp(2.0**-25, 1 - 2.0**-24))
    return normal


def variant(settings: Settings) -> str:
    """The radius as in `adversarial`, then "b1" for a beta of 1; the usual 6 is not told."""
    beta = float(settings["beta"])
    told = "" if beta == DEFAULT_BETA else f"-b{beta:g}".replace(".", "_").replace("e-", "em").replace("+", "")
    return adversarial.variant(settings) + told


TRADES = Recipe(
    name="trades",
    version="1",
    family="adversarial",
    description="cross-entropy on clean images plus beta times the divergence of predictions inside an Linf ball",
    citation="Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "
    "Theoretically principled trade-off between robustness and accuracy, ICML 2019",
    objective=objective,
    own=(
        adversarial.EPS,
        HyperParameter(name="steps", kind="integer", default=10, minimum=1, maximum=1000, help="steps of the attack"),
        adversarial.RELATIVE_STEP,
        HyperParameter(
            name="beta", kind="number", default=DEFAULT_BETA, minimum=0.0, maximum=1000.0,
            help="weight of the divergence against the cross-entropy",
        ),
    ),
    variant=variant,
)  # fmt: skip
