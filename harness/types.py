"""Names for the arrays and protocols that cross module borders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    ImagesU8: TypeAlias = NDArray[np.uint8]
    """n x height x width x 3, uint8 (NHWC): how data sets and corruptions speak."""
    Labels: TypeAlias = NDArray[np.int64]
    """n, int64, in [0, classes)."""
    Bits: TypeAlias = NDArray[np.bool_]
    """n, bool: one verdict an image."""

Norm = Literal["Linf", "L2", "L1"]
NORMS: tuple[Norm, ...] = ("Linf", "L2", "L1")


class Classifier(Protocol):
    """What the harness evaluates: float images in [0, 1], n x 3 x h x w (NCHW), to logits, n x classes.

    Normalisation lives inside. In eval mode it is deterministic and treats images independently.
    """

    def __call__(self, images: torch.Tensor, /) -> torch.Tensor:
        """Logits, float32, n x classes."""
        ...


class FeatureModel(Classifier, Protocol):
    """A classifier that also gives its named post-activation features."""

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Layer name -> activations after the non-linearity, n x units (x h x w), in forward order, no classifier."""
        ...


Json: TypeAlias = Any
"""Plain data: dict, list, str, int, float, bool, None."""

Cell: TypeAlias = str | int | float | bool | None
"""A value in a row of a table: of a board, or of what is known of a model."""
