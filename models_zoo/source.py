"""What the engine asks of the zoo, by the string targets in `harness.jobs.context`: plain data in, models out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.types import Json
from models_zoo.cards import ModelCard
from models_zoo.registry import bundled_cards, bundled_weights

if TYPE_CHECKING:
    from models_zoo.model import ZooModel


def bundled_names() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(bundled_cards())


def bundled_card(name: str) -> tuple[Json, str] | None:
    """Card (plain data) and digest of a bundled model; None if there is no such model."""
    card = bundled_cards().get(name)
    return None if card is None else (card.to_dict(), card.digest)


def load_source(card: Mapping[str, Json], weights: Path | None) -> ZooModel:
    """The model behind a card, from a weights file or (None) from the bundled weights.

    Raises:
        CardError: an invalid card.
        CheckpointError: weights that are unreadable, unsafe, do not fit, or are not those of the card.
    """
    from models_zoo.registry import load_from_card

    checked = ModelCard.from_dict(card)
    return load_from_card(checked, bundled_weights(checked.name) if weights is None else weights)
