"""Models by name: bundled, in a store, or an architecture with a weights file. No torch until one is loaded."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from harness.errors import CardError, CheckpointError, InvalidArgument, UnknownName
from harness.types import Json
from models_zoo.architectures import ARCHITECTURES
from models_zoo.cards import ModelCard, read_card

if TYPE_CHECKING:
    from models_zoo.model import ZooModel

HERE = Path(__file__).parent
CARDS = HERE / "cards"
WEIGHTS = HERE / "weights"


class ModelStore(Protocol):
    """What `load_model` asks of a store."""

    def model_card(self, name: str) -> tuple[Mapping[str, Json], Path] | None:
        """The card as plain data and the path of the weights file, or None if there is no such model."""
        ...


@functools.cache
def bundled_cards() -> Mapping[str, ModelCard]:
    """Name -> card of the models that come with the package, sorted by name.

    Raises:
        CardError: a card is damaged, or its file is not called after its model.
    """
    cards = {}
    for path in sorted(CARDS.glob("*.toml")):
        card = read_card(path)
        if path.name != f"{card.name}.toml":
            raise CardError(f"{path}: holds the card of {card.name!r}; expected the file {card.name}.toml")
        cards[card.name] = card
    return MappingProxyType(cards)


def bundled_weights(name: str) -> Path:
    """The weights file of a bundled model."""
    return WEIGHTS / f"{name}.safetensors"


def list_models(pattern: str = "*") -> tuple[str, ...]:
    """Names of the bundled models that match a shell pattern, sorted."""
    return tuple(name for name in bundled_cards() if fnmatch.fnmatchcase(name, pattern))


def get_card(name: str) -> ModelCard:
    """The card of a bundled model.

    Raises:
        UnknownName: there is none of that name; the message offers the nearest.
    """
    cards = bundled_cards()
    if name not in cards:
        raise UnknownName("model", name, cards)
    return cards[name]


def load_model(name: str, *, weights: str | Path | None = None, store: ModelStore | None = None) -> ZooModel:
    """A model, ready to be evaluated.

    Args:
        name: of a bundled card or of a model in `store`; `torchvision:resnet50` or `timm:resnet50.a1_in1k` for the
            package's own weights (`models_zoo.pretrained`); with `weights`, of an architecture or a bundled card.
        weights: a weights file (safetensors, .pt). For an architecture, classes are read off the file and images are
            taken as they are (mean 0, std 1).
        store: looked up after the bundled cards.

    Returns:
        The model in eval mode, on the CPU, with no weight that requires a gradient.

    Raises:
        UnknownName: no such model or architecture.
        CheckpointError: weights that are unreadable, unsafe, do not fit, or (without `weights`) are not those of the
            card; or a package's weights that cannot be downloaded.
        MissingDependency: the package of a name with a prefix is not installed.
    """
    if weights is not None:
        if name in bundled_cards():
            return load_from_card(get_card(name), Path(weights))
        from models_zoo.adopt import adopt

        return adopt(name, Path(weights))
    if name in bundled_cards():
        return load_from_card(get_card(name), bundled_weights(name))
    found = store.model_card(name) if store is not None else None
    if found is not None:
        values, path = found
        return load_from_card(ModelCard.from_dict(values), Path(path))
    if ":" in name:
        from models_zoo.pretrained import load_pretrained

        return load_pretrained(name)
    if name in ARCHITECTURES:
        raise InvalidArgument("weights", None, f"a weights file, since {name} is an architecture")
    raise UnknownName("model", name, bundled_cards())


def load_from_card(card: ModelCard, weights_path: Path) -> ZooModel:
    """The model that a card describes, from its weights file.

    Returns:
        The model in eval mode, on the CPU, with no weight that requires a gradient.

    Raises:
        UnknownName: the card's architecture is not registered.
        CardError: the card is of another version of its architecture.
        CheckpointError: weights that are unreadable, unsafe, do not fit, or are not those of the card.
    """
    from models_zoo.checkpoints import fit, read_checkpoint, weights_digest
    from models_zoo.model import ZooModel

    architecture = ARCHITECTURES.get(card.architecture)
    if architecture.version != card.architecture_version:
        raise CardError(
            f"architecture_version: {card.name!r} was made for {card.architecture} version "
            f"{card.architecture_version!r}, this is version {architecture.version!r}"
        )
    network = architecture.build(card.classes, card.input_size)
    checkpoint = read_checkpoint(weights_path).named_for(network.state_dict())
    fit(checkpoint.state, network, architecture=card.architecture)
    found = weights_digest(network.state_dict())
    if found != card.weights_digest:
        raise CheckpointError(
            f"weights: {weights_path} has digest {found[:12]}..., "
            f"the card of {card.name!r} says {card.weights_digest[:12]}..."
        )
    return ZooModel(network, card).eval().requires_grad_(False)
