"""The embedded digits: fingerprints, split, order and pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.datasets import load_digits

from harness.data import open_dataset
from harness.data.digits import _split_positions, enlarge

if TYPE_CHECKING:
    from harness.types import Labels

PINNED = {
    "train": "8055d30ed3ffea31f03bcbed465a143e3e889f35f0125fd70f7e057397761f70",
    "test": "0fed23420e612ed4591c51758469cdb24114ee9ee8f2061d44f48edbe6295ffa",
}


@pytest.mark.parametrize("split", ["train", "test"])
def test_fingerprint_is_pinned(split: str) -> None:
    """A change of pixels, labels, classes or order is a new data set and must be noticed."""
    assert open_dataset("digits", split).digest == PINNED[split]


def test_split_covers_every_digit_once() -> None:
    """1,297 train and 500 test images, disjoint, together all 1,797."""
    positions = _split_positions()
    assert (len(positions["train"]), len(positions["test"])) == (1297, 500)
    assert sorted(np.concatenate(list(positions.values())).tolist()) == list(range(1797))


def assert_balanced_prefixes(labels: Labels, classes: int) -> None:
    """In every prefix the classes that have images left are within one of each other."""
    totals = np.bincount(labels, minlength=classes)
    running = np.cumsum(np.eye(classes, dtype=int)[labels], axis=0)
    for counts in running:
        left = counts[counts < totals]
        if len(left):
            assert counts.max() - left.min() <= 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_prefix_is_balanced(split: str) -> None:
    """`--limit N` takes the first N images, which must be a fair sample for any N."""
    data = open_dataset("digits", split)
    assert_balanced_prefixes(data.labels, 10)
    assert np.bincount(data.labels[:100]).tolist() == [10] * 10


def test_labels_are_those_of_scikit_learn() -> None:
    """Each label and picture belongs to the position that the split file names."""
    source = load_digits()
    order = _split_positions()["test"]
    data = open_dataset("digits")
    assert data.labels.tolist() == source.target[order].tolist()
    # Averaging 4x4 cells undoes a 4x bilinear enlargement up to the blur between neighbours.
    coarse = data.images()[..., 0].reshape(500, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(500, -1)
    original = source.images[order].reshape(500, -1)
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(coarse, original, strict=True)]
    assert min(correlation) > 0.95


def test_enlarge_matches_bilinear_interpolation() -> None:
    """Pillow's fixed-point result equals bilinear interpolation in floats (pixel centres aligned) within one level."""
    values = load_digits().images[:20].astype(np.uint8)
    position = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    low = np.minimum(position.astype(int), 6)
    weight = np.zeros((32, 8))
    weight[np.arange(32), low] = 1 - (position - low)
    weight[np.arange(32), low + 1] = position - low
    expected = np.einsum("ya,nab,xb->nyx", weight, np.round(values * (255 / 16)), weight)
    images = enlarge(values)
    assert images.shape == (20, 32, 32, 3)
    assert images.dtype == np.uint8
    assert np.abs(images[..., 1] - expected).max() <= 1.0
    assert (images[..., 0] == images[..., 2]).all()


def test_levels_reach_both_ends() -> None:
    """Grey level 0 becomes 0 and 16 becomes 255."""
    values = np.zeros((2, 8, 8), dtype=np.uint8)
    values[1] = 16
    images = enlarge(values)
    assert images[0].max() == 0
    assert images[1].min() == 255
