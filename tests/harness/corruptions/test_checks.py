"""Bad input to `corrupt`: each a typed error, one line, naming what is wrong."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from harness.corruptions import corrupt
from harness.errors import InvalidArgument, UnknownName

GOOD = np.zeros((2, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (GOOD.astype(np.float32), "float32"),
        (np.full(GOOD.shape, np.nan), "NaN"),
        (GOOD.astype(np.int64), "int64"),
        (GOOD[:0], "an empty batch"),
        (GOOD[0], r"images\[None\]"),
        (GOOD[..., :1], "grey"),
        (np.zeros((1, 32, 32, 4), dtype=np.uint8), "RGBA"),
        (np.zeros((1, 3, 32, 32), dtype=np.uint8), "32 channels"),
        (np.zeros((1, 31, 40, 3), dtype=np.uint8), "31x40 pixels.*at least 32x32"),
        ([[1, 2]], "list"),
    ],
)
def test_wrong_images_are_refused(images: Any, words: str) -> None:
    """Wrong dtype, NaN, empty, one image, grey, RGBA, NCHW, too small, not an array."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        corrupt(images, "fog", 1, suite="imagecorruptions")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("severity", [0, 6, -1, 2.0, True, "3", None])
def test_wrong_severities_are_refused(severity: Any) -> None:
    """Only the integers 1 to 5."""
    with pytest.raises(InvalidArgument, match=r"severity: got .*1 to 5"):
        corrupt(GOOD, "fog", severity, suite="imagecorruptions")


@pytest.mark.parametrize("indices", [[0], [0, -1], [0.0, 1.0], [[0, 1]]])
def test_wrong_indices_are_refused(indices: Any) -> None:
    """One non-negative integer an image."""
    with pytest.raises(InvalidArgument, match="indices"):
        corrupt(GOOD, "fog", 1, suite="imagecorruptions", indices=indices)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5])
def test_wrong_seeds_are_refused(seed: Any) -> None:
    """Only integers from 0 to 2**63 - 1."""
    with pytest.raises(InvalidArgument, match="seed"):
        corrupt(GOOD, "fog", 1, suite="imagecorruptions", seed=seed)


def test_unknown_names_are_refused_with_a_hint() -> None:
    """Corruption and suite: did you mean."""
    with pytest.raises(UnknownName, match="did you mean 'gaussian_noise'"):
        corrupt(GOOD, "gausian_noise", 1, suite="imagecorruptions")
    with pytest.raises(UnknownName, match="did you mean 'imagecorruptions'"):
        corrupt(GOOD, "fog", 1, suite="imagecorruption")


def test_listing_suites_imports_nothing_heavy() -> None:
    """Neither torch, OpenCV, scikit-image, SciPy nor the reference package comes with the list."""
    code = (
        "import sys; from harness.corruptions import SUITES; [SUITES.get(n).version('fog') for n in SUITES];"
        "heavy = {'torch', 'cv2', 'skimage', 'scipy', 'imagecorruptions', 'PIL'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
