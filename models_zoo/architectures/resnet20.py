"""`resnet20`: the residual network for CIFAR with parameter-free shortcuts (He et al., 2016, section 4.2, option A)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models_zoo.architectures.base import Architecture, Network, Record
from models_zoo.architectures.residual import initialise, run_stage, stage


class ResNet20(Network):
    """A 3x3 stem and three stages of three blocks with 16, 32 and 64 maps; 19 recorded layers of 688 units.

    Args:
        classes: number of logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, 3, 1, "A")
        self.layer2 = stage(16, 32, 3, 2, "A")
        self.layer3 = stage(32, 64, 3, 2, "A")
        self.linear = nn.Linear(64, classes)
        initialise(self)

    def run(self, images: torch.Tensor, record: Record) -> torch.Tensor:
        """See `Network.run`; records relu1, then relu1 and relu2 of each block."""
        maps = F.relu(self.bn1(self.conv1(images)), inplace=True)
        if record is not None:
            record["relu1"] = maps
        for name in ("layer1", "layer2", "layer3"):
            maps = run_stage(self.get_submodule(name), maps, record, name)
        logits: torch.Tensor = self.linear(maps.mean((2, 3)))
        return logits


RESNET20 = Architecture(
    name="resnet20",
    version="1",
    builder=lambda classes, _size: ResNet20(classes),
    min_size=8,
    default_size=(32, 32),
    classifier="linear.weight",
    description="CIFAR residual network of 20 layers, shortcuts without parameters, 270 thousand parameters",
    citation="He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016",
)
