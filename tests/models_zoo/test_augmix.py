"""AugMix: operations against Pillow, value for value; mixes and consistency against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from harness import rng
from harness.corruptions import SUITES
from models_zoo.augmix import DEPTH, OPERATIONS, WIDTH, WORDS, apply, mix_augmentations, run_chains
from models_zoo.objectives.augmix import jensen_shannon

BILINEAR = Image.Resampling.BILINEAR


def moved(image: Image.Image, *matrix: float) -> Image.Image:
    """Pillow's bilinear affine transform."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=BILINEAR)


# The published parameters of the operations, written down again from the paper's tables: strength and sign to Pillow.
PILLOW: dict[str, Callable[[Image.Image, float, float], Image.Image]] = {
    "autocontrast": lambda image, _level, _sign: ImageOps.autocontrast(image),
    "equalize": lambda image, _level, _sign: ImageOps.equalize(image),
    "posterize": lambda image, level, _sign: ImageOps.posterize(image, max(4 - int(level * 4 / 10), 1)),
    "rotate": lambda image, level, sign: image.rotate(sign * int(level * 30 / 10), resample=BILINEAR),
    "solarize": lambda image, level, _sign: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
    "shear_x": lambda image, level, sign: moved(image, 1, sign * level * 0.3 / 10, 0, 0, 1, 0),
    "shear_y": lambda image, level, sign: moved(image, 1, 0, 0, sign * level * 0.3 / 10, 1, 0),
    "translate_x": lambda image, level, sign: moved(image, 1, 0, sign * int(level * image.width / 3 / 10), 0, 1, 0),
    "translate_y": lambda image, level, sign: moved(image, 1, 0, 0, 0, 1, sign * int(level * image.height / 3 / 10)),
}


def sample_images() -> NDArray[np.uint8]:
    """Noise, smooth ramps, few values, a single value and an almost empty image, 20 x 26."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (8, 20, 26, 3), dtype=np.uint8)
    images[1] = np.linspace(40, 200, 26).astype(np.uint8)[None, :, None]
    images[2] = generator.choice([7, 90, 91], (20, 26, 3))
    images[3] = 113
    images[4] = 0
    images[4, 3, 5] = (255, 1, 128)
    images[5] = images[5] // 8 + 100
    return images


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_pillows(name: str) -> None:
    """Each operation gives Pillow's very values, for strengths over the whole scale and both directions."""
    images = sample_images()
    for level in (0.1, 0.9, 1.7, 2.5, 2.9, 3.0, 6.3, 10.0):
        for sign in (1.0, -1.0):
            ours = apply(name, images, np.full(len(images), level), np.full(len(images), sign))
            theirs = np.stack([np.asarray(PILLOW[name](Image.fromarray(image), level, sign)) for image in images])
            np.testing.assert_array_equal(ours, theirs, err_msg=f"{level} {sign}")


def test_no_operation_is_a_corruption() -> None:
    """None of the operations bears the name of a corruption of the benchmark."""
    corruptions = {name for suite in SUITES.names() for name in SUITES.get(suite).benchmark}
    assert corruptions
    assert not corruptions & set(OPERATIONS)


def test_a_batch_is_its_images_one_by_one() -> None:
    """A mix depends on the image and its own words, not on the batch; results lie in [0, 1]."""
    images = sample_images()
    words = rng.words(0, "train/augmix/1", np.arange(8), WORDS)
    together = mix_augmentations(images, words)
    assert together.dtype == np.float32
    assert together.min() >= 0
    assert together.max() <= 1
    for row in range(8):
        np.testing.assert_array_equal(mix_augmentations(images[row : row + 1], words[row : row + 1])[0], together[row])


def test_chains_against_a_plain_loop() -> None:
    """Chains are the operations that the words name, one after the other, as deep as the words say."""
    images = np.tile(sample_images(), (5, 1, 1, 1))
    words = rng.words(1, "train/augmix/1", np.arange(len(images)), 1 + 3 * DEPTH)
    seen = []
    for image, row, ours in zip(images, words, run_chains(images, words, severity=3.0), strict=True):
        expected = Image.fromarray(image)
        depth = 1 + int(row[0]) * DEPTH // 2**32
        for operation, strength, direction in row[1:].reshape(DEPTH, 3)[:depth].tolist():
            name = OPERATIONS[operation * 9 // 2**32]
            expected = PILLOW[name](expected, 0.1 + 2.9 * ((strength >> 8) / 2**24), 1 - 2 * (direction >> 31))
            seen.append((depth, name))
        np.testing.assert_array_equal(ours, np.asarray(expected))
    assert {depth for depth, _ in seen} == {1, 2, 3}
    assert {name for _, name in seen} == set(OPERATIONS)


def test_black_stays_black() -> None:
    """No operation at severity 3 makes light of nothing, so a black image's mix is black."""
    words = rng.words(2, "train/augmix/1", np.arange(50), WORDS)
    assert not mix_augmentations(np.zeros((50, 8, 8, 3), dtype=np.uint8), words).any()


def test_mix_weights_by_hand() -> None:
    """With all chains inverting a white image to black, the mix is 1 - m, m the Beta(1, 1) weight of the words."""
    # Chain words: depth 1, operation solarize (4 of 9), full strength; the chain weights sum to 1 whatever they are.
    chain = [0, math.ceil(4 / 9 * 2**32), 2**32 - 1] + [0] * (3 * DEPTH - 2)
    words = np.array([[5, 2**31, 2**30, quarter * 2**30, *(chain * WIDTH)] for quarter in range(4)], dtype=np.uint32)
    mixed = mix_augmentations(np.full((4, 2, 2, 3), 255, dtype=np.uint8), words)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], [1, 0.75, 0.5, 0.25], atol=1e-6)


def test_dirichlet_weights_have_their_moments() -> None:
    """Weights of a chain have mean 1/3 and variance 1/18, those of Dirichlet(1, 1, 1)."""
    # Chain 0 turns white into black (solarize), the others leave it white (translate by 0 pixels).
    black = [0, math.ceil(4 / 9 * 2**32), 2**32 - 1] + [0] * (3 * DEPTH - 2)
    white = [0, math.ceil(7 / 9 * 2**32), 0] + [0] * (3 * DEPTH - 2)
    words = rng.words(0, "weights", np.arange(4000), WORDS)
    words[:, WIDTH] = 2**32 - 1
    words[:, WIDTH + 1 :] = np.array([*black, *white, *white], dtype=np.uint32)
    weight = 1 - mix_augmentations(np.full((4000, 1, 1, 3), 255, dtype=np.uint8), words)[:, 0, 0, 0]
    assert weight.mean() == pytest.approx(1 / 3, abs=0.012)
    assert weight.var() == pytest.approx(1 / 18, abs=0.004)


def test_jensen_shannon_closed_forms() -> None:
    """0 for equal predictions, log 3 for disjoint ones, and a value worked by hand."""
    sure = torch.eye(3)
    assert float(jensen_shannon([sure, sure, sure])) == pytest.approx(0, abs=1e-6)
    assert float(jensen_shannon([sure, sure.roll(1, 0), sure.roll(2, 0)])) == pytest.approx(math.log(3), abs=1e-6)
    # p = (1, 0), (1/2, 1/2), (0, 1): the mixture is (1/2, 1/2); KL are log 2, 0, log 2.
    parts = [torch.tensor([row]) for row in ([1.0, 0.0], [0.5, 0.5], [0.0, 1.0])]
    assert float(jensen_shannon(parts)) == pytest.approx(2 / 3 * math.log(2), abs=1e-6)


@given(st.integers(0, 10_000))
def test_jensen_shannon_is_entropy_of_the_mean_minus_mean_entropy(seed: int) -> None:
    """The other form of the divergence, in float64 NumPy, on random predictions."""
    logits = np.random.default_rng(seed).normal(0, 3, (3, 5, 7))
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)

    def entropy(q: NDArray[np.float64]) -> NDArray[np.float64]:
        total: NDArray[np.float64] = -(q * np.log(q)).sum(-1)
        return total

    expected = (entropy(p.mean(0)) - entropy(p).mean(0)).mean()
    assert float(jensen_shannon(list(torch.from_numpy(p)))) == pytest.approx(expected, abs=1e-5)


def test_jensen_shannon_gradient_stays_finite() -> None:
    """Probabilities that underflow to 0 do not poison the gradient."""
    logits = torch.tensor([[[200.0, 0.0, -200.0]], [[-200.0, 0.0, 200.0]], [[0.0, 0.0, 0.0]]], requires_grad=True)
    torch.autograd.backward(jensen_shannon(list(logits.softmax(2))))
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
