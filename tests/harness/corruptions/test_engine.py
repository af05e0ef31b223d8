"""The engine: one image, one result, whatever the batch, the chunk or the memory layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.corruptions import SUITES, corrupt, filters
from harness.errors import InvalidArgument

if TYPE_CHECKING:
    from harness.types import ImagesU8

NAMES = SUITES.get("cifar-10-c").names
ENGINE_SUITES = ("cifar-10-c", "imagecorruptions", "imagenet-c@any", "tiny-imagenet-c@any")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES),
    suite=st.sampled_from(ENGINE_SUITES),
    severity=st.integers(1, 5),
    order=st.lists(st.integers(0, 63), min_size=1, max_size=40),
    seed=st.integers(0, 2**63 - 1),
)
def test_an_image_does_not_depend_on_its_batch(
    name: str, suite: str, severity: int, order: list[int], seed: int, photos: ImagesU8
) -> None:
    """Any selection, order and repetition gives each index the same bytes as the whole set does (promise A)."""
    whole = corrupt(photos, name, severity, suite=suite, seed=seed)
    part = corrupt(photos[order], name, severity, suite=suite, seed=seed, indices=order)
    np.testing.assert_array_equal(part, whole[order])


@pytest.mark.parametrize("name", NAMES)
def test_one_image_at_a_time_equals_the_batch(name: str, photos: ImagesU8, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of one, and chunks of other sizes, give the same bytes; the input stays as it was."""
    copy = photos[:20].copy()
    whole = corrupt(copy, name, 4)
    np.testing.assert_array_equal(copy, photos[:20])
    alone = [corrupt(photos[i : i + 1], name, 4, indices=[i])[0] for i in range(20)]
    np.testing.assert_array_equal(np.stack(alone), whole)
    monkeypatch.setattr(filters, "HOST_PIXELS", 3 * 32 * 32)
    np.testing.assert_array_equal(corrupt(photos[:20], name, 4), whole)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_layouts(name: str) -> None:
    """Oblong images work where a suite takes any size; a strided or read-only view gives what its copy gives."""
    wide = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (3, 80, 130, 3), dtype=np.uint8)
    view = wide[:, ::2, 10:60]
    view.setflags(write=False)
    out = corrupt(view, name, 2, suite="imagecorruptions")
    assert out.shape == view.shape
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, corrupt(np.ascontiguousarray(view), name, 2, suite="imagecorruptions"))


@pytest.mark.parametrize("name", NAMES)
def test_flat_images_survive(name: str) -> None:
    """Black, white and mid-grey images raise no warning and give uint8 images (spatter may turn black, see there)."""
    flat = np.stack([np.full((32, 32, 3), value, dtype=np.uint8) for value in (0, 128, 255)])
    for severity in (1, 5):
        out = corrupt(flat, name, severity)
        assert out.shape == flat.shape
        if name in {"zoom_blur", "gaussian_blur", "motion_blur", "jpeg_compression", "pixelate", "contrast"}:
            assert int(np.abs(out.astype(int) - flat).max()) <= 2


def test_seed_severity_and_index_name_the_draws(photos: ImagesU8) -> None:
    """The same picture under another seed or index gets other noise; in another suite the same noise, scaled."""
    same = photos[[0, 0]]
    first = corrupt(same, "gaussian_noise", 3, seed=1)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, corrupt(same, "gaussian_noise", 3, seed=2))
    grey = np.full((1, 32, 32, 3), 128, dtype=np.uint8)
    cifar = corrupt(grey, "gaussian_noise", 1, suite="cifar-10-c").astype(float) - 128
    package = corrupt(grey, "gaussian_noise", 1, suite="imagecorruptions").astype(float) - 128
    assert np.corrcoef(cifar.ravel(), package.ravel())[0, 1] > 0.99


def test_another_size_is_refused_unless_asked_for_by_name(photos: ImagesU8) -> None:
    """ImageNet-C's parameters on 32x32 images are not CIFAR-10-C: that mistake needs to be made on purpose."""
    with pytest.raises(InvalidArgument, match=r"32x32 pixels.*224x224.*imagenet-c@any"):
        corrupt(photos, "fog", 1, suite="imagenet-c")
    assert corrupt(photos[:1], "fog", 1, suite="imagenet-c@any").shape == (1, 32, 32, 3)


def test_frost_refuses_images_larger_than_its_textures() -> None:
    """CIFAR-10-C shrinks the frost photographs to a fifth: larger images cannot be covered."""
    large = np.zeros((1, 300, 300, 3), dtype=np.uint8)
    with pytest.raises(InvalidArgument, match="smallest frost texture"):
        corrupt(large, "frost", 1, suite="cifar-10-c@any")


@pytest.mark.parametrize("name", NAMES)
def test_the_number_of_threads_does_not_matter(name: str, photos: ImagesU8) -> None:
    """One thread or two, in torch and in OpenCV: the same bytes; elastic also where it multiplies matrices."""
    cases = [("cifar-10-c", photos)]
    if name == "elastic_transform":
        cases.append(("imagenet-c", np.tile(photos[:1], (1, 7, 7, 1))))
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        for suite, images in cases:
            results = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                cv2.setNumThreads(threads)
                results.append(corrupt(images, name, 1, suite=suite))
            np.testing.assert_array_equal(results[0], results[1])
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
