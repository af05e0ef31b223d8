"""What an attack is and what it hands back. No torch is imported here: planning must not need it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from harness.attacks.options import Option, complete
from harness.errors import InvalidArgument
from harness.spec import Precision, Scalar, as_norm
from harness.types import Norm

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from harness.attacks.arena import Arena

CLEAN = "clean"
"""`broken_by` of an image that is misclassified without any perturbation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """An algorithm with a budget, described without running it.

    Attributes:
        name: what people write.
        version: version of the component; it enters the identity of an evaluation and is bumped when outcomes change.
        norms: threat models it is defined for.
        options: complete table of its options.
        per_image: an image's outcome depends on that image alone (reference backends: False).
        target: "module:function" that runs it, imported when it is first needed.
        budget: (options, classes) -> upper bound on the (forward, backward) passes that one image costs.
        summary: one line for people.
        source: where it was published.
        bound: what its robust accuracy is: "exact" for the attack as defined, "upper" where it is meant as a quick
            bound on that of a stronger one and must be shown as such ("<=").
        inner: the option that names another attack, which it runs with that attack's defaults; "" where there is none.
        finishes: its search may run in low precision: what that leaves standing gets a search in float32, targeted and
            short. An ensemble stays one by it; a single attack would no longer be what its name says.
    """

    name: str
    version: str
    norms: tuple[Norm, ...]
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    per_image: bool = True
    target: str
    budget: Callable[[Mapping[str, Scalar], int], tuple[int, int]]
    summary: str
    source: str
    bound: Literal["exact", "upper"] = "exact"
    inner: str = ""
    finishes: bool = False

    def complete(self, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """All options with defaults written out; see `harness.attacks.options.complete`."""
        return complete(self.name, self.options, given)

    def check_norm(self, norm: str) -> Norm:
        """`norm`, if the attack is defined for it.

        Raises:
            InvalidArgument: it is not.
        """
        if norm not in self.norms:
            raise InvalidArgument("norm", norm, f"one of {', '.join(self.norms)} for {self.name}")
        return as_norm(norm)

    def load(self) -> Callable[[Arena, Mapping[str, Scalar]], Iterator[None]]:
        """The function that runs it: it searches in the arena and proposes what it finds, step by step."""
        module, _, attribute = self.target.partition(":")
        return cast(
            "Callable[[Arena, Mapping[str, Scalar]], Iterator[None]]",
            getattr(importlib.import_module(module), attribute),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """How the search computes; provenance, not identity, except for `precision`.

    Attributes:
        fold: fold batch norm into the convolution before it, where that computes the same function.
        channels_last: NHWC memory.
        precision: of the search's passes.
    """

    fold: bool = True
    channels_last: bool = True
    precision: Precision = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """Verdicts of one attack in one threat model on n images, each re-checked on exactly the stored tensor.

    Attributes:
        robust: n, bool: right clean and not broken.
        adversarial: n x C x H x W, float32 in [0, 1]: the example that broke the image, else the clean image.
        broken_by: n names: "" robust, "clean" misclassified without perturbation, else the attack that broke it.
        steps: n, int64: the step of that attack's run at which it broke; -1 where nothing did.
        runs: n, int64: its restart or target (0 the first); -1 where nothing did.
        margin: n, float32: logit of the label minus the best other logit, on the stored tensor, in float32.
        scale: n, float32: largest absolute logit on the stored tensor; |margin| < 1e-4 scale is borderline.
        norm: n, float64: size of the stored perturbation in the threat model's norm.
        forwards_per_image: n, int64: rows passed forward for each image (padding not counted).
        backwards_per_image: n, int64: rows passed backward.
        flags: machine-readable doubts about the verdict, sorted.
        evidence: flag -> what was seen, in words.
    """

    robust: NDArray[np.bool_]
    adversarial: torch.Tensor
    broken_by: tuple[str, ...]
    steps: NDArray[np.int64]
    runs: NDArray[np.int64]
    margin: NDArray[np.float32]
    scale: NDArray[np.float32]
    norm: NDArray[np.float64]
    forwards_per_image: NDArray[np.int64]
    backwards_per_image: NDArray[np.int64]
    flags: tuple[str, ...] = ()
    evidence: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def doubted(self, evidence: Mapping[str, str]) -> AttackResult:
        """The same with more doubts: flag -> what was seen."""
        merged = {**self.evidence, **evidence}
        return replace(self, flags=tuple(sorted(merged)), evidence=MappingProxyType(merged))

    @property
    def forwards(self) -> int:
        """Rows passed forward, all images together."""
        return int(self.forwards_per_image.sum())

    @property
    def backwards(self) -> int:
        """Rows passed backward, all images together."""
        return int(self.backwards_per_image.sum())

    @property
    def borderline(self) -> NDArray[np.bool_]:
        """n, bool: the margin on the stored tensor is below what float32 kernels agree on."""
        found: NDArray[np.bool_] = np.abs(self.margin) < 1e-4 * self.scale
        return found
