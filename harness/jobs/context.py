"""What a worker needs to run any task of a plan: where models and data lie, and how to run. Crosses processes."""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from harness.attacks.examples import MAX_KEPT
from harness.data import Dataset, open_dataset
from harness.data.declared import Declaration, open_cell
from harness.errors import DataError, InvalidArgument, UnknownName
from harness.spec import ModelRef
from harness.types import Json

if TYPE_CHECKING:
    from harness.storage.queries import Reader
    from harness.types import FeatureModel

ZOO = "models_zoo.source"
"""The engine names the zoo only here, as a string that is resolved when a model is looked up or loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model as a worker loads it: its card, and the weights file (None: the bundled one)."""

    name: str
    digest: str
    card: Json
    weights: str | None

    @property
    def ref(self) -> ModelRef:
        """The model by content."""
        return ModelRef(name=self.name, digest=self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Images as a worker opens them; the worker checks that their content still has this digest."""

    name: str
    split: str
    digest: str
    declarations: Mapping[str, Declaration]
    """Declared data sets that are needed to open it."""
    cell: tuple[str, int] | None = None
    """(corruption, severity) for one cell of a set of corrupted files; `name` is then the set's."""

    def open(self) -> Dataset:
        """The images.

        Raises:
            DataError: missing, unreadable or changed files.
        """
        data = self.clean()
        if self.cell is not None:
            data = open_cell(self.declarations[self.name], *self.cell, data)
        if data.digest != self.digest:
            raise DataError(f"data set {self.name!r}: its files changed since the run was planned")
        return data

    def clean(self) -> Dataset:
        """The images themselves, or the clean ones that corrupted files were made from; not compared with a digest."""
        name = self.name if self.cell is None else self.declarations[self.name].of
        return open_dataset(name, self.split, folders=self.declarations)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run; none of it changes an outcome on one machine (promise A), all of it is provenance."""

    device: str = "cpu"
    batch_size: int = 128
    threads: int = 1
    """Threads inside an operation, per process; workers are the way to use more cores."""
    keep_examples: int = 0
    """Adversarial images to keep of each attack, the first that it breaks."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InvalidArgument("batch-size", self.batch_size, "at least 1")
        if self.threads < 1:
            raise InvalidArgument("threads", self.threads, "at least 1")
        if not 0 <= self.keep_examples <= MAX_KEPT:
            raise InvalidArgument("keep-examples", self.keep_examples, f"0 to {MAX_KEPT}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything that a worker process is started with."""

    models: Mapping[str, ModelSource]
    """By model digest."""
    data: Mapping[str, DataSource]
    """By data digest."""
    settings: Settings


def load(source: ModelSource) -> FeatureModel:
    """The model behind a source, in eval mode, its weights checked against the card."""
    loader = importlib.import_module(ZOO).load_source
    return cast("FeatureModel", loader(source.card, None if source.weights is None else Path(source.weights)))


def find_models(store: Reader | None, names: Sequence[str]) -> tuple[ModelSource, ...]:
    """Models by name or shell pattern: bundled ones first, then the store's. Writes nothing.

    Args:
        store: where added models are looked up; None if there is none yet.
        names: names or patterns such as "small_cnn.*"; a pattern must match something.

    Raises:
        UnknownName: a name that is neither bundled nor in the store.
    """
    zoo = importlib.import_module(ZOO)
    bundled: tuple[str, ...] = zoo.bundled_names()
    added = [] if store is None else [model for model in store.models() if model.blob is not None]
    known = sorted({*bundled, *(model.name for model in added)})
    wanted: list[str] = []
    for name in names:
        matches = fnmatch.filter(known, name) if any(sign in name for sign in "*?[") else [name]
        if not matches or any(match not in known for match in matches):
            raise UnknownName("model", name, known)
        wanted += [match for match in matches if match not in wanted]
    return tuple(_source(store, name, bundled) for name in wanted)


def _source(store: Reader | None, name: str, bundled: tuple[str, ...]) -> ModelSource:
    if name in bundled:
        card, digest = importlib.import_module(ZOO).bundled_card(name)
        return ModelSource(name=name, digest=digest, card=card, weights=None)
    found = store.find_model(name) if store is not None else None
    if store is None or found is None or found.blob is None:
        raise UnknownName("model", name, bundled)
    path = store.blobs.checked_path(found.blob)
    return ModelSource(name=name, digest=found.digest, card=found.card, weights=str(path))
