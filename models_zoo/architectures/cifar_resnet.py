"""`resnet20`, `resnet32`, `resnet44`, `resnet56`: the residual networks for CIFAR with parameter-free shortcuts.

Source: He et al., 2016, section 4.2: 6n + 2 layers, three stages of n blocks, shortcuts of option A. Modules are called
`conv1`, `bn1`, `layer1` to `layer3` (blocks `0` to `n - 1`, each with `conv1`, `bn1`, `conv2`, `bn2`) and `linear`, the
layout of the public checkpoints of these networks for CIFAR.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models_zoo.architectures.base import Architecture, Network, Record
from models_zoo.architectures.residual import initialise, run_stage, stage


class CifarResNet(Network):
    """A 3x3 stem and three stages with 16, 32 and 64 maps; 6n + 1 recorded layers of 16 + 224 n units.

    Args:
        classes: number of logits.
        blocks: blocks in a stage, n.
    """

    def __init__(self, classes: int, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = stage(16, 16, blocks, 1, "A")
        self.layer2 = stage(16, 32, blocks, 2, "A")
        self.layer3 = stage(32, 64, blocks, 2, "A")
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


def _entry(blocks: int, parameters: str) -> Architecture:
    depth = 6 * blocks + 2
    return Architecture(
        name=f"resnet{depth}",
        version="1",
        builder=lambda classes, _size: CifarResNet(classes, blocks),
        min_size=8,
        default_size=(32, 32),
        classifier="linear.weight",
        description=f"CIFAR residual network of {depth} layers, shortcuts without parameters, {parameters} parameters",
        citation="He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016",
    )


RESNET20 = _entry(3, "270 thousand")
RESNET32 = _entry(5, "464 thousand")
RESNET44 = _entry(7, "659 thousand")
RESNET56 = _entry(9, "853 thousand")
