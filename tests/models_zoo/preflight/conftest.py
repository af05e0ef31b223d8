"""Networks that go wrong in one way each, on the weights of a bundled one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.data import Dataset, open_dataset
from models_zoo.architectures import ARCHITECTURES
from models_zoo.architectures.base import Record
from models_zoo.architectures.small_cnn import SmallCnn
from models_zoo.preflight import Report, Wanted, preflight
from models_zoo.preflight import costs as timing
from models_zoo.registry import bundled_weights, get_card

SUPERVISED = "small_cnn.supervised.digits.s0"
WEIGHTS = bundled_weights(SUPERVISED)
CARD = get_card(SUPERVISED)

Twist = Callable[[Callable[[torch.Tensor], torch.Tensor], torch.Tensor], torch.Tensor]
"""(network, normalised images) -> logits."""

Check = Callable[..., Report]


@functools.cache
def digits(split: str) -> Dataset:
    """A split of digits, opened once."""
    return open_dataset("digits", split)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    """Run the pre-flight on digits, 60 images, with the card's normalisation given; timing passes once only."""
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)

    def run(path: Path = WEIGHTS, architecture: str = "small_cnn", **changes: object) -> Report:
        values: dict[str, object] = {
            "data": digits("test"),
            "reference": digits("train"),
            "given": (CARD.mean, CARD.std),
            "images": 60,
        }
        values |= changes
        return preflight(Wanted(path=path, architecture=architecture, **values))  # type: ignore[arg-type]

    return run


@pytest.fixture
def twisted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Twist], str]:
    """Register `small_cnn` with a twisted forward pass; its name comes back."""

    def register(twist: Twist) -> str:
        class Twisted(SmallCnn):
            """The bundled network's layers, run another way."""

            def run(self, images: torch.Tensor, record: Record) -> torch.Tensor:
                """See `Network.run`."""
                return twist(lambda inputs: super(Twisted, self).run(inputs, record), images)

        entry = dataclasses.replace(
            ARCHITECTURES.get("small_cnn"), name="twisted", builder=lambda classes, _size: Twisted(classes)
        )
        monkeypatch.setitem(ARCHITECTURES._targets, "twisted", entry)
        return "twisted"

    return register
