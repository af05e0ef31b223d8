"""What a measure is: a number about a model's representation, by layer, with the units behind it. No torch here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from harness.attacks.options import Option, complete
from harness.digest import digest
from harness.errors import UnknownName
from harness.spec import Scalar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from harness.types import FeatureModel, Labels

# Versions of the measures: bumped whenever the same model, images and options could give another number.
SELECTIVITY_VERSION = "1"
FLOOR_VERSION = "2"
DIMENSIONALITY_VERSION = "1"
DIMENSIONALITY_CORRUPTIONS_VERSION = "1"
DIMENSIONALITY_ATTACK_VERSION = "1"
UNIT_GRADIENTS_VERSION = "1"
JACOBIAN_VERSION = "1"
INPUT_GRADIENT_VERSION = "1"
MARGIN_VERSION = "1"

NETWORK = ""
"""Layer name of an entry about the whole network."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasureEntry:
    """One quantity of one layer."""

    layer: str
    """Name of the layer as `FeatureModel.features` has it, or "" for the network."""
    quantity: str
    """E.g. "selectivity_index"."""
    mean: float
    """The layer's (or network's) number."""
    units: NDArray[np.float32] | None = None
    """The values behind the number, float32, or None where there are none. What one of them stands for is the measure's
    `parts`: a unit of the layer, a condition (corruption and severity) or an image. NaN: left out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasureResult:
    """All entries of a measure, layers in forward order, the network's first."""

    measure: str
    version: str
    images: int
    """Images that the numbers rest on."""
    entries: tuple[MeasureEntry, ...]
    forwards: int | None = None
    """Rows passed forward; None stands for one a image."""
    backwards: int = 0
    """Rows passed backward."""

    def value(self, quantity: str, layer: str = NETWORK) -> float:
        """The mean of one entry.

        Raises:
            KeyError: there is no such entry.
        """
        return self.entry(quantity, layer).mean

    def entry(self, quantity: str, layer: str = NETWORK) -> MeasureEntry:
        """One entry.

        Raises:
            KeyError: there is no such entry.
        """
        for entry in self.entries:
            if entry.quantity == quantity and entry.layer == layer:
                return entry
        raise KeyError((layer, quantity))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Expected cost of one image: rows through the model, and images perturbed by a suite."""

    forwards: int = 1
    backwards: int = 0
    corrupted: int = 0


Options = Mapping[str, Scalar]


def _one_pass(_options: Options, _classes: int) -> Passes:
    return Passes()


def _as_given(options: dict[str, Scalar]) -> dict[str, Scalar]:
    return options


def _no_components(_options: Options) -> tuple[str, ...]:
    return ()


class MeasureFunction(Protocol):
    """The work of a measure."""

    def __call__(
        self, model: FeatureModel, batches: Iterable[torch.Tensor], labels: Labels, **options: Any
    ) -> MeasureResult:
        """See `Measure.run`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A registered measure; the code behind it is imported when it is first run.

    Args:
        name: what boards and benchmark files call it.
        version: bumped whenever the same model and images could give another number.
        target: "module:function" of a `MeasureFunction`.
        description: one line for people.
        source: where it was published.
        quantities: all that it gives for the network, and so all that a column can show.
        options: complete table of its options.
        parts: what one value of an entry's array stands for.
        keyed: its draws are keyed by image indices, which its function takes as `indices`.
        passes: (options, classes) -> expected cost of one image, for the plan alone.
        resolve: completed options -> the same in one canonical writing; refuses what the table cannot.
        components: resolved options -> versions of other components that its numbers rest on.
    """

    name: str
    version: str
    target: str
    description: str
    source: str = ""
    quantities: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    parts: Literal["units", "conditions", "images"] = "units"
    keyed: bool = False
    passes: Callable[[Options, int], Passes] = _one_pass
    resolve: Callable[[dict[str, Scalar]], dict[str, Scalar]] = _as_given
    components: Callable[[Options], tuple[str, ...]] = _no_components

    def complete(self, given: Options, *, seed: int = 0) -> dict[str, Scalar]:
        """All options with defaults written out, in one canonical writing; completing them again changes nothing.

        Args:
            given: the options that differ from the defaults.
            seed: stands for the option `seed` of a measure that draws, where it is not given.

        Raises:
            UnknownName: an option that the measure does not have, with the nearest one.
            InvalidArgument: a value outside its domain.
        """
        seeded = {"seed": seed} if "seed" in self.options else {}
        return self.resolve(complete(self.name, self.options, {**seeded, **given}))

    def version_with(self, options: Options) -> str:
        """The version that enters the identity: the measure's own, and a digest of its components' where it has any.

        Args:
            options: completed ones.
        """
        components = self.components(options)
        return f"{self.version}+{digest(list(components))[:8]}" if components else self.version

    def check_quantity(self, quantity: str) -> None:
        """Refuse a quantity that the measure does not give for the network.

        Raises:
            UnknownName: with the nearest one.
        """
        if quantity not in self.quantities:
            raise UnknownName(f"quantity of measure {self.name}", quantity, self.quantities)

    def run(
        self,
        model: FeatureModel,
        batches: Iterable[torch.Tensor],
        labels: Labels,
        *,
        options: Options | None = None,
        indices: NDArray[np.int64] | None = None,
    ) -> MeasureResult:
        """Measure `model` on `batches`, in memory of sums and at most a few numbers an image.

        Args:
            model: a classifier in eval mode, with `features` where layers are measured; batches are moved to its device
                by the caller.
            batches: float images in [0, 1], each b x 3 x h x w, in the order of `labels`. Some measures go through them
                more than once: a list or an object of that kind, not a generator.
            labels: int64, one for each image of all batches together.
            options: those that differ from the defaults.
            indices: positions of the images in their data set, which name the draws; by default 0, 1, 2, ...

        Raises:
            InvalidArgument: the model has no `features`, batches and labels do not cover the same images, or an option
                is outside its domain.
            UnknownName: an option that the measure does not have.
            ModelError: activations, logits or gradients that are not finite, or none.
        """
        module, _, attribute = self.target.partition(":")
        function = cast("MeasureFunction", getattr(importlib.import_module(module), attribute))
        values: dict[str, Any] = dict(self.complete(options or {}))
        if self.keyed:
            values["indices"] = indices
        return function(model, batches, labels, **values)
