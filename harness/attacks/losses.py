"""Losses on logits that attacks maximise, one value a row. Larger is better for the attack."""

from __future__ import annotations

import torch
from torch.nn import functional as F

_TINY = 1e-12


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of n x K logits with n labels."""
    return F.cross_entropy(logits, labels, reduction="none")


def best_other(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """n: the largest logit of a class that is not the label."""
    return logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(dim=1)


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """n: logit of the label minus the best other; negative where misclassified."""
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1) - best_other(logits, labels)


def difference_of_logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Difference of logits ratio: minus the margin over (largest - third largest logit).

    With fewer than three classes there is no third logit and the plain negative margin is used.
    Source: Croce and Hein, ICML 2020, equation 6.
    """
    lost = -margin(logits, labels)
    if logits.shape[1] < 3:
        return lost
    top = logits.topk(3, dim=1).values
    return lost / (top[:, 0] - top[:, 2] + _TINY)


def targeted_difference(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Targeted difference of logits ratio: (z_t - z_y) / (z_1 - (z_3 + z_4) / 2).

    Below four classes the denominator does not exist and the plain difference z_t - z_y is used (a fallback of our own;
    z_1 - z_3 would make the ratio constant for the third class). Source: Croce and Hein, ICML 2020, equation 7.
    """
    gain = (logits.gather(1, targets.unsqueeze(1)) - logits.gather(1, labels.unsqueeze(1))).squeeze(1)
    if logits.shape[1] < 4:
        return gain
    top = logits.topk(4, dim=1).values
    return gain / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + _TINY)


LOSSES = {"ce": cross_entropy, "dlr": difference_of_logits}
"""Untargeted losses by the name that options use."""
