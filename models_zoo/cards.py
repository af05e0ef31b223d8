"""Model cards: what a model is, as a TOML file and as a frozen value. No torch here: boards and the API read cards."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.digest import digest
from harness.errors import CardError
from harness.spec import Scalar
from harness.types import Json

NAME_LIMIT = 100
_PART = "[A-Za-z0-9_]+"
_DASHED = f"{_PART}(?:-{_PART})*"
_NAME = re.compile(rf"{_PART}\.{_DASHED}\.{_DASHED}(?:\.s[0-9]{{1,19}})?")
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TEXT_LIMIT = 20_000
_FILE_LIMIT = 1 << 20
"""Bytes of a card file; a card has some 2,000."""


def check_name(name: str) -> str:
    """The name, if it is one a model may have: `architecture.recipe[-variant].dataset[.sN]`, at most 100 characters.

    Raises:
        CardError: it is not.
    """
    if len(name) > NAME_LIMIT or not _NAME.fullmatch(name):
        shown = name if len(name) <= NAME_LIMIT else name[:NAME_LIMIT] + "..."
        raise CardError(
            f"name: got {shown!r}, expected architecture.recipe[-variant].dataset[.sN] of letters, digits and _, "
            f"at most {NAME_LIMIT} characters"
        )
    return name


def card_name(architecture: str, recipe: str, dataset: str, seed: int | None = None) -> str:
    """The name that these parts make: each loses the signs that names may not have, as in `torchvision:resnet18`.

    Args:
        architecture: such signs become "_".
        recipe: with its variant; such signs become "-".
        dataset: such signs become "-".
        seed: of the training; left out if None.
    """
    first = re.sub(r"\W+", "_", architecture, flags=re.ASCII)
    others = ("-".join(re.findall(r"\w+", part, flags=re.ASCII)) for part in (recipe, dataset))
    parts = [part or "x" for part in (first, *others)]
    return ".".join(parts if seed is None else [*parts, f"s{seed}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the weights came to be, with the recipe and hyper-parameters of the card: enough to make them again."""

    seed: int
    threads: int
    """Threads of the training process: another number sums in another order and ends in other weights."""
    device: str
    epochs: int
    best_epoch: int
    """The epoch (from 1) whose weights were kept: the one with the lowest objective on the validation images."""
    train_images: int
    validation_images: int
    validation_accuracy: float
    clean_accuracy: float | None = None
    """Share of right answers on the test split, measured once after training; None where there was no test split."""
    test_images: int = 0
    packages: tuple[tuple[str, str], ...] = ()
    """(package, version), sorted; "cpu" is the instruction set that torch ran on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model card. Two cards with the same `digest` are the same model, whatever they are called."""

    name: str
    architecture: str
    architecture_version: str
    family: str
    dataset: str
    classes: int
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_digest: str
    recipe: str
    parameters: int
    """Number of trainable weights."""
    licence: str
    citation: str
    description: str
    class_names: tuple[str, ...] = ()
    hyper_parameters: Mapping[str, Scalar] = field(default_factory=dict, hash=False)
    training: Training | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        _require(self.classes >= 2, "classes", self.classes, "at least 2")
        _require(min(self.input_size) >= 1, "input_size", self.input_size, "positive pixels")
        _require(
            len(self.class_names) in (0, self.classes), "class_names", len(self.class_names), "one a class, or none"
        )
        _require(all(map(math.isfinite, self.mean)), "mean", self.mean, "finite numbers")
        _require(all(math.isfinite(s) and s > 0 for s in self.std), "std", self.std, "positive numbers")
        _require(self.parameters >= 0, "parameters", self.parameters, "at least 0")
        is_digest = re.fullmatch("[0-9a-f]{64}", self.weights_digest) is not None
        _require(is_digest, "weights_digest", self.weights_digest, "64 hexadecimal digits")

    @property
    def digest(self) -> str:
        """Identity of the model: everything that its logits depend on, and nothing else."""
        return digest(
            {
                "architecture": self.architecture,
                "architecture_version": self.architecture_version,
                "classes": self.classes,
                "input_size": self.input_size,
                "mean": self.mean,
                "std": self.std,
                "weights_digest": self.weights_digest,
            }
        )

    def to_dict(self) -> dict[str, Json]:
        """The card as plain data, as it is written to TOML and stored as JSON; no training, no key."""
        values: dict[str, Json] = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name == "training":
                if value is not None:
                    values["training"] = _training_to_dict(value)
            elif item.name == "hyper_parameters":
                values[item.name] = dict(sorted(value.items()))
            else:
                values[item.name] = list(value) if isinstance(value, tuple) else value
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Json]) -> ModelCard:
        """The inverse of `to_dict`; strict.

        Raises:
            CardError: unknown, missing or wrong fields.
        """
        _check_keys(values, cls, "card")
        known: dict[str, Any] = {name: _typed(name, value, _CARD_TYPES[name]) for name, value in values.items()}
        return cls(**known)

    def to_toml(self) -> str:
        """The card as TOML text; `from_toml` gives an equal card back."""
        return _table_to_toml((), self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> ModelCard:
        """A card from TOML text.

        Raises:
            CardError: not TOML, or unknown, missing or wrong fields.
        """
        try:
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise CardError(f"card: not TOML: {str(error)[:200]}") from None
        return cls.from_dict(values)


def read_card(path: Path) -> ModelCard:
    """A card from a TOML file.

    Raises:
        CardError: missing, unreadable, over 1 MiB, or not a valid card; the message names the file.
    """
    try:
        if path.stat().st_size > _FILE_LIMIT:
            raise CardError(f"{path}: over {_FILE_LIMIT} bytes, too large for a card")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read as a card: {error}") from None
    try:
        return ModelCard.from_toml(text)
    except CardError as error:
        raise CardError(f"{path}: {error}") from None


def _require(good: bool, name: str, value: object, expected: str) -> None:
    if not good:
        raise CardError(f"{name}: got {repr(value)[:120]}, expected {expected}")


def _check_keys(values: object, cls: type, where: str) -> None:
    if not isinstance(values, Mapping):
        raise CardError(f"{where}: got {type(values).__name__}, expected a table")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    unknown = sorted(str(name)[:60] for name in values if name not in fields)
    optional = (dataclasses.MISSING,)
    missing = sorted(
        name
        for name, item in fields.items()
        if name not in values and item.default in optional and item.default_factory in optional
    )
    if unknown:
        raise CardError(f"{where}: unknown field {', '.join(unknown[:5])}; known: {', '.join(fields)}")
    if missing:
        raise CardError(f"{where}: missing field {', '.join(missing)}")


def _typed(name: str, value: Json, kind: str) -> Any:
    """A field's value in its Python type, or CardError."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    integer = isinstance(value, int) and not isinstance(value, bool)
    sequence = isinstance(value, (list, tuple))
    match kind:
        case "text" if isinstance(value, str) and len(value) <= _TEXT_LIMIT and _encodable(value):
            return value
        case "integer" if integer:
            return value
        case "number" if number and math.isfinite(value):
            return float(value)
        case "size" if sequence and len(value) == 2:
            return tuple(_typed(name, item, "integer") for item in value)
        case "channels" if sequence and len(value) == 3:
            return tuple(_typed(name, item, "number") for item in value)
        case "texts" if sequence:
            return tuple(_typed(name, item, "text") for item in value)
        case "scalars" if isinstance(value, Mapping):
            return {_key(key): _scalar(f"{name}.{key}", item) for key, item in value.items()}
        case "packages" if isinstance(value, Mapping):
            return tuple(sorted((_key(key), _typed(f"{name}.{key}", item, "text")) for key, item in value.items()))
        case "training":
            _check_keys(value, Training, "training")
            return Training(
                **{key: _typed(f"training.{key}", item, _TRAINING_TYPES[key]) for key, item in value.items()}
            )
    raise CardError(f"{name}: got {repr(value)[:120]}, expected {_EXPECTED[kind]}")


def _encodable(text: str) -> bool:
    """Whether UTF-8 can hold the text: JSON may smuggle in half a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _key(key: object) -> str:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise CardError(f"key: got {repr(key)[:60]}, expected letters, digits, _ and -")
    return key


def _scalar(name: str, value: Json) -> Scalar:
    if isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise CardError(f"{name}: got {repr(value)[:120]}, expected a string, number or boolean")


_EXPECTED = {
    "text": "a string",
    "integer": "an integer",
    "number": "a finite number",
    "size": "[height, width] in pixels",
    "channels": "three numbers, one a channel",
    "texts": "a list of strings",
    "scalars": "a flat table",
    "packages": "a table of versions",
    "training": "a table",
}
_CARD_TYPES = {item.name: "text" for item in dataclasses.fields(ModelCard)} | {
    "classes": "integer",
    "input_size": "size",
    "mean": "channels",
    "std": "channels",
    "parameters": "integer",
    "class_names": "texts",
    "hyper_parameters": "scalars",
    "training": "training",
}
_TRAINING_TYPES = {item.name: "integer" for item in dataclasses.fields(Training)} | {
    "device": "text",
    "validation_accuracy": "number",
    "clean_accuracy": "number",
    "packages": "packages",
}


def _training_to_dict(training: Training) -> dict[str, Json]:
    values = {item.name: getattr(training, item.name) for item in dataclasses.fields(training)}
    if values["clean_accuracy"] is None:
        del values["clean_accuracy"]
    values["packages"] = dict(training.packages)
    return values


def _table_to_toml(path: tuple[str, ...], values: Mapping[str, Json]) -> str:
    """A table with its sub-tables; keys have been checked to be bare ones."""
    lines = [f"[{'.'.join(path)}]"] if path else []
    lines += [f"{key} = {_value_to_toml(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    text = "\n".join(lines) + "\n"
    for key, value in values.items():
        if isinstance(value, Mapping):
            text += "\n" + _table_to_toml((*path, key), value)
    return text


def _value_to_toml(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # JSON strings are TOML strings, but for the delete character, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return "[" + ", ".join(_value_to_toml(item) for item in value) + "]"
