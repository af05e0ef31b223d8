"""What is trained on: images in memory with their labels, as tensors, and the share of right answers on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.digest import digest_arrays
from harness.errors import InvalidArgument
from models_zoo.model import ZooModel

if TYPE_CHECKING:
    from harness.types import ImagesU8, Labels

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """Images to train on, and optionally a test split that is looked at once, at the end."""

    name: str
    images: ImagesU8
    """n x h x w x 3, uint8."""
    labels: Labels
    class_names: tuple[str, ...]
    test_images: ImagesU8 | None = None
    test_labels: Labels | None = None

    def __post_init__(self) -> None:
        _check(self.images, self.labels, len(self.class_names))
        if self.test_images is None and self.test_labels is None:
            return
        if self.test_images is None or self.test_labels is None:
            raise InvalidArgument("test_images", "one of test_images and test_labels", "both or none")
        _check(self.test_images, self.test_labels, len(self.class_names), prefix="test_")
        if self.test_images.shape[1:] != self.images.shape[1:]:
            height, width = self.images.shape[1:3]
            raise InvalidArgument(
                "test_images", f"{self.test_images.shape}", f"{height} x {width} pixels as the training images"
            )

    def digest(self) -> str:
        """SHA-256 of what weights can depend on: images, labels and class names, without the test split."""
        return digest_arrays({"images": self.images, "labels": self.labels}, header=list(self.class_names))


def _check(images: ImagesU8, labels: Labels, classes: int, *, prefix: str = "") -> None:
    """Refuse images and labels that do not belong together; `prefix` is that of their names in messages."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise InvalidArgument(f"{prefix}images", f"{images.dtype} {images.shape}", "uint8, n x height x width x 3")
    if labels.shape != images.shape[:1] or len(labels) == 0:
        raise InvalidArgument(f"{prefix}labels", labels.shape, f"one for each of {len(images)} images")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise InvalidArgument(f"{prefix}labels", int(wrong[0]), f"classes from 0 to {classes - 1}")


def channel_statistics(images: ImagesU8) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the three channels in [0, 1], to four decimals; no deviation is below 0.001."""
    pixels = images.reshape(-1, 3)
    mean = [round(float(value) / 255, 4) for value in pixels.mean(0, dtype=np.float64)]
    std = [max(round(float(value) / 255, 4), 1e-3) for value in pixels.std(0, dtype=np.float64)]
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def to_tensor(images: ImagesU8) -> torch.Tensor:
    """uint8 NHWC to float32 NCHW in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(255)


def accuracy(model: ZooModel, images: ImagesU8, labels: Labels) -> float:
    """Share of right answers, in [0, 1], of a model in eval mode on uint8 NHWC images."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), EVALUATION_BATCH):
            batch = to_tensor(images[start : start + EVALUATION_BATCH]).to(model.mean.device)
            predicted = model(batch).argmax(1).cpu().numpy()
            right += int((predicted == labels[start : start + EVALUATION_BATCH]).sum())
    return right / len(images)
