"""Architectures by name; each is imported when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Registry

if TYPE_CHECKING:
    from models_zoo.architectures.base import Architecture

__all__ = ["ARCHITECTURES"]

ARCHITECTURES: Registry[Architecture] = Registry("architecture")
ARCHITECTURES.add("small_cnn", "models_zoo.architectures.small_cnn:SMALL_CNN")
ARCHITECTURES.add("resnet20", "models_zoo.architectures.resnet20:RESNET20")
ARCHITECTURES.add("resnet18", "models_zoo.architectures.resnet18:RESNET18")
