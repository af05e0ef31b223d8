"""The stratified order of images: every prefix is class-balanced as far as the class counts allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from harness.types import Labels


def round_robin(labels: Labels) -> NDArray[np.int64]:
    """Positions in stratified order: the first image of each class in class order, then the second of each, and so on.

    A class that has run out is skipped; images of one class keep their order. In every prefix the counts of two classes
    that have not run out differ by at most one.

    Args:
        labels: n, int64.

    Returns:
        n, int64: a permutation of 0..n-1.
    """
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels) if len(labels) else np.zeros(0, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    turn = np.empty(len(labels), dtype=np.int64)
    turn[by_class] = np.arange(len(labels)) - np.repeat(starts, counts)
    return np.lexsort((labels, turn)).astype(np.int64, copy=False)
