"""The engine against the package, the restated scripts and ImageMagick itself, with their own draws fed in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from harness.corruptions import SUITES, blur, filters, reference, restated
from harness.corruptions.fidelity import GRID, compare, photographs
from harness.corruptions.suites import SEVERITIES

if TYPE_CHECKING:
    from harness.types import ImagesU8

ROOT = Path(__file__).parents[3]
PHOTOS = sorted((ROOT / "tests" / "fixtures" / "photos" / "test").glob("*/*.jpg"))
NAMES = SUITES.get("imagecorruptions").names


@pytest.mark.parametrize("suite", ["imagecorruptions", "cifar-10-c"])
@pytest.mark.parametrize("name", NAMES)
def test_small_photographs(suite: str, name: str, photos: ImagesU8) -> None:
    """At 32x32, all severities: at most 1 grey level on 99.9 % of the values, none over 2."""
    row = compare(suite, name, photos[5:13])
    assert row.passed, row


@pytest.mark.parametrize("name", NAMES)
def test_photographs_of_64(name: str) -> None:
    """Tiny-ImageNet-C and the package at 64x64."""
    images = photographs(64, 2)
    for suite, severities in (("tiny-imagenet-c", SEVERITIES), ("imagecorruptions", (2, 5))):
        row = compare(suite, name, images, severities)
        assert row.passed, row


@pytest.mark.parametrize("name", NAMES)
def test_photographs_of_224(name: str) -> None:
    """ImageNet-C and the package at 224x224."""
    images = photographs(224, 1)
    severities = (2,) if name == "glass_blur" else (1, 3, 5)  # the published loop takes half a second an iteration
    for suite in ("imagenet-c", "imagecorruptions"):
        row = compare(suite, name, images, severities)
        assert row.passed, row


def test_motion_blur_is_imagemagicks() -> None:
    """Output of ImageMagick 6.9.11 (Q16) through Wand, as the published scripts call it: equal to the last value."""
    golden = np.load(ROOT / "tests" / "golden" / "corruptions_imagemagick.npz")
    keys = [f"rgb{i}" for i in range(6)] + [f"grey{i}" for i in range(3)]
    for key, (file, radius, sigma, angle) in zip(keys, golden["cases"].tolist(), strict=True):
        photo = np.asarray(Image.open(PHOTOS[int(file)]))
        photo = photo if key.startswith("rgb") else photo[..., 0]
        np.testing.assert_array_equal(
            restated.imagemagick_motion_blur(photo, int(radius), sigma, angle), golden[key], err_msg=key
        )
        taps = blur.lines(int(radius), sigma, [angle], 32, 32, cut=False)
        ours = blur.as_imagemagick(filters.along(torch.from_numpy(photo[None].copy()), taps))
        gap = np.abs(ours[0].numpy() - golden[key])
        assert gap.max() <= 1
        assert (gap == 0).mean() > 0.999


def test_the_table_of_the_package_is_in_its_code() -> None:
    """Our literal table of the package's parameters equals the constants in its compiled functions."""
    module = reference.load()
    table = SUITES.get("imagecorruptions").parameters
    for name in NAMES:
        constants = getattr(module, name).__code__.co_consts
        flat = [row[0] if len(row) == 1 else row for row in table[name]]
        if name == "zoom_blur":  # five calls of arange(1, stop, step)
            assert {stop for stop, _ in table[name]} | {step for _, step in table[name]} <= set(constants)
        else:
            assert tuple(flat) in constants


def test_the_page_covers_the_grid() -> None:
    """docs/fidelity.md has a passing row for each corruption of each suite and size of the grid."""
    page = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
    sections = page.split("\n## ")[1:]
    assert [section.split("\n")[0] for section in sections] == [f"{s}, {n}x{n} ({k} images)" for s, n, k in GRID]
    for section in sections:
        rows = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| corruption")]
        assert tuple(row.split(" | ")[0].removeprefix("| ") for row in rows) == NAMES
        assert all(row.endswith("| yes |") for row in rows)
