"""Validation part, its batches, order and augmentation of training images: functions of seed, epoch and image index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness import rng
from harness.errors import InvalidArgument

if TYPE_CHECKING:
    from harness.types import ImagesU8, Labels

Indices = NDArray[np.int64]


def split_validation(labels: Labels, share: float, *, seed: int) -> tuple[Indices, Indices]:
    """Split images into a training and a validation part, class by class.

    Args:
        labels: n, int64.
        share: of each class that goes to validation, rounded, at least one image.
        seed: of the choice.

    Returns:
        Indices of the training part and of the validation part, each ascending.

    Raises:
        InvalidArgument: a class has a single image.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    draws = rng.words(seed, "train/validation", np.arange(len(labels)), 1)[:, 0]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise InvalidArgument("labels", f"one image of class {label}", "at least two images of each class")
        count = min(max(1, round(share * len(members))), len(members) - 1)
        chosen[members[np.argsort(draws[members], kind="stable")[:count]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def validation_pieces(part: Indices, labels: Labels, *, size: int) -> list[Indices]:
    """Cut a validation part into batches: an objective that compares classes must find all of them in each.

    Consecutive images stay together as long as each batch holds every class, as in data whose classes take turns.
    Otherwise, so in data sorted by class or with rare classes, the images are dealt out class by class: the counts of a
    class in two batches differ by at most one.

    Args:
        part: indices of the validation part, ascending.
        labels: of all images, n, int64.
        size: largest batch.

    Returns:
        Indices of each batch, ascending; together they are the part.
    """
    count = -(-len(part) // size)
    pieces = np.array_split(part, count)
    present = np.unique(labels[part])
    if all(np.array_equal(np.unique(labels[piece]), present) for piece in pieces):
        return pieces
    by_class = part[np.argsort(labels[part], kind="stable")]
    return [np.sort(by_class[start::count]) for start in range(count)]


def epoch_order(count: int, *, seed: int, epoch: int) -> Indices:
    """A permutation of `count` positions for an epoch."""
    draws = rng.words(seed, f"train/order/{epoch}", np.arange(count), 1)[:, 0]
    return np.argsort(draws, kind="stable")


def shift_at_random(
    images: ImagesU8, indices: Sequence[int] | NDArray[Any], pixels: int, *, seed: int, epoch: int
) -> ImagesU8:
    """Move each image by up to `pixels` in both directions; its border is repeated.

    Args:
        images: n x h x w x 3, uint8.
        indices: n image indices that the draws belong to.
        pixels: largest shift; 0 returns the images.
        seed: of the draws.
        epoch: of the draws.
    """
    if pixels == 0:
        return images
    height, width = images.shape[1:3]
    offsets = rng.to_integer(rng.words(seed, f"train/shift/{epoch}", indices, 2), 2 * pixels + 1)
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    rows = offsets[:, :1] + np.arange(height)
    columns = offsets[:, 1:] + np.arange(width)
    moved: ImagesU8 = padded[np.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved


def flip_at_random(images: ImagesU8, indices: Sequence[int] | NDArray[Any], *, seed: int, epoch: int) -> ImagesU8:
    """Mirror about half of the images, left to right; arguments as in `shift_at_random`."""
    chosen = rng.words(seed, f"train/flip/{epoch}", indices, 1)[:, 0] % 2 == 1
    return np.where(chosen[:, None, None, None], images[:, :, ::-1], images)
