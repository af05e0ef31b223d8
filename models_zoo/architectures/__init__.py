"""Architectures by name; each is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from harness.errors import UnknownName
from harness.registry import Registry

if TYPE_CHECKING:
    from models_zoo.architectures.base import Architecture

__all__ = ["ARCHITECTURES", "Architectures"]


class Architectures(Registry["Architecture"]):
    """The registered architectures, and besides them any classification network of two packages.

    `packages` maps the prefix of such a name (`torchvision:resnet50`) to the module whose `describe` makes its entry.
    Its members are not listed, and the package is imported when one is first asked for.
    """

    def __init__(self) -> None:
        super().__init__("architecture")
        self.packages = {
            "torchvision": "models_zoo.architectures.torchvision_networks",
            "timm": "models_zoo.architectures.timm_networks",
        }
        self._described: dict[str, Architecture] = {}

    def get(self, name: str) -> Architecture:
        """The architecture called `name`.

        Raises:
            UnknownName: with the nearest known name.
            MissingDependency: the package of a prefixed name is not installed.
        """
        package, colon, inner = name.partition(":")
        if not colon:
            return super().get(name)
        if package not in self.packages:
            raise UnknownName("package", package, self.packages)
        if name not in self._described:
            self._described[name] = importlib.import_module(self.packages[package]).describe(inner)
        return self._described[name]

    def __contains__(self, name: object) -> bool:
        """Whether a name is registered or has the prefix of a package; `get` says whether the package has it."""
        return super().__contains__(name) or (isinstance(name, str) and name.partition(":")[0] in self._prefixes(name))

    def _prefixes(self, name: str) -> tuple[str, ...]:
        return tuple(self.packages) if ":" in name else ()


ARCHITECTURES = Architectures()
ARCHITECTURES.add("small_cnn", "models_zoo.architectures.small_cnn:SMALL_CNN")
ARCHITECTURES.add("resnet20", "models_zoo.architectures.cifar_resnet:RESNET20")
ARCHITECTURES.add("resnet32", "models_zoo.architectures.cifar_resnet:RESNET32")
ARCHITECTURES.add("resnet44", "models_zoo.architectures.cifar_resnet:RESNET44")
ARCHITECTURES.add("resnet56", "models_zoo.architectures.cifar_resnet:RESNET56")
ARCHITECTURES.add("resnet18", "models_zoo.architectures.resnet18:RESNET18")
ARCHITECTURES.add("wide_resnet28_10", "models_zoo.architectures.wide_resnet:WIDE_RESNET28_10")
