"""`small_cnn`: four convolutions with batch normalisation, for small images and quick experiments on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models_zoo.architectures.base import Architecture, Network, Record

WIDTHS = (16, 32, 64, 64)
STRIDES = (1, 2, 2, 1)


class SmallCnn(Network):
    """conv-bn-relu four times (16, 32, 64, 64 maps; the 2nd and 3rd halve the image), spatial mean, linear.

    Args:
        classes: number of logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        previous = 3
        for number, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(previous, width, 3, stride=stride, padding=1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(width))
            previous = width
        self.linear = nn.Linear(previous, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def run(self, images: torch.Tensor, record: Record) -> torch.Tensor:
        """See `Network.run`; records relu1 to relu4."""
        maps = images
        for number in range(1, len(WIDTHS) + 1):
            maps = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(maps))
            maps = F.relu(maps, inplace=True)
            if record is not None:
                record[f"relu{number}"] = maps
        logits: torch.Tensor = self.linear(maps.mean((2, 3)))
        return logits


SMALL_CNN = Architecture(
    name="small_cnn",
    version="1",
    builder=lambda classes, _size: SmallCnn(classes),
    min_size=8,
    default_size=(32, 32),
    classifier="linear.weight",
    description="four 3x3 convolutions with batch normalisation, 61 thousand parameters",
    citation="robustboard",
)
