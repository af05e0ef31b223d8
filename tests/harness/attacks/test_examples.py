"""Files of adversarial images: what we write, and how somebody else's are checked against the clean ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from harness.attacks import run_attack
from harness.attacks.examples import (
    MAX_KEPT,
    as_float,
    check,
    decode,
    distances,
    encode,
    first_broken,
    gather,
    most_kept,
)
from harness.data import open_dataset
from harness.data.base import ArrayDataset
from harness.errors import ExamplesError
from harness.outcome import Examples
from harness.types import NORMS, Norm

DATA = ArrayDataset(
    name="grey",
    split="test",
    classes=("a", "b", "c"),
    labels=np.arange(10) % 3,
    pixels=np.random.default_rng(0).integers(20, 236, (10, 6, 4, 3), dtype=np.uint8),
)
CLEAN = as_float(DATA.images())
EPS = 8 / 255


def saved(**arrays: Any) -> bytes:
    """What somebody's script would write."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def test_pixels_have_the_bits_that_the_model_is_given() -> None:
    """The NumPy form and torch's division agree on every value of a byte and on the layout."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    for pixels in (images, np.array(DATA.images())):
        expected = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32) / 255
        assert np.array_equal(as_float(pixels), expected.numpy())


@given(st.lists(st.integers(0, 9), min_size=1, max_size=10, unique=True))
def test_gather_takes_any_order(indices: list[int]) -> None:
    """It equals NumPy's fancy indexing."""
    assert np.array_equal(gather(DATA, np.array(indices)), DATA.images()[indices])


@pytest.mark.parametrize("norm", NORMS)
def test_distances_equal_numpys_norms(norm: Norm) -> None:
    """Against numpy.linalg.norm on each flattened image."""
    difference = np.random.default_rng(1).normal(size=(4, 3, 5, 5))
    order = {"Linf": np.inf, "L2": 2, "L1": 1}[norm]
    expected = [np.linalg.norm(one.ravel(), order) for one in difference]
    assert np.allclose(distances(difference, norm), expected, rtol=1e-13)


@pytest.mark.parametrize("norm", NORMS)
def test_what_our_attacks_find_is_taken(
    norm: Norm, linear: Callable[..., nn.Module], own_labels: Callable[..., torch.Tensor]
) -> None:
    """Every broken image of ours passes the check at the radius it was made for, whatever float32 does."""
    model = linear(3, (3, 6, 4), seed=3, centred=True)
    images = torch.from_numpy(CLEAN)
    labels = own_labels(model, images)
    data = ArrayDataset(name="own", split="test", classes=("a", "b", "c"), labels=labels.numpy(), pixels=DATA.images())
    eps = {"Linf": 0.2, "L2": 1.5, "L1": 8.0}[norm]
    result = run_attack(model, images, labels, "pgd", norm=norm, eps=eps)
    found = first_broken(result, 0, labels.numpy())
    assert len(found) >= 3
    content = encode(found, norm=norm, eps=eps, model="m" * 64, data=data.digest)
    claim = check(content, data, norm, eps)
    assert np.array_equal(claim.examples.adversarial, found.adversarial)
    assert np.array_equal(claim.examples.indices, np.flatnonzero(~result.robust))
    assert np.allclose(claim.radius, result.norm[~result.robust], rtol=1e-5)
    assert (claim.radius <= eps).all()


def test_the_same_images_are_the_same_bytes() -> None:
    """Files are content-addressed; reading gives back what was written."""
    examples = Examples(adversarial=CLEAN[2:5], indices=np.arange(2, 5), labels=np.asarray(DATA.labels)[2:5])
    content = encode(examples, norm="L2", eps=0.5, model="m", data="d")
    assert content == encode(examples, norm="L2", eps=0.5, model="m", data="d")
    again = decode(content)
    assert np.array_equal(again.adversarial, examples.adversarial)
    assert again.indices.tolist() == [2, 3, 4]
    assert again.labels.tolist() == [2, 0, 1]


def test_first_broken_leaves_out_what_was_wrong_clean(linear: Callable[..., nn.Module]) -> None:
    """In order, at most as many as asked, none that no attack was needed for."""
    model = linear(3, (3, 6, 4), seed=3, centred=True)
    images = torch.from_numpy(CLEAN)
    labels = (model(images).argmax(1) + torch.tensor([1, 0] * 5)) % 3
    result = run_attack(model, images, labels, "pgd", eps=1.0)
    broken = [row for row, name in enumerate(result.broken_by) if name == "pgd"]
    assert result.broken_by.count("clean") == 5
    assert len(broken) >= 3
    assert first_broken(result, 100, labels.numpy()).indices.tolist() == [100 + row for row in broken]
    assert first_broken(result, 0, labels.numpy(), 2).indices.tolist() == broken[:2]


def test_what_is_kept_is_bounded() -> None:
    """By number and by bytes: 64 MiB are 111 images of 224 x 224."""
    assert most_kept(5, (3, 32, 32)) == 5
    assert most_kept(10**6, (3, 32, 32)) == MAX_KEPT
    assert most_kept(1000, (3, 224, 224)) == (64 * 2**20) // (4 * 3 * 224 * 224) == 111


@given(st.permutations(list(range(6))), st.integers(1, 8))
def test_merging_keeps_the_first_whatever_the_order(order: list[int], most: int) -> None:
    """Blocks may come in any order: what stays are the first images by position."""
    merged: Examples | None = None
    for block in order:
        rows = np.array([2 * block, 2 * block + 1])
        part = Examples(adversarial=np.full((2, 3, 1, 1), block, np.float32), indices=rows, labels=rows % 3)
        part = Examples(adversarial=part.adversarial[:most], indices=rows[:most], labels=part.labels[:most])
        merged = part if merged is None else merged.merge(part, most)
    assert merged is not None
    expected = [index for block in range(6) for index in (2 * block, 2 * block + 1)[:most]][:most]
    assert merged.indices.tolist() == expected
    assert merged.adversarial[:, 0, 0, 0].tolist() == [index // 2 for index in expected]


def test_the_forms_that_are_taken() -> None:
    """Float32, float64 and 8-bit images; some by position or all in order; with labels or without."""
    some = np.array([7, 2])
    moved = np.clip(CLEAN + np.float32(EPS), 0, 1)
    for content, expected in (
        (saved(adversarial=moved[some], indices=some), moved[some]),
        (saved(adversarial=moved[some].astype(np.float64), indices=some.astype(np.uint8)), moved[some]),
        (saved(adversarial=np.asfortranarray(moved[some]), indices=some, labels=DATA.labels[some]), moved[some]),
        (saved(adversarial=DATA.images()[some] + np.uint8(8), indices=some), as_float(DATA.images()[some] + 8)),
    ):
        claim = check(content, DATA, "Linf", EPS)
        assert claim.examples.indices.tolist() == [7, 2]
        assert claim.examples.labels.tolist() == [1, 2]
        assert np.array_equal(claim.examples.adversarial, expected)
        assert claim.examples.adversarial.dtype == np.float32
    assert check(saved(adversarial=CLEAN), DATA, "Linf", EPS).examples.indices.tolist() == list(range(10))


def changed(row: int, value: float) -> np.ndarray[Any, Any]:
    """The clean images with one value of one image replaced."""
    images = CLEAN.copy()
    images[row, 1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("arrays", "reasons"),
    [
        ({"adversarial": CLEAN[:3]}, ["indices: missing for 3 images, expected their positions, or all 10"]),
        ({"adversarial": CLEAN[:3], "indices": np.arange(2)}, ["indices: got 2 for 3 images"]),
        ({"adversarial": CLEAN[:3], "indices": np.array([0, 10, 1])}, ["row 1 has 10, expected positions from 0 to 9"]),
        ({"adversarial": CLEAN[:3], "indices": np.array([0, -1, 1])}, ["row 1 has -1"]),
        ({"adversarial": CLEAN[:3], "indices": np.array([4, 5, 4])}, ["row 2 has image 4 a second time"]),
        ({"adversarial": CLEAN[:0], "indices": np.arange(0)}, ["got no image"]),
        ({"adversarial": CLEAN.transpose(0, 2, 3, 1)}, ["got shape (10, 6, 4, 3), expected m x 3 x 6 x 4 for float32"]),
        ({"adversarial": CLEAN[:, :, :, :2]}, ["got shape (10, 3, 6, 2)"]),
        ({"adversarial": DATA.images().transpose(0, 3, 1, 2)}, ["expected m x 6 x 4 x 3 for uint8"]),
        ({"adversarial": changed(4, 1.25)}, ["adversarial: image 4 has 1.25, expected values in [0, 1]"]),
        ({"adversarial": changed(9, -1e-7)}, ["adversarial: image 9 has -1e-07"]),
        ({"adversarial": changed(0, np.nan)}, ["adversarial: image 0 has nan"]),
        ({"adversarial": changed(0, np.inf)}, ["adversarial: image 0 has inf"]),
        ({"adversarial": changed(3, 0.0)}, ["norm: image 3 is", "away in Linf, expected at most 8/255", "1 of 10"]),
        ({"adversarial": CLEAN, "labels": np.arange(10)}, ["labels: image 3 has 3, expected 0, the data set's"]),
        ({"adversarial": CLEAN, "labels": np.arange(9)}, ["labels: got 9 for 10 images"]),
        ({"adversarial": CLEAN, "data": np.array("f" * 64)}, ["data: made for a data set 'ffffffffffff', expected"]),
        (
            {"adversarial": changed(3, 0.0), "labels": np.zeros(10, int), "data": np.array("x")},
            ["data: made for", "labels: image 1 has 0, expected 1", "norm: image 3"],
        ),
        (
            {"adversarial": changed(3, 7.0), "indices": np.array([*range(9), 0])},
            ["indices: row 9 has image 0 a second time", "adversarial: row 3 has 7, expected"],
        ),
    ],
)
def test_each_check_names_the_first_offender(arrays: dict[str, Any], reasons: list[str]) -> None:
    """All reasons at once; each with the image, the value found and what is right."""
    with pytest.raises(ExamplesError) as caught:
        check(saved(**arrays), DATA, "Linf", EPS)
    text = str(caught.value)
    assert "\n" not in text
    for part in reasons:
        assert part in text


@pytest.mark.parametrize(("norm", "scale"), [("Linf", 1.0), ("L2", 72**0.5), ("L1", 72.0)])
def test_the_ball_is_exact_but_for_rounding(norm: Norm, scale: float) -> None:
    """Everything moved by delta: taken at its own size and no less than a part in 100,000 below it."""
    delta = 0.03
    moved = np.clip(CLEAN.astype(np.float64) + delta, 0, 1)
    content = saved(adversarial=moved)
    claim = check(content, DATA, norm, delta * scale)
    assert np.allclose(claim.radius, delta * scale, rtol=1e-5)
    assert (claim.radius <= delta * scale).all()
    with pytest.raises(ExamplesError, match="10 of 10 images are too far"):
        check(content, DATA, norm, delta * scale * (1 - 1e-5))


@pytest.mark.parametrize("norm", NORMS)
def test_what_float32_adds_is_forgiven(norm: Norm) -> None:
    """A perturbation of exactly eps, added in float32 as anybody would, is a little larger and still taken."""
    step = np.float32(1 / 255)
    moved = CLEAN + step
    sizes = distances(moved.astype(np.float64) - CLEAN.astype(np.float64), norm)
    eps = float(distances(np.full((1, 3, 6, 4), 1 / 255), norm)[0])
    if norm == "Linf":
        assert sizes.max() > eps * (1 + 1e-6)
    assert (check(saved(adversarial=moved), DATA, norm, eps).radius <= eps).all()


def test_a_file_cannot_be_larger_than_the_data_set_allows() -> None:
    """A header that announces more values than all images have is refused by its size."""
    with pytest.raises(ExamplesError, match="bytes"):
        check(saved(adversarial=np.zeros((20, 3, 6, 4))), DATA, "Linf", EPS)


def test_images_of_the_embedded_digits_are_taken() -> None:
    """The clean images themselves are adversarial images of size zero."""
    data = open_dataset("digits")
    claim = check(saved(adversarial=data.images(0, 40), indices=np.arange(40)), data, "L1", 1e-3)
    assert claim.radius.max() == 0.0
