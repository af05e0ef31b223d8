"""What a recipe is: an objective and a documented table of hyper-parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from harness.errors import InvalidArgument, UnknownName
from harness.spec import Scalar, parse_eps
from models_zoo.cards import card_name

if TYPE_CHECKING:
    import torch

    from harness.rng import U32
    from harness.types import ImagesU8
    from models_zoo.model import ZooModel

Settings: TypeAlias = Mapping[str, Scalar]
Kind = Literal["integer", "number", "boolean", "radius", "choice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperParameter:
    """One hyper-parameter: its kind, default and domain."""

    name: str
    kind: Kind
    default: Scalar
    help: str
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()

    def parse(self, value: Scalar) -> Scalar:
        """A value in the hyper-parameter's type.

        Args:
            value: of that type, or its text as it stands on a command line. A radius stays as written ("8/255").

        Raises:
            InvalidArgument: of another type, not finite, or outside the domain.
        """
        parsed = self._convert(value)
        if self.kind == "choice":
            return parsed
        size = parse_eps(parsed, argument=self.name) if self.kind == "radius" else float(parsed)
        if not (math.isfinite(size) and self.minimum <= size <= self.maximum):
            raise InvalidArgument(self.name, value, self.domain)
        return parsed

    def _convert(self, value: Scalar) -> Scalar:
        text = value.strip() if isinstance(value, str) else value
        try:
            match self.kind:
                case "radius":
                    return str(text)
                case "choice" if text in self.choices:
                    return text
                case "boolean" if isinstance(text, bool):
                    return text
                case "boolean" if isinstance(text, str) and text.lower() in ("true", "false"):
                    return text.lower() == "true"
                case "integer" if not isinstance(text, bool) and (isinstance(text, (int, str)) or text.is_integer()):
                    return int(text)
                case "number" if not isinstance(text, bool):
                    return float(text)
        except (ValueError, OverflowError):
            pass
        raise InvalidArgument(self.name, value, self.domain)

    @property
    def domain(self) -> str:
        """What is right, in words."""
        if self.kind == "choice":
            return " or ".join(self.choices)
        words = {
            "integer": "an integer",
            "number": "a number",
            "boolean": "true or false",
            "radius": "a positive number or fraction such as 8/255",
        }[self.kind]
        low = f" from {self.minimum:g}" if math.isfinite(self.minimum) else ""
        high = f" up to {self.maximum:g}" if math.isfinite(self.maximum) else ""
        return words + low + high


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What an objective gets: one batch and the random numbers that belong to it."""

    images: torch.Tensor
    """Float images in [0, 1], n x 3 x h x w."""
    labels: torch.Tensor
    """n, int64."""
    noise: Callable[[], torch.Tensor]
    """Draws numbers uniform in [0, 1), of the images' shape, the same at each call; for random starts."""
    pixels: ImagesU8
    """The images before they became floats, n x h x w x 3; for operations on whole grey levels."""
    words: Callable[[str, int], U32]
    """(purpose, count) -> random words, n x count, that depend on seed, purpose, epoch and image alone."""
    elapsed: float = math.inf
    """Epochs since training began, with fractions; infinite for validation, where every warm-up is over."""
    notes: dict[str, torch.Tensor] = field(default_factory=dict)
    """Where an objective leaves scalars for the log, without gradients; the log shows an epoch's mean."""


Objective: TypeAlias = "Callable[[ZooModel, Batch, Settings], tuple[torch.Tensor, torch.Tensor]]"
"""(model, batch, settings) -> (the loss to minimise, logits n x classes). The model's mode is the caller's."""


Check: TypeAlias = "Callable[[ZooModel, torch.Tensor, Settings], None]"
"""(untrained model in eval mode, some images, settings) -> nothing; a ModelError if the objective is not for it."""


COMMON: tuple[HyperParameter, ...] = (
    HyperParameter(name="epochs", kind="integer", default=40, minimum=1, maximum=10_000, help="passes over the data"),
    HyperParameter(name="batch_size", kind="integer", default=128, minimum=2, maximum=65_536, help="images a step"),
    HyperParameter(
        name="learning_rate", kind="number", default=0.1, minimum=1e-8, maximum=100.0,
        help="peak rate of SGD; rises linearly over warmup_epochs, then falls to 0 along a half cosine",
    ),
    HyperParameter(name="warmup_epochs", kind="number", default=2.0, minimum=0.0, help="epochs of linear warm-up"),
    HyperParameter(name="momentum", kind="number", default=0.9, minimum=0.0, maximum=0.999, help="Nesterov momentum"),
    HyperParameter(name="weight_decay", kind="number", default=5e-4, minimum=0.0, maximum=1.0, help="L2 penalty"),
    HyperParameter(name="shift", kind="integer", default=2, minimum=0, maximum=64, help="random shift, pixels"),
    HyperParameter(name="flip", kind="boolean", default=False, help="random horizontal flips"),
    HyperParameter(
        name="validation_share", kind="number", default=0.1, minimum=0.01, maximum=0.5,
        help="share of the training images, class by class, that chooses the best epoch",
    ),
    HyperParameter(
        name="precision", kind="choice", default="float32", choices=("float32", "bf16"),
        help="bf16: mixed precision and channels-last tensors, some twice as fast where the processor has bf16",
    ),
)  # fmt: skip
"""Hyper-parameters of every recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A way to train: objective, hyper-parameters, and how its models are called.

    Args:
        name: second part of the names of its models.
        version: bumped whenever the same settings could give other weights by design.
        own: the recipe's hyper-parameters; one of the same name replaces a common one.
        variant: settings -> the variant in the model's name, "" for none.
        check: called once, before the first step; none if None.
    """

    name: str
    version: str
    family: str
    description: str
    citation: str
    objective: Objective
    own: tuple[HyperParameter, ...] = ()
    variant: Callable[[Settings], str] = lambda _settings: ""
    check: Check | None = None

    @property
    def table(self) -> tuple[HyperParameter, ...]:
        """All hyper-parameters, common ones first."""
        own = {parameter.name for parameter in self.own}
        return (*(parameter for parameter in COMMON if parameter.name not in own), *self.own)

    def resolve(self, given: Settings) -> dict[str, Scalar]:
        """All settings, defaults written out.

        Args:
            given: name -> value or its text.

        Raises:
            UnknownName: no such hyper-parameter; the message offers the nearest.
            InvalidArgument: a value outside its domain.
        """
        known = {parameter.name: parameter for parameter in self.table}
        for name in given:
            if name not in known:
                raise UnknownName(f"{self.name} setting", name, known)
        return {name: parameter.parse(given.get(name, parameter.default)) for name, parameter in known.items()}

    def model_name(self, *, architecture: str, dataset: str, settings: Settings, seed: int) -> str:
        """The name of the model that these settings make."""
        variant = self.variant(settings)
        return card_name(architecture, f"{self.name}-{variant}" if variant else self.name, dataset, seed)


def parse_assignments(texts: Sequence[str]) -> dict[str, Scalar]:
    """`key=value` texts of a command line as a mapping; values stay text until a recipe resolves them.

    Raises:
        InvalidArgument: no "=", no key, or a key given twice.
    """
    settings: dict[str, Scalar] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name or name in settings:
            raise InvalidArgument("--set", text, "key=value, each key once")
        settings[name] = value
    return settings
