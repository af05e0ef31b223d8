"""`resnet18` with a stem for small images: the layout of many published CIFAR checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models_zoo.architectures.base import Architecture, Network, Record
from models_zoo.architectures.residual import run_stage, stage


class ResNet18(Network):
    """A 3x3 stem without pooling and four stages of two blocks; 17 recorded layers of 3,904 units.

    The last maps are averaged over all positions, which for 32x32 images is the 4x4 pooling of the published layout.

    Args:
        classes: number of logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, 2, 1, "B")
        self.layer2 = stage(64, 128, 2, 2, "B")
        self.layer3 = stage(128, 256, 2, 2, "B")
        self.layer4 = stage(256, 512, 2, 2, "B")
        self.linear = nn.Linear(512, classes)

    def run(self, images: torch.Tensor, record: Record) -> torch.Tensor:
        """See `Network.run`; records relu1, then relu1 and relu2 of each block."""
        maps = F.relu(self.bn1(self.conv1(images)), inplace=True)
        if record is not None:
            record["relu1"] = maps
        for name in ("layer1", "layer2", "layer3", "layer4"):
            maps = run_stage(self.get_submodule(name), maps, record, name)
        logits: torch.Tensor = self.linear(maps.mean((2, 3)))
        return logits


RESNET18 = Architecture(
    name="resnet18",
    version="1",
    builder=lambda classes, _size: ResNet18(classes),
    min_size=16,
    default_size=(32, 32),
    classifier="linear.weight",
    description="residual network of 18 layers with a stem for small images, 11.2 million parameters",
    citation="He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016",
)
