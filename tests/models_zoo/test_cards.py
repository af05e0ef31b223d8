"""Model cards: strict, lossless, and their digest covers what the logits depend on."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.digest import digest
from harness.errors import CardError
from models_zoo.cards import ModelCard, Training, card_name, check_name, read_card

TRAINING = Training(
    seed=3,
    threads=2,
    device="cpu",
    epochs=40,
    best_epoch=37,
    train_images=1168,
    validation_images=129,
    validation_accuracy=0.992,
    clean_accuracy=0.98,
    test_images=500,
    packages=(("cpu", "x86_64 AVX2"), ("torch", "2.6.0+cpu")),
)
CARD = ModelCard(
    name="small_cnn.selectivity-am1.digits.s3",
    architecture="small_cnn",
    architecture_version="1",
    family="selectivity",
    dataset="digits",
    classes=2,
    input_size=(32, 32),
    mean=(0.3, 0.3, 0.3),
    std=(0.25, 0.25, 0.25),
    weights_digest="ab" * 32,
    recipe="selectivity",
    parameters=61_386,
    licence="Apache-2.0",
    citation="robustboard",
    description='a "quoted" \\ line\nwith a break, \x7f and é',
    class_names=("zero", "one"),
    hyper_parameters={"alpha": -1.0, "epochs": 40, "flip": False, "eps": "8/255", "rate": 1e-05},
    training=TRAINING,
)


def test_toml_round_trip() -> None:
    """A card goes to TOML and back unchanged, escapes, small numbers and training included."""
    assert ModelCard.from_toml(CARD.to_toml()) == CARD


def test_json_round_trip() -> None:
    """The plain form survives JSON, as the store keeps it, and a card without training has no such key."""
    assert ModelCard.from_dict(json.loads(json.dumps(CARD.to_dict()))) == CARD
    bare = dataclasses.replace(CARD, training=None, class_names=())
    assert "training" not in bare.to_dict()
    assert ModelCard.from_toml(bare.to_toml()) == bare


@given(st.text(max_size=50).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text)))
def test_any_text_survives_toml(text: str) -> None:
    """Whatever a description holds, the TOML parser of the standard library reads the same text back."""
    card = dataclasses.replace(CARD, description=text)
    assert tomllib.loads(card.to_toml())["description"] == text


def test_digest_is_that_of_the_stated_fields() -> None:
    """The model digest is the digest of seven fields, computed here from their literal values."""
    expected = {
        "architecture": "small_cnn",
        "architecture_version": "1",
        "classes": 2,
        "input_size": [32, 32],
        "mean": [0.3, 0.3, 0.3],
        "std": [0.25, 0.25, 0.25],
        "weights_digest": "ab" * 32,
    }
    assert CARD.digest == digest(expected)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"name": "other.name.digits"}, True),
        ({"licence": "MIT"}, True),
        ({"training": None}, True),
        ({"hyper_parameters": {}}, True),
        ({"mean": (0.0, 0.3, 0.3)}, False),
        ({"std": (0.25, 0.25, 0.26)}, False),
        ({"input_size": (32, 33)}, False),
        ({"classes": 3, "class_names": ()}, False),
        ({"architecture_version": "2"}, False),
        ({"weights_digest": "cd" * 32}, False),
    ],
)
def test_digest_changes_with_the_logits_alone(change: dict[str, Any], same: bool) -> None:
    """What cannot change a logit does not enter the identity; what can, does."""
    assert (dataclasses.replace(CARD, **change).digest == CARD.digest) is same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "unknown field colour"),
        ({"name": None}, "name: got None, expected a string"),
        ({"name": "small_cnn"}, r"expected architecture\.recipe"),
        ({"classes": 1}, "classes: got 1, expected at least 2"),
        ({"classes": True}, "classes: got True, expected an integer"),
        ({"classes": 3}, "class_names"),
        ({"input_size": [32]}, "input_size"),
        ({"input_size": [0, 32]}, "input_size"),
        ({"mean": [0.1, 0.2]}, "mean"),
        ({"std": [0.1, 0.2, 0.0]}, "std"),
        ({"std": [0.1, 0.2, float("inf")]}, "std"),
        ({"weights_digest": "AB" * 32}, "64 hexadecimal digits"),
        ({"hyper_parameters": {"alpha": [1]}}, r"hyper_parameters\.alpha"),
        ({"hyper_parameters": {"a.b": 1}}, "key"),
        ({"hyper_parameters": 3}, "a flat table"),
        ({"training": {"seed": 1}}, "training: missing field best_epoch"),
        ({"training": 5}, "training: got int, expected a table"),
        ({"description": "\ud800"}, "description"),
    ],
)
def test_wrong_fields_are_named(change: dict[str, Any], message: str) -> None:
    """Each wrong field is refused with its name and what would be right."""
    with pytest.raises(CardError, match=message):
        ModelCard.from_dict(CARD.to_dict() | change)


@pytest.mark.parametrize(
    "name",
    [
        field.name
        for field in dataclasses.fields(ModelCard)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ],
)
def test_missing_fields_are_named(name: str) -> None:
    """No required field may be left out."""
    values = CARD.to_dict()
    del values[name]
    with pytest.raises(CardError, match=f"missing field {name}"):
        ModelCard.from_dict(values)


@pytest.mark.parametrize(
    "name", ["a.b.c", "small_cnn.selectivity-am1.digits.s0", "wrn_28_10.Rebuffi2021_extra.cifar10", "a.b.c-d.s12"]
)
def test_good_names(name: str) -> None:
    """Names of the documented form pass."""
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a", "a.b", "a.b.c.d", "a.b.c.s", "a.b.c.s1.s2", "a..c", "a.b-.c", "a.b.c\n", "../a.b.c", "a b.c.d", "é.b.c",
     "<b>.b.c", "a.b." + "c" * 100],
)  # fmt: skip
def test_bad_names(name: str) -> None:
    """Paths, markup, spaces, line ends and long names are refused: names become file names and HTML."""
    with pytest.raises(CardError, match="expected architecture"):
        check_name(name)


def test_read_card_names_the_file(tmp_path: Path) -> None:
    """Missing, binary, too large and malformed files: one line each, with the path."""
    path = tmp_path / "card.toml"
    with pytest.raises(CardError, match=r"card\.toml: cannot be read"):
        read_card(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CardError, match=r"card\.toml: cannot be read"):
        read_card(path)
    path.write_text("name = ")
    with pytest.raises(CardError, match=r"card\.toml: card: not TOML"):
        read_card(path)
    path.write_text("#" * (1 << 20) + "#")
    with pytest.raises(CardError, match="too large"):
        read_card(path)
    path.write_text(CARD.to_toml(), encoding="utf-8")
    assert read_card(path) == CARD


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        (("small_cnn", "supervised", "digits", 0), "small_cnn.supervised.digits.s0"),
        (("resnet20", "selectivity-am1", "cifar10-jpeg", 7), "resnet20.selectivity-am1.cifar10-jpeg.s7"),
        (("torchvision:resnet18", "supervised", "digits", 0), "torchvision_resnet18.supervised.digits.s0"),
        (("timm:vit_b.x", "a1_in1k", "my photos!"), "timm_vit_b_x.a1_in1k.my-photos"),
        (("::", "-", ""), "_.x.x"),
    ],
)
def test_names_are_made_of_any_parts(parts: tuple[Any, ...], name: str) -> None:
    """What a name may not hold is replaced, so that every architecture has a name by default."""
    assert card_name(*parts) == check_name(name)
