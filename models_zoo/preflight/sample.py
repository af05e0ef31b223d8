"""The images that a checkpoint is tried on, and the tests by which two sets of verdicts on them are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest

from harness.data import Dataset
from harness.jobs.kernel import to_float
from harness.metrics.intervals import wilson

if TYPE_CHECKING:
    from harness.types import Bits, Labels

LEVEL = 0.01
"""Two verdicts on the same images differ if chance explains their difference less often than this."""
SURE = 0.999
"""Confidence of "better than chance": several normalisations are tried, and the best of several is better by chance."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """The first images of a data set's stratified order.

    Attributes:
        images: n x 3 x h x w, float32 in [0, 1].
        labels: n, int64.
        present: labels that occur in sets with a subset of the classes; predictions are compared among these.
    """

    images: torch.Tensor
    labels: Labels
    present: tuple[int, ...] | None = None

    @classmethod
    def of(cls, data: Dataset, count: int, device: torch.device) -> Sample:
        """At most `count` images.

        Raises:
            DataError: images that cannot be read.
        """
        stop = min(count, len(data))
        return cls(
            images=to_float(data.images(0, stop), device),
            labels=np.array(data.labels[:stop]),
            present=data.present,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Sample:
        """The first `count` of them."""
        return Sample(images=self.images[:count], labels=self.labels[:count], present=self.present)

    def predicted(self, logits: torch.Tensor) -> NDArray[np.int64]:
        """Classes, n, of logits, n x classes."""
        values = logits
        if self.present is not None:
            absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
            absent[list(self.present)] = False
            values = logits.masked_fill(absent, -torch.inf)
        return values.argmax(dim=1).cpu().numpy()

    def right(self, logits: torch.Tensor) -> Bits:
        """Verdicts, n, of logits, n x classes."""
        verdicts: Bits = self.predicted(logits) == self.labels
        return verdicts

    def beats_chance(self, right: Bits) -> bool:
        """Whether verdicts are better than always naming the most frequent class."""
        most = np.bincount(self.labels).max() / len(self.labels)
        return bool(wilson(int(right.sum()), len(right), SURE)[0] > most)


def differ(one: Bits, other: Bits) -> bool:
    """Whether two sets of verdicts on the same images can be told apart (McNemar's test, exact, at 1 %).

    Source: Q. McNemar, Psychometrika 12, 1947: among images on which the two disagree, each is right equally often.

    Args:
        one: n verdicts.
        other: n verdicts.
    """
    only_one, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    disagree = only_one + only_other
    return disagree > 0 and float(binomtest(only_one, disagree).pvalue) < LEVEL
