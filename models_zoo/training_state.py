"""The state of a training run after an epoch, as a file: what an interrupted run goes on from, to the same weights.

One safetensors file holds the tensors and, as JSON in its header, the history and the run's identity. It is replaced by
an atomic rename, so that a kill at any moment leaves the state of a whole epoch. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness.digest import canonical, digest
from harness.errors import CheckpointError, RequestError
from harness.types import Json
from models_zoo.checkpoints import StateDict
from models_zoo.training_folders import make_ready, writing
from models_zoo.training_progress import Progress

FORMAT = "robustboard training state 1"
SUFFIX = ".safetensors"
_GROUPS = ("model", "best", "momentum")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunState:
    """A run after an epoch."""

    history: tuple[Progress, ...]
    """Of all epochs so far, at least one."""
    model: StateDict
    """Weights and batch statistics after the last epoch."""
    best: StateDict
    """Those of the best epoch so far."""
    momentum: StateDict
    """The optimiser's memory by the name of the weight."""


class StateFile:
    """Where one run keeps its state: `FOLDER/NAME.DIGEST.safetensors`, the digest that of the run's identity.

    Args:
        folder: made by `make_ready`.
        name: of the model that is trained.
        identity: all that the weights depend on, as plain data.
        shapes: name -> shape of the weights that the run has.
    """

    def __init__(
        self, folder: Path, *, name: str, identity: Mapping[str, Json], shapes: Mapping[str, torch.Size]
    ) -> None:
        self.folder = folder
        self.name = name
        self.identity: dict[str, Json] = canonical(identity)
        self.shapes = shapes
        self.path = folder / f"{name}.{digest(self.identity)[:12]}{SUFFIX}"

    def load(self) -> RunState | None:
        """The state to go on from; None if there is none.

        Raises:
            RequestError: the folder holds the state of another run of the same name; the message says what differs.
            CheckpointError: the file is damaged or of another format.
        """
        if self.path.exists():
            return self._read()
        for other in sorted(self._others()):
            raise RequestError(
                f"state: {other} is an interrupted run of {self.name} with {self._differences(other)}; finish that "
                "run, start over with --fresh, or choose another --name or --state"
            )
        return None

    def make_ready(self) -> None:
        """Make the folder.

        Raises:
            InvalidArgument: it cannot be made or written to.
        """
        make_ready("state", self.folder)

    def save(self, state: RunState) -> None:
        """Replace the file; it is either there in full or not at all.

        Raises:
            InvalidArgument: the folder cannot be written to.
        """
        header = {
            "format": FORMAT,
            "identity": json.dumps(self.identity, sort_keys=True),
            "history": json.dumps([dataclasses.asdict(progress) for progress in state.history]),
        }
        groups = {"model": state.model, "best": state.best, "momentum": state.momentum}
        data = save(
            {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}, header
        )
        with writing("state", self.folder):
            self._replace(data)

    def _replace(self, data: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=f".{self.path.name}.", suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def discard(self, *, others: bool = False) -> None:
        """Remove the state, what a kill left of writing it, and the folder if it is empty then.

        Args:
            others: also the states of other runs of the same name.
        """
        doomed = [self.path, *self.folder.glob(f".{self.path.name}.*.part"), *(self._others() if others else ())]
        for path in doomed:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, or another run's end has removed it just now
            self.folder.rmdir()

    def _others(self) -> list[Path]:
        return [path for path in self.folder.glob(f"{self.name}.*{SUFFIX}") if _is_ours(path, self.name, self.path)]

    def _differences(self, other: Path) -> str:
        """The entries of the identity that differ, with the other file's values first."""
        try:
            with safe_open(other, framework="pt") as file:
                theirs = _flat(json.loads((file.metadata() or {})["identity"]))
        except (SafetensorError, OSError, KeyError, ValueError, AttributeError):
            return "an unreadable state"
        ours = _flat(self.identity)
        keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        return ", ".join(f"{key} {_brief(theirs.get(key))} instead of {_brief(ours.get(key))}" for key in keys[:5])

    def _read(self) -> RunState:
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                if header.get("format") != FORMAT or json.loads(header["identity"]) != self.identity:
                    raise CheckpointError(self._damage("it is not of this format and run"))
                history = tuple(_progress(past) for past in json.loads(header["history"]))
                groups: dict[str, StateDict] = {group: {} for group in _GROUPS}
                keys: list[str] = file.keys()
                for key in keys:
                    group, _, name = key.partition("/")
                    groups[group][name] = file.get_tensor(key)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(self._damage(f"{type(error).__name__}")) from None
        state = RunState(history=history, **groups)
        self._check(state)
        return state

    def _check(self, state: RunState) -> None:
        """Every weight in its shape, in both sets, and the epochs in a row."""
        for weights in (state.model, state.best):
            if {name: tensor.shape for name, tensor in weights.items()} != dict(self.shapes):
                raise CheckpointError(self._damage("its weights do not fit the architecture"))
        if any(name not in self.shapes or tensor.shape != self.shapes[name] for name, tensor in state.momentum.items()):
            raise CheckpointError(self._damage("its momentum does not fit the architecture"))
        if [past.epoch for past in state.history] != list(range(1, len(state.history) + 1)) or not state.history:
            raise CheckpointError(self._damage("its epochs are not 1, 2, 3, ..."))

    def _damage(self, what: str) -> str:
        return f"state: {self.path} cannot be gone on from ({what}); start over with --fresh"


def _is_ours(path: Path, name: str, own: Path) -> bool:
    """Whether a file is another state of a run called `name`; names hold dots, so a pattern alone finds too much."""
    part = path.name.removeprefix(f"{name}.").removesuffix(SUFFIX)
    return path != own and len(part) == 12 and all(sign in "0123456789abcdef" for sign in part)


def _flat(identity: Mapping[str, Any]) -> dict[str, Json]:
    """Nested entries as "settings.epochs"."""
    flat: dict[str, Json] = {}
    for key, value in identity.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            flat[key] = value
    return flat


def _brief(value: Json) -> str:
    text = str(value)
    return text if len(text) <= 16 else text[:12] + "..."


def _progress(values: Mapping[str, Any]) -> Progress:
    """An epoch of the history, marked as restored."""
    extras = tuple((str(name), float(value)) for name, value in values["extras"])
    numbers = ("loss", "accuracy", "objective", "eta_seconds", "rate", "seconds")
    return Progress(
        epoch=int(values["epoch"]),
        epochs=int(values["epochs"]),
        extras=extras,
        restored=True,
        **{name: float(values[name]) for name in numbers},
    )
