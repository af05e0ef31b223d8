"""`wide_resnet28_10`: the wide residual network of 28 layers and ten times the width, for small images.

Source: Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016, section 2: batch normalisation and
ReLU come before each convolution.

Modules are called `conv1`, `block1` to `block3`, `bn1` and `fc`. A block holds `layer.0` to `layer.3`, each with `bn1`,
`relu1`, `conv1`, `bn2`, `relu2`, `conv2` and, where the number of maps changes, `convShortcut`. This is the layout of
the public checkpoints of adversarially trained networks (TRADES and its followers). Some of their files hold a
`sub_block1` too, a block that no forward pass uses; it must be dropped from the file, since loading is strict.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from models_zoo.architectures.base import Architecture, Network, Record
from models_zoo.architectures.residual import initialise


class PreActivationBlock(nn.Module):
    """bn-relu-conv-bn-relu-conv plus the shortcut, which is never normalised after the addition.

    Where the number of maps changes, the shortcut is a 1x1 convolution of the first ReLU's output; elsewhere it is
    what came in.

    Args:
        inputs: maps coming in.
        maps: maps going out.
        stride: of the first convolution and the shortcut.
    """

    def __init__(self, inputs: int, maps: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, maps, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        if inputs != maps:
            self.convShortcut = nn.Conv2d(inputs, maps, 1, stride=stride, bias=False)

    def run(self, maps: torch.Tensor, record: Record, name: str) -> torch.Tensor:
        """Maps through the block; records `name`.relu1 and `name`.relu2."""
        first = self.relu1(self.bn1(maps))
        second = self.relu2(self.bn2(self.conv1(first)))
        if record is not None:
            record[f"{name}.relu1"] = first
            record[f"{name}.relu2"] = second
        shortcut = self.convShortcut(first) if hasattr(self, "convShortcut") else maps
        result: torch.Tensor = self.conv2(second) + shortcut
        return result


class Group(nn.Module):
    """Blocks of one width under the name `layer`, the first of which changes the shape."""

    def __init__(self, inputs: int, maps: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(inputs, maps, stride)
        self.layer = nn.Sequential(first, *(PreActivationBlock(maps, maps, 1) for _ in range(blocks - 1)))

    def run(self, maps: torch.Tensor, record: Record, name: str) -> torch.Tensor:
        """Maps through the blocks, called `name`.layer.0, `name`.layer.1, ..."""
        for index, block in enumerate(self.layer):
            if not isinstance(block, PreActivationBlock):
                raise TypeError(f"{name}.layer.{index} is a {type(block).__name__}, not a pre-activation block")
            maps = block.run(maps, record, f"{name}.layer.{index}")
        return maps


class WideResNet(Network):
    """A 3x3 stem, three groups with 16 k, 32 k and 64 k maps, and the last bn-relu: (depth - 4) / 3 + 1 layers.

    The last maps are averaged over all positions, which for 32x32 images is the 8x8 pooling of the published layout.

    Args:
        classes: number of logits.
        depth: 6 n + 4 layers of n blocks a group.
        width: k.
    """

    def __init__(self, classes: int, depth: int, width: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = Group(16, 16 * width, blocks, 1)
        self.block2 = Group(16 * width, 32 * width, blocks, 2)
        self.block3 = Group(32 * width, 64 * width, blocks, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def run(self, images: torch.Tensor, record: Record) -> torch.Tensor:
        """See `Network.run`; records relu1 and relu2 of each block, then relu."""
        maps = self.conv1(images)
        for name, group in (("block1", self.block1), ("block2", self.block2), ("block3", self.block3)):
            maps = group.run(maps, record, name)
        maps = F.relu(self.bn1(maps), inplace=True)
        if record is not None:
            record["relu"] = maps
        logits: torch.Tensor = self.fc(maps.mean((2, 3)))
        return logits


WIDE_RESNET28_10 = Architecture(
    name="wide_resnet28_10",
    version="1",
    builder=lambda classes, _size: WideResNet(classes, 28, 10),
    min_size=8,
    default_size=(32, 32),
    classifier="fc.weight",
    description="wide residual network of 28 layers, ten times the width, 36.5 million parameters",
    citation="Zagoruyko and Komodakis, Wide residual networks, BMVC 2016",
)
