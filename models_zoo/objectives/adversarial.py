"""The attackers of adversarial training: projected gradient ascent on a loss, inside an Linf ball.

These are the attackers of the training loop. Evaluations use `harness.attacks`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

Classify = Callable[[torch.Tensor], torch.Tensor]
"""Images in [0, 1] to logits."""


def pgd_linf(
    classify: Classify,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Images inside the Linf ball and [0, 1] that raise the cross-entropy: signed gradient steps, projected.

    With one step of 1.25 eps from a start that is uniform in the ball, this is the fast method of Wong et al. (Fast is
    better than free, ICLR 2020), but that the start is cut to [0, 1] before the step as well.

    Args:
        classify: images in [0, 1] to logits.
        images: n x 3 x h x w in [0, 1].
        labels: n, int64.
        eps: radius, in [0, 1].
        step: step size.
        steps: number of steps.
        start: offsets in [-eps, eps] to start from, of the images' shape; none if None.

    Returns:
        The images after the last step, without a gradient; weights get no gradient.

    Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, equation 2.1.
    """

    def loss(moved: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(classify(moved).float(), labels, reduction="sum")

    return _ascend(loss, images, eps=eps, step=step, steps=steps, start=start)


def trades_linf(
    classify: Classify, images: torch.Tensor, *, eps: float, step: float, steps: int, start: torch.Tensor
) -> torch.Tensor:
    """Images inside the Linf ball and [0, 1] whose predictions move furthest from those on the clean images.

    Furthest is by KL(p(images) || p(moved)), the inner problem of TRADES. The clean images are its minimum, where the
    gradient vanishes, hence a start beside them.

    Args:
        classify: images in [0, 1] to logits; the same at each call.
        images: n x 3 x h x w in [0, 1].
        eps: radius, in [0, 1].
        step: step size.
        steps: number of steps.
        start: small offsets to start from, of the images' shape.

    Returns:
        The images after the last step, without a gradient; weights get no gradient.

    Source: Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019, algorithm 1.
    """
    # Detached, not under no_grad: older versions of autocast keep weights that were cast there for the passes
    # that follow, which then give those weights no gradient (pytorch issues 65766 and 112583).
    clean = classify(images).float().softmax(1).detach()

    def loss(moved: torch.Tensor) -> torch.Tensor:
        return F.kl_div(classify(moved).float().log_softmax(1), clean, reduction="sum")

    return _ascend(loss, images, eps=eps, step=step, steps=steps, start=start)


def trades_loss(
    clean: torch.Tensor, moved: torch.Tensor, labels: torch.Tensor, *, beta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy on clean images + beta * KL(p(clean) || p(moved)), the mean over images.

    Args:
        clean: logits on the clean images, n x classes.
        moved: logits on the moved images, n x classes.
        labels: n, int64.
        beta: weight of the second term, "1/lambda" in the paper.

    Returns:
        The loss and its KL term, both scalars; gradients flow through both sets of logits.

    Source: Zhang et al., ICML 2019, equation 5, with KL as its surrogate.
    """
    divergence = F.kl_div(
        moved.float().log_softmax(1), clean.float().log_softmax(1), reduction="batchmean", log_target=True
    )
    return F.cross_entropy(clean.float(), labels) + beta * divergence, divergence


def _ascend(
    loss: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    start: torch.Tensor | None,
) -> torch.Tensor:
    """Steps of size `step` along the sign of the gradient of `loss`, projected to the ball and [0, 1] after each."""
    lower, upper = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    moved = images if start is None else torch.minimum(torch.maximum(images + start, lower), upper)
    for _ in range(steps):
        moved = moved.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(moved), moved)
        moved = torch.minimum(torch.maximum(moved + step * gradient.sign(), lower), upper)
    return moved.detach()
