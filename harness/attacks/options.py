"""The typed options of an attack: defaults, domains and the check that completes a table of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import InvalidArgument, UnknownName
from harness.spec import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option: its default gives the type, the bounds or choices its domain."""

    default: Scalar
    help: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Scalar) -> Scalar:
        """`value` in the option's type (an integer becomes a float where a float is meant).

        Raises:
            InvalidArgument: another type, or outside the domain.
        """
        kind = type(self.default)
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value, fits = float(value), True
        if not fits:
            raise InvalidArgument(name, value, self.domain())
        if self.choices and value not in self.choices:
            raise InvalidArgument(name, value, self.domain())
        if isinstance(value, (int, float)) and not (self.low <= value <= self.high and math.isfinite(value)):
            raise InvalidArgument(name, value, self.domain())
        return value

    def domain(self) -> str:
        """The domain in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}[type(self.default)]
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"{words} from {self.low:g} to {self.high:g}"
        if math.isfinite(self.low):
            return f"{words}, at least {self.low:g}"
        return words


def complete(attack: str, table: Mapping[str, Option], given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """All options of `attack`, defaults written out, in the order of `table`.

    Raises:
        UnknownName: an option that the attack does not have, with the nearest one.
        InvalidArgument: a value outside its domain.
    """
    for name in given:
        if name not in table:
            raise UnknownName(f"option of {attack}", name, table)
    return {name: option.check(name, given.get(name, option.default)) for name, option in table.items()}
