"""Photographs for the tests of corruptions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from harness.types import ImagesU8

PHOTOS = Path(__file__).parents[2] / "fixtures" / "photos" / "test"


@pytest.fixture(scope="session")
def photos() -> ImagesU8:
    """64 photographs, 64 x 32 x 32 x 3, uint8, in order of class and file name."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(PHOTOS.glob("*/*.jpg"))])
