"""The attacker of adversarial training: projected gradient descent.

Source: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, equation 2.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def pgd_linf(
    classify: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    eps: float,
    step: float,
    steps: int,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Images inside the Linf ball and [0, 1] that raise the cross-entropy: signed gradient steps, projected.

    This is the attacker of the training loop. Evaluations use `harness.attacks`.

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
    """
    lower, upper = (images - eps).clamp(0, 1), (images + eps).clamp(0, 1)
    moved = images if start is None else torch.minimum(torch.maximum(images + start, lower), upper)
    for _ in range(steps):
        moved = moved.detach().requires_grad_(True)
        loss = F.cross_entropy(classify(moved).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        moved = torch.minimum(torch.maximum(moved + step * gradient.sign(), lower), upper)
    return moved.detach()
