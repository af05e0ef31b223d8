"""One generic registry of named things: data sets, suites, attacks, measures, scores, architectures, recipes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from harness.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to objects, with lazy targets.

    A target is the object itself or a string `"package.module:attribute"`, imported when it is first asked for, so that
    listing names never imports torch.

    Args:
        kind: what is registered, for messages ("corruption", "attack", ...).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._targets: dict[str, T | str] = {}
        self._frozen = False

    def add(self, name: str, target: T | str) -> None:
        """Register `target` under `name`.

        Raises:
            ValueError: the name is taken, or the registry is frozen.
        """
        if self._frozen:
            raise ValueError(f"the {self.kind} registry is frozen; {name!r} comes too late")
        if name in self._targets:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._targets[name] = target

    def get(self, name: str) -> T:
        """The object called `name`.

        Raises:
            UnknownName: with the nearest known name.
        """
        if name not in self._targets:
            raise UnknownName(self.kind, name, self._targets)
        target = self._targets[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = cast("T", getattr(importlib.import_module(module), attribute))
            self._targets[name] = target
        return target

    def freeze(self) -> None:
        """Refuse further additions."""
        self._frozen = True

    def names(self) -> tuple[str, ...]:
        """All names, in the order of registration."""
        return tuple(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)
