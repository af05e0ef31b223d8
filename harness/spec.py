"""Frozen specs: what an evaluation *is*. Plain values only; the digest of a spec is its identity.

Names, paths, devices, batch sizes, executors and hosts are not identity and never enter a digest (DESIGN: provenance).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, TypeAlias

from harness.digest import digest
from harness.errors import InvalidArgument
from harness.types import NORMS, Json, Norm

SCHEMA = 1
"""Version of the identity scheme; it is part of every digest."""

SINGLE_PASS_BLOCK = 1000
ATTACK_BLOCK = 128

Scalar: TypeAlias = str | int | float | bool
Options: TypeAlias = tuple[tuple[str, Scalar], ...]
Precision: TypeAlias = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def freeze_options(options: Mapping[str, Scalar] | Options) -> Options:
    """Options as a sorted tuple of pairs: equal options are equal values."""
    items = dict(options)
    for name, value in items.items():
        if not isinstance(value, (str, int, float, bool)):
            raise InvalidArgument(name, value, "a string, number or boolean")
    return tuple(sorted(items.items()))


def eps_fraction(text: str) -> Fraction:
    """A radius as written ("8/255", "0.5/255", "0.5"), exactly.

    Raises:
        ValueError: not a number or a quotient of two.
        ZeroDivisionError: a quotient by zero.
    """
    above, *below = map(Fraction, text.replace(" ", "").split("/"))
    if len(below) > 1:
        raise ValueError(text)
    return above / below[0] if below else above


def parse_eps(text: str | float, *, argument: str = "eps") -> float:
    """A radius as written ("8/255", "0.5/255", "0.5", 12) to its float.

    Raises:
        InvalidArgument: not a number, not finite, or not above zero.
    """
    expected = "a positive number or fraction such as 8/255"
    try:
        value = float(eps_fraction(text)) if isinstance(text, str) else float(text)
    except (ValueError, ZeroDivisionError, OverflowError):
        raise InvalidArgument(argument, text, expected) from None
    if not math.isfinite(value) or value <= 0:
        raise InvalidArgument(argument, text, expected)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model by content: `digest` covers architecture and its version, classes, input size, mean/std and weights."""

    name: str
    digest: str

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRef:
    """A split of a data set by content: `digest` covers all its images, labels, classes and their order."""

    name: str
    split: str
    digest: str
    images: int
    """Images in the whole split."""
    classes: int

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The images and the batch cut of a backend that is not per-image: its outcome depends on both."""

    start: int
    stop: int
    batch: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise InvalidArgument("scope", (self.start, self.stop), "0 <= start < stop")
        if self.batch < 1:
            raise InvalidArgument("batch", self.batch, "at least 1")

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return {"start": self.start, "stop": self.stop, "batch": self.batch}


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSpec:
    """No perturbation."""

    kind: Literal["clean"] = field(default="clean", init=False)

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return {"kind": self.kind}

    @property
    def label(self) -> str:
        """Short name for people."""
        return "clean"


@dataclass(frozen=True, slots=True, kw_only=True)
class CorruptionSpec:
    """One corruption at one severity of one suite; draws come from `seed` and the image index."""

    suite: str
    name: str
    severity: int
    seed: int
    version: str
    """Version of the component that makes it, reference packages included."""
    kind: Literal["corruption"] = field(default="corruption", init=False)

    def __post_init__(self) -> None:
        if self.severity not in (1, 2, 3, 4, 5) or isinstance(self.severity, bool):
            raise InvalidArgument("severity", self.severity, "an integer from 1 to 5")

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return {
            "kind": self.kind,
            "suite": self.suite,
            "name": self.name,
            "severity": self.severity,
            "seed": self.seed,
            "version": self.version,
        }

    @property
    def label(self) -> str:
        """Short name for people."""
        return f"{self.suite}/{self.name}/{self.severity}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackSpec:
    """An attack with its budget inside a threat model (norm and eps)."""

    attack: str
    norm: Norm
    eps: float
    seed: int
    version: str
    options: Options = ()
    """All options that the attack takes, defaults written out, sorted by name."""
    search_precision: Precision = "float32"
    scope: Scope | None = None
    """Set for backends that are not per-image."""
    kind: Literal["attack"] = field(default="attack", init=False)

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise InvalidArgument("norm", self.norm, "one of Linf, L2, L1")
        if self.search_precision not in PRECISIONS:
            raise InvalidArgument("search_precision", self.search_precision, f"one of {', '.join(PRECISIONS)}")
        object.__setattr__(self, "eps", parse_eps(self.eps))
        object.__setattr__(self, "options", freeze_options(self.options))

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return {
            "kind": self.kind,
            "attack": self.attack,
            "norm": self.norm,
            "eps": self.eps,
            "seed": self.seed,
            "version": self.version,
            "options": dict(self.options),
            "search_precision": self.search_precision,
            "scope": self.scope.identity() if self.scope else None,
        }

    @property
    def label(self) -> str:
        """Short name for people."""
        return f"{self.attack} {self.norm} {eps_text(self.eps)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec:
    """A number about the representation, over images [start, stop) at once."""

    measure: str
    version: str
    start: int
    stop: int
    options: Options = ()
    kind: Literal["measure"] = field(default="measure", init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise InvalidArgument("images", (self.start, self.stop), "0 <= start < stop")
        object.__setattr__(self, "options", freeze_options(self.options))

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return {
            "kind": self.kind,
            "measure": self.measure,
            "version": self.version,
            "start": self.start,
            "stop": self.stop,
            "options": dict(self.options),
        }

    @property
    def label(self) -> str:
        """Short name for people."""
        return f"{self.measure}[{self.start}:{self.stop}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksSpec:
    """A look for reasons to doubt robust accuracies, on images [start, stop) at once: flags, no verdicts."""

    norm: Norm
    eps: float
    seed: int
    version: str
    start: int
    stop: int
    kind: Literal["checks"] = field(default="checks", init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise InvalidArgument("images", (self.start, self.stop), "0 <= start < stop")
        object.__setattr__(self, "norm", as_norm(self.norm))
        object.__setattr__(self, "eps", parse_eps(self.eps))

    def identity(self) -> Json:
        """What enters the evaluation's digest."""
        return {
            "kind": self.kind,
            "norm": self.norm,
            "eps": self.eps,
            "seed": self.seed,
            "version": self.version,
            "start": self.start,
            "stop": self.stop,
        }

    @property
    def label(self) -> str:
        """Short name for people."""
        return f"checks {self.norm} {eps_text(self.eps)} [{self.start}:{self.stop}]"


Perturbation: TypeAlias = CleanSpec | CorruptionSpec | AttackSpec | MeasureSpec | ChecksSpec


def block_size(perturbation: Perturbation) -> int:
    """Images in a block, the unit of storage and resume; the last block of a split may be shorter."""
    match perturbation:
        case AttackSpec(scope=Scope(batch=batch)):
            return batch
        case AttackSpec():
            return ATTACK_BLOCK
        case MeasureSpec(start=start, stop=stop) | ChecksSpec(start=start, stop=stop):
            return stop - start
        case _:
            return SINGLE_PASS_BLOCK


def perturbation_from_identity(identity: Json) -> Perturbation:
    """The inverse of `identity()`: specs are read back from the store.

    Raises:
        InvalidArgument: unknown kind.
    """
    values = dict(identity)
    kind = values.pop("kind", None)
    if kind == "clean":
        return CleanSpec()
    if kind == "corruption":
        return CorruptionSpec(**values)
    if kind == "attack":
        scope = values.pop("scope")
        options = freeze_options(values.pop("options"))
        return AttackSpec(**values, options=options, scope=Scope(**scope) if scope else None)
    if kind == "measure":
        options = freeze_options(values.pop("options"))
        return MeasureSpec(**values, options=options)
    if kind == "checks":
        return ChecksSpec(**values)
    raise InvalidArgument("kind", kind, "one of clean, corruption, attack, measure, checks")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """One model x one perturbation on one data set."""

    model: ModelRef
    data: DataRef
    perturbation: Perturbation

    def identity(self) -> Json:
        """The plain data whose canonical JSON is hashed."""
        return {
            "schema": SCHEMA,
            "model": self.model.identity(),
            "data": self.data.identity(),
            "perturbation": self.perturbation.identity(),
        }

    @property
    def digest(self) -> str:
        """Identity of the evaluation: SHA-256, 64 hexadecimal digits."""
        return digest(self.identity())


def eps_text(eps: float) -> str:
    """A radius as people write it, whichever is shorter: in steps of 1/255 ("8/255", "0.5/255"), or in decimals."""
    decimal = f"{eps:g}"
    steps = round(eps * 510) / 2
    if steps <= 0 or not math.isclose(steps / 255, eps, rel_tol=1e-9):
        return decimal
    return min(decimal, f"{steps:g}/255", key=len)


def as_norm(text: str) -> Norm:
    """A norm by name.

    Raises:
        InvalidArgument: not one of Linf, L2, L1.
    """
    if text not in NORMS:
        raise InvalidArgument("norm", text, "one of Linf, L2, L1")
    return text
