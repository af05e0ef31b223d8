"""`torchvision:NAME`: every classification network of torchvision, with fresh weights.

The package's version is part of the architecture's: the same weights may give other logits in another release.
"""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn
from torchvision import models

from harness.errors import UnknownName
from models_zoo.architectures.adapted import describe_adapted
from models_zoo.architectures.base import Architecture

_SIZED = {"vit": ("image_size", 32), "maxvit": ("input_size", 224)}
"""First part of a name -> the argument that tells the network its images' size, and the smallest one."""
_EXPLICIT = {"googlenet": {"init_weights": True}, "inception_v3": {"init_weights": True}}
"""Arguments without which torchvision warns that their default will change."""
_FLOOR = 8


def describe(name: str) -> Architecture:
    """The architecture `torchvision:NAME`.

    Raises:
        UnknownName: torchvision has no classification network of that name.
    """
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName("torchvision network", name, known)
    weights = models.get_model_weights(name).DEFAULT
    side = int(weights.transforms().crop_size[0])
    argument, smallest = _SIZED.get(name.partition("_")[0], ("", max(_FLOOR, *weights.meta["min_size"])))

    def make(classes: int, size: tuple[int, int] | None = None) -> nn.Module:
        options: dict[str, Any] = dict(_EXPLICIT.get(name, {}))
        if argument and size is not None and size != (side, side):
            options[argument] = size if argument == "input_size" else max(size)
        network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
        return network

    release, citation = torchvision.__version__.split("+")[0], f"torchvision, models.{name}"
    return describe_adapted("torchvision", release, name, make, min_size=smallest, side=side, citation=citation)
