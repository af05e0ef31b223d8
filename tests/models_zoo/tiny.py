"""A task that a small network learns in seconds."""

from __future__ import annotations

import numpy as np

from models_zoo.train import TrainingData


def quarters(images: int = 160) -> TrainingData:
    """Images of 12 x 12 in four classes, told apart by the brightest quarter; the first 40 are the test split, too."""
    generator = np.random.default_rng(0)
    labels = np.arange(images, dtype=np.int64) % 4
    pixels = generator.integers(0, 120, (images, 12, 12, 3), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[6 * row : 6 * row + 6, 6 * column : 6 * column + 6] += 100
    return TrainingData(
        name="quarters",
        images=pixels,
        labels=labels,
        class_names=("a", "b", "c", "d"),
        test_images=pixels[:40],
        test_labels=labels[:40],
    )
