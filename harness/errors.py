"""Every error that robustboard raises on purpose.

Two branches decide the exit code of the command line and the status over HTTP: `RequestError` (the request was wrong:
exit 2, HTTP 4xx, and nothing was written) and `WorkError` (the work failed: exit 1). A message names the argument, the
value and what would be right, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobustboardError(Exception):
    """Base of all errors that are meant for a person; `exit_code` is that of the command line."""

    exit_code = 1


class RequestError(RobustboardError, ValueError):
    """The request was wrong: a bad name, value, file or folder. Nothing was stored."""

    exit_code = 2


class InvalidArgument(RequestError):
    """A value outside its domain.

    Args:
        argument: name of the argument as the caller wrote it.
        value: the offending value.
        expected: what would be right, in words.
    """

    def __init__(self, argument: str, value: object, expected: str) -> None:
        self.argument = argument
        self.value = value
        self.expected = expected
        super().__init__(f"{argument}: got {_short(value)}, expected {expected}")

    def __reduce__(self) -> tuple[type, tuple[str, object, str]]:
        """Rebuild from the three parts: errors cross process borders."""
        return type(self), (self.argument, self.value, self.expected)


class UnknownName(RequestError):
    """A name that is not registered; the message offers the nearest known one.

    Args:
        kind: what was looked up ("model", "benchmark", "column", ...).
        name: the unknown name.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(sorted(known))
        near = difflib.get_close_matches(name, self.known, n=1, cutoff=0.5)
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif self.known:
            shown = ", ".join(self.known[:8]) + (", ..." if len(self.known) > 8 else "")
            hint = f"known: {shown}"
        else:
            hint = "none is known"
        super().__init__(f"unknown {kind} {_short(name)}; {hint}")

    def __reduce__(self) -> tuple[type, tuple[str, str, tuple[str, ...]]]:
        """Rebuild from the three parts: errors cross process borders."""
        return type(self), (self.kind, self.name, self.known)


class DataError(RequestError):
    """A data set that is missing, incomplete, unreadable or not what was declared."""


class CheckpointError(RequestError):
    """A weights file that is unreadable, unsafe or does not fit the architecture."""


class UnsafeCheckpoint(CheckpointError):
    """A checkpoint that would have to execute code to be read; it was refused and nothing was executed."""


class CardError(RequestError):
    """A model card with a missing, unknown or wrong field."""


class ExamplesError(RequestError):
    """A file of adversarial images that is unreadable, unsafe or not what it is said to be.

    Args:
        reasons: every reason, each naming the first offending image, the value found and what would be right.
    """

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons
        super().__init__("examples: " + "; ".join(reasons))

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        """Rebuild from the reasons: errors cross process borders."""
        return type(self), self.reasons


class StoreError(RobustboardError):
    """The store cannot be used."""


class NotAStore(StoreError, RequestError):
    """The file named as the store is something else; it is left alone."""

    exit_code = 2


class StoreTooNew(StoreError, RequestError):
    """The store was made by a newer version of robustboard."""

    exit_code = 2


class StoreNotReady(StoreError):
    """The store is missing or older than this version; `robustboard db upgrade` mends it."""

    exit_code = 2


class StoreMissing(StoreNotReady):
    """There is no store of that name yet."""


class MissingDependency(RobustboardError):
    """An optional package is not installed; the message holds the command that installs it."""

    exit_code = 2


class WorkError(RobustboardError):
    """A part of the requested work failed; what was finished is stored."""


class ModelError(WorkError):
    """A model misbehaves when run: non-finite logits, wrong shape, no gradient."""


class NonFinite(ModelError):
    """A model returned logits that are not finite."""


class NonFiniteGradients(NonFinite):
    """A model's input gradients are not finite, though its logits are."""


def _short(value: object, limit: int = 120) -> str:
    """`repr` cut to `limit` characters: values come from strangers."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
