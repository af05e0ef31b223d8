"""The basic residual block and the two shortcuts that CIFAR networks use (He et al., 2016)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from models_zoo.architectures.base import Record

Shortcut = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, missing maps filled with zeros, half before and half after; no weights.

    Args:
        stride: step in both directions.
        missing: maps to add.
    """

    def __init__(self, stride: int, missing: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = missing // 2
        self.after = missing - self.before

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps, n x maps x h x w, to n x (maps + missing) x h/stride x w/stride."""
        return F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """conv-bn-relu-conv-bn, plus the shortcut, then relu.

    Args:
        inputs: maps coming in.
        maps: maps going out.
        stride: of the first convolution and the shortcut.
        shortcut: where shapes change, "A" pads with zeros and "B" projects by a 1x1 convolution with batch
            normalisation.
    """

    def __init__(self, inputs: int, maps: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, maps, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or inputs != maps:
            if shortcut == "A":
                self.shortcut = PadShortcut(stride, maps - inputs)
            else:
                projection = nn.Conv2d(inputs, maps, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(maps))

    def run(self, maps: torch.Tensor, record: Record, name: str) -> torch.Tensor:
        """Maps through the block; records `name`.relu1 (inside) and `name`.relu2 (after the addition)."""
        inner = F.relu(self.bn1(self.conv1(maps)), inplace=True)
        outer = self.bn2(self.conv2(inner)).add_(self.shortcut(maps))
        outer = F.relu(outer, inplace=True)
        if record is not None:
            record[f"{name}.relu1"] = inner
            record[f"{name}.relu2"] = outer
        return outer


def stage(inputs: int, maps: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    """`blocks` basic blocks, the first of which changes the shape."""
    first = BasicBlock(inputs, maps, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(maps, maps, 1, shortcut) for _ in range(blocks - 1)))


def run_stage(layers: nn.Module, maps: torch.Tensor, record: Record, name: str) -> torch.Tensor:
    """Maps through a stage, block names being `name`.0, `name`.1, ..."""
    for index, block in layers.named_children():
        if not isinstance(block, BasicBlock):
            raise TypeError(f"{name}.{index} is a {type(block).__name__}, not a basic block")
        maps = block.run(maps, record, f"{name}.{index}")
    return maps


def initialise(network: nn.Module) -> None:
    """He initialisation of all convolutions, as the paper has it."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
