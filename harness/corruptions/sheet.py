"""A labelled contact sheet: one image under each corruption at each severity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from harness.corruptions import corrupt
from harness.corruptions.checks import check_batch
from harness.corruptions.suites import SEVERITIES, SUITES

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 8
SMALLEST_CELL = 96
"""Small images are enlarged (each pixel repeated) to at least this many pixels a side."""


def contact_sheet(
    image: NDArray[np.uint8],
    *,
    suite: str = "cifar-10-c",
    names: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> Image.Image:
    """Draw corruptions (rows) by severities (columns), the clean image first.

    Args:
        image: h x w x 3, uint8, RGB.
        suite: name of a suite; `NAME@any` for sizes that it is not meant for.
        names: corruptions; all of the suite if None.
        severities: 1 to 5.
        seed: of the draws.

    Returns:
        An RGB picture; save it as PNG.

    Raises:
        UnknownName: suite or corruption.
        InvalidArgument: not an RGB image, a size that the suite is not for, or a wrong severity.
    """
    check_batch(image[None] if isinstance(image, np.ndarray) and image.ndim == 3 else image)
    rows = tuple(names) if names is not None else SUITES.get(suite).names
    factor = max(1, -(-SMALLEST_CELL // min(image.shape[:2])))
    height, width = image.shape[0] * factor, image.shape[1] * factor
    font: Any = ImageFont.load_default(14)
    left = MARGIN + max(int(font.getlength(text)) for text in (*rows, "corruption")) + MARGIN
    top = MARGIN + 22
    size = (left + (len(severities) + 1) * (width + MARGIN), top + len(rows) * (height + MARGIN))
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    for column, text in enumerate(("clean", *(f"severity {severity}" for severity in severities))):
        pen.text((left + column * (width + MARGIN), MARGIN), text, fill="black", font=font)
    for row, name in enumerate(rows):
        y = top + row * (height + MARGIN)
        pen.text((MARGIN, y + height // 2 - 8), name, fill="black", font=font)
        cells = [image, *(corrupt(image[None], name, s, suite=suite, seed=seed)[0] for s in severities)]
        for column, cell in enumerate(cells):
            large = np.repeat(np.repeat(cell, factor, axis=0), factor, axis=1)
            page.paste(Image.fromarray(large), (left + column * (width + MARGIN), y))
    return page
