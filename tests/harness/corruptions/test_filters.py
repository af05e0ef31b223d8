"""The two forms of each filter agree, and so do whole corruptions taken through the form for other devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy import ndimage

from harness.corruptions import SUITES, blur, digital, engine, filters, sampling
from harness.corruptions.draws import EngineDraws

if TYPE_CHECKING:
    from harness.types import ImagesU8

NAMES = SUITES.get("cifar-10-c").names
FIELD = np.random.Generator(np.random.PCG64(1)).uniform(0, 255, (3, 20, 27, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("border", "mode"), [("replicate", "nearest"), ("reflect", "reflect"), ("reflect101", "mirror")]
)
def test_separable_is_scipys_correlation(border: filters.Border, mode: str) -> None:
    """Both forms equal SciPy's one-dimensional correlations, edges included, to float32 rounding."""
    down, across = filters.gaussian_kernel(1.3), filters.gaussian_kernel(0.6)
    wanted = ndimage.correlate1d(FIELD.astype(float), down, axis=1, mode=mode)
    wanted = ndimage.correlate1d(wanted, across, axis=2, mode=mode)
    for form in (filters.separable_host, filters.separable_torch):
        np.testing.assert_allclose(form(torch.from_numpy(FIELD), down, across, border), wanted, atol=2e-4)


@pytest.mark.parametrize("radius", [3, 8])
def test_correlate_is_scipys(radius: int) -> None:
    """Both forms equal SciPy's correlation with the disk, small (direct) and large (Fourier)."""
    kernel = blur.disk(radius, 0.5)
    wanted = ndimage.correlate(FIELD.astype(float), kernel[None, :, :, None], mode="mirror")
    for form in (filters.correlate_host, filters.correlate_torch):
        np.testing.assert_allclose(form(torch.from_numpy(FIELD), kernel, "reflect101"), wanted, atol=2e-3)


def test_bilinear_is_scipys_map_coordinates() -> None:
    """Inside and far outside the image, reflected about the pixels' edges or centres."""
    generator = np.random.Generator(np.random.PCG64(2))
    planes = FIELD[:2].transpose(3, 0, 1, 2).copy()
    rows, columns = (generator.uniform(-35, 60, (2, 20, 27)).astype(np.float32) for _ in range(2))
    for half_sample, mode in ((True, "reflect"), (False, "mirror")):
        ours = sampling.bilinear(
            torch.from_numpy(planes), torch.from_numpy(rows), torch.from_numpy(columns), half_sample=half_sample
        )
        for c in range(3):
            for i in range(2):
                wanted = ndimage.map_coordinates(planes[c, i].astype(float), [rows[i], columns[i]], order=1, mode=mode)
                np.testing.assert_allclose(ours[c, i], wanted, atol=5e-3)


@pytest.mark.parametrize("reach", [3, 40])
def test_bilinear_of_bytes_is_scipys_map_coordinates(reach: int) -> None:
    """Images of bytes, positions near the image (gathered as whole pixels) and far from it (plane by plane)."""
    generator = np.random.Generator(np.random.PCG64(3))
    images = generator.integers(0, 256, (2, 20, 27, 3), dtype=np.uint8)
    rows = generator.uniform(-reach, 20 + reach, (2, 20, 27)).astype(np.float32)
    columns = generator.uniform(-reach, 27 + reach, (2, 20, 27)).astype(np.float32)
    for half_sample, mode in ((True, "reflect"), (False, "mirror")):
        places = torch.from_numpy(rows), torch.from_numpy(columns)
        ours = sampling.bilinear(torch.from_numpy(images), *places, half_sample=half_sample)
        for c, i in np.ndindex(3, 2):
            channel = images[i, :, :, c].astype(float)
            wanted = ndimage.map_coordinates(channel, [rows[i], columns[i]], order=1, mode=mode)
            np.testing.assert_allclose(ours[c, i], wanted, atol=5e-3)


def testchain_ends_are_those_of_a_plain_walk() -> None:
    """Random forward links with long chains: the same ends as following each one by itself."""
    generator = np.random.Generator(np.random.PCG64(4))
    size = 5000
    steps = generator.integers(1, 4, size) * (generator.random(size) < 0.95)
    link = np.minimum(np.arange(size) + steps, size - 1).astype(np.int32)
    wanted = link.copy()
    for place in range(size - 1, -1, -1):
        wanted[place] = place if link[place] == place else wanted[link[place]]
    np.testing.assert_array_equal(blur.chain_ends(torch.from_numpy(link)), wanted)


def test_split_and_join_are_inverse(photos: ImagesU8) -> None:
    """Planes hold the channels; joined they are the images again."""
    images = torch.from_numpy(photos[:3].copy())
    planes = filters.split(images)
    assert torch.equal(planes, images.permute(3, 0, 1, 2))
    assert torch.equal(filters.join(planes), images)


@pytest.mark.parametrize("factor", [0.95, 0.6, 0.25])
def test_pixelate_repeats_pillows_integers(factor: float, photos: ImagesU8) -> None:
    """The torch form equals Pillow to the last value, on square and oblong images."""
    for images in (photos[:4], photos[:4, :, :30]):
        tensor = torch.from_numpy(np.ascontiguousarray(images))
        height, width = images.shape[1:3]
        size = int(height * factor), int(width * factor)
        assert torch.equal(digital.pixelate_torch(tensor, *size), digital.pixelate_host(tensor, *size))


@pytest.mark.parametrize("suite", ["cifar-10-c", "imagecorruptions"])
@pytest.mark.parametrize("name", NAMES)
def test_promise_b_between_the_forms(suite: str, name: str, photos: ImagesU8, monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for other devices, run here, differs by at most one grey level, and on at most 1 value in 50."""
    chosen, images = SUITES.get(suite), torch.from_numpy(photos[:6].copy())
    for severity in (1, 3, 5):
        results = []
        for host in (True, False):
            monkeypatch.setattr(filters, "on_host", lambda _, host=host: host)
            draws = EngineDraws(0, name, severity, np.arange(6), images.device)
            draws.on_host = host
            results.append(engine.KERNELS[name](images, chosen.recipe(name, severity), draws).numpy().astype(int))
        gap = np.abs(results[0] - results[1])
        assert gap.max() <= 1
        assert (gap > 0).mean() <= 0.02
