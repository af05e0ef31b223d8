"""`timm:NAME`: every classification network of timm (PyTorch Image Models), with fresh weights.

The package is an extra. Its version is part of the architecture's: the same weights may give other logits in another
release.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from harness.errors import MissingDependency, UnknownName
from models_zoo.architectures.adapted import describe_adapted
from models_zoo.architectures.base import Architecture

_SMALLEST = 32
_USUAL = 224


def require_timm() -> Any:
    """The package.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import timm
    except ImportError:
        raise MissingDependency("timm networks need the package timm: pip install 'robustboard[timm]'") from None
    return timm


def describe(name: str) -> Architecture:
    """The architecture `timm:NAME`; NAME has no tag of pretrained weights.

    Raises:
        MissingDependency: timm is not installed.
        UnknownName: timm has no network of that name.
    """
    timm = require_timm()
    known = timm.list_models()
    if name not in known:
        raise UnknownName("timm network", name, known)
    config = timm.get_pretrained_cfg(name)
    side = config.input_size[-1] if config is not None else _USUAL
    fixed = config is not None and config.fixed_input_size
    smallest = config.min_input_size[-1] if config is not None and config.min_input_size else _SMALLEST

    def make(classes: int, size: tuple[int, int] | None = None) -> nn.Module:
        options = {"img_size": size} if fixed and size is not None and size != (side, side) else {}
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, **options)
        return network

    citation = f"Wightman, PyTorch Image Models (timm), {name}"
    return describe_adapted("timm", timm.__version__, name, make, min_size=smallest, side=side, citation=citation)
