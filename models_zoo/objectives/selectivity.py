"""Cross-entropy with the class selectivity regulariser (Leavitt & Morcos, arXiv 2003.01262 and 2010.07693)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from harness.measures.selectivity import network_selectivity


def selectivity_loss(
    logits: torch.Tensor, labels: torch.Tensor, features: Mapping[str, torch.Tensor], *, alpha: float
) -> torch.Tensor:
    """Cross-entropy - alpha * mu_SI, mu_SI the network's mean selectivity index over this batch.

    A negative alpha discourages class selectivity, a positive one encourages it, 0 is plain cross-entropy.

    Args:
        logits: n x classes.
        labels: n, int64; at least two classes in the batch.
        features: layer name -> non-negative activations, classifier excluded.
        alpha: scale of the regulariser.

    Returns:
        A scalar. The class means come from the batch alone, so small batches regularise noise: use 10 images a class or
        more.
    """
    loss = F.cross_entropy(logits.float(), labels)
    if alpha == 0:
        return loss
    return loss - alpha * network_selectivity(features, labels, classes=logits.shape[1])
