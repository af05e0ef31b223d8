"""Weights files: written atomically as safetensors, read from strangers without executing anything.

A `.pt` file goes through `torch.load(weights_only=True)` alone, after its declared sizes have been checked; a pickle
that would have to call code is refused. What was unwrapped and renamed on the way is kept, to be shown.
"""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from harness.digest import digest_arrays
from harness.errors import CheckpointError, UnsafeCheckpoint

StateDict: TypeAlias = dict[str, torch.Tensor]

SIZE_LIMIT = 4 << 30
"""Bytes of a weights file, and of its tensors together."""
TENSOR_LIMIT = 100_000
PICKLE_SUFFIXES = (".pt", ".pth", ".th", ".ckpt")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
"""Keys under which training scripts put the weights, tried in this order."""
PREFIXES = ("module.", "model.", "_orig_mod.", "backbone.", "net.", "network.", "encoder.")
"""Prefixes that parallel, wrapped and compiled modules put before every name."""
SYNONYMS = (("fc", "linear"), ("linear", "fc"), ("downsample", "shortcut"), ("shortcut", "downsample"))
"""Parts of names that two public layouts of one network call differently: torchvision's and the CIFAR networks'."""
NAMES_SHOWN = 8

_FOREIGN = re.compile(r"unsupported (global|class)\b", re.IGNORECASE)
"""In torch's refusals of objects that it does not build itself; junk is an "Unsupported operand"."""

# What a damaged or hostile file makes the readers raise, besides pickle.UnpicklingError.
_READ_ERRORS = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, EOFError, OSError,
    OverflowError, MemoryError, NotImplementedError, zipfile.BadZipFile,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """The weights in a file, and how they were come by.

    Attributes:
        state: name -> tensor on the CPU.
        container: the file's format, in words.
        unwrapped: keys that led from the outermost dictionary to the weights.
        left_out: what else was in those dictionaries, made printable.
        prefixes: stripped from the front of every name, outermost first.
        renamed: (part of a name in the file, what the architecture calls it).
    """

    state: StateDict
    container: str
    unwrapped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state.values())

    def named_for(self, wanted: Collection[str]) -> Checkpoint:
        """The same weights under the names of a network, as far as usual wrappings and synonyms explain the difference.

        A prefix is stripped if every name has it and no more names fit with it than without. A part of the names
        (`SYNONYMS`) is replaced if the network has the one and not the other, and more names fit afterwards.

        Args:
            wanted: the network's names.
        """
        found = self
        while prefix := next((p for p in PREFIXES if _has_prefix(found.state, p)), None):
            stripped = {name[len(prefix) :]: tensor for name, tensor in found.state.items()}
            if _hits(found.state, wanted) > _hits(stripped, wanted):
                break
            found = replace(found, state=stripped, prefixes=(*found.prefixes, prefix))
        for old, new in SYNONYMS:
            changed = {_renamed(name, old, new): tensor for name, tensor in found.state.items()}
            if len(changed) == len(found.state) and _hits(changed, wanted) > _hits(found.state, wanted):
                found = replace(found, state=changed, renamed=(*found.renamed, (old, new)))
        return found

    def describe(self) -> str:
        """The mapping from the file to the weights in one line, printable."""
        parts = [f"{self.container}, {len(self.state)} tensors, {self.bytes / 1e6:.2f} MB"]
        if self.unwrapped:
            parts.append("unwrapped " + " > ".join(f'"{key}"' for key in self.unwrapped))
        if self.left_out:
            parts.append(f"left out {_first(list(self.left_out), NAMES_SHOWN)}")
        if self.prefixes:
            parts.append("stripped " + ", ".join(f'"{prefix}"' for prefix in self.prefixes))
        if self.renamed:
            parts.append("renamed " + ", ".join(f"{old} to {new}" for old, new in self.renamed))
        return "; ".join(parts)


def weights_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Canonical digest of weights: sorted name, dtype, shape and bytes, floats as the float32 that they run in.

    The same for .pt and safetensors. Batch counters of batch normalisation (`num_batches_tracked`) are left out: logits
    in eval mode do not depend on them and many published files lack them.
    """
    arrays = {}
    for name, tensor in state.items():
        if not _is_counter(name):
            plain = tensor.detach().cpu()
            arrays[name] = (plain.float() if plain.is_floating_point() else plain).numpy()
    return digest_arrays(arrays)


def save_state_dict(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write weights as safetensors; the file is either there in full or not at all.

    Args:
        state: name -> tensor; copied to contiguous CPU tensors.
        path: the file; an older one is replaced.
    """
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in sorted(state.items())})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_file(path: Path) -> int:
    """Refuse what cannot be a weights file before any of it is read.

    Returns:
        Its size in bytes.

    Raises:
        CheckpointError: missing, not a file, empty, over 4 GiB, or without the suffix of a weights file.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"weights: {path} cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise CheckpointError(f"weights: {path} is not a file")
    if path.suffix not in (".safetensors", *PICKLE_SUFFIXES):
        known = ", ".join((".safetensors", *PICKLE_SUFFIXES))
        raise CheckpointError(f"weights: {path} has the suffix {path.suffix!r}, expected one of {known}")
    if not 0 < size <= SIZE_LIMIT:
        raise CheckpointError(f"weights: {path} has {size} bytes, expected 1 to {SIZE_LIMIT}")
    return size


def read_checkpoint(path: Path) -> Checkpoint:
    """The weights in a file: safetensors, or a pickle of tensors (.pt, .pth, .th, .ckpt).

    A dictionary {"state_dict": ...}, {"model": ...} (`WRAPPERS`), nested up to three deep, is unwrapped; names stay as
    they are in the file.

    Raises:
        UnsafeCheckpoint: a pickle that would have to execute code; nothing was executed.
        CheckpointError: missing, damaged, over 4 GiB, of another format, or without weights.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except (SafetensorError, *_READ_ERRORS) as error:
            raise CheckpointError(f"weights: {path} is not a readable safetensors file: {_line(error)}") from None
        return Checkpoint(state=_check_total(state, path), container="safetensors")
    container = "torch archive" if zipfile.is_zipfile(path) else "torch pickle of the old layout"
    state, keys, others = _unwrap(_load_pickle(path), path)
    return Checkpoint(state=_check_total(state, path), container=container, unwrapped=keys, left_out=others)


def read_state_dict(path: Path) -> StateDict:
    """Name -> tensor on the CPU: the weights of `read_checkpoint`, under the names that they have in the file."""
    return read_checkpoint(path).state


def misfits(state: Mapping[str, torch.Tensor], network: nn.Module) -> tuple[str, ...]:
    """Every reason why weights do not fit a network; empty if they do.

    Batch counters may be missing. Floats of another precision fit.

    Args:
        state: name -> tensor.
        network: left as it is.

    Returns:
        Reasons in words, with the first names of each: missing, unexpected, wrong shape or kind, not finite.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state and not _is_counter(name)]
    unexpected = [name for name in state if name not in wanted and not _is_counter(name)]
    wrong = [
        f"{name[:80]} {_shape(state[name])} instead of {_shape(wanted[name])}"
        for name in wanted
        if name in state
        and (
            state[name].shape != wanted[name].shape
            or state[name].is_floating_point() != wanted[name].is_floating_point()
            or state[name].is_complex()
        )
    ]
    bad = [
        name for name, tensor in state.items() if tensor.is_floating_point() and not _finite(tensor, wanted.get(name))
    ]
    kinds = [
        ("missing", missing), ("unexpected", unexpected), ("wrong shape or kind", wrong), ("with NaN or infinity", bad),
    ]  # fmt: skip
    return tuple(f"{len(names)} {kind} ({_first(names)})" for kind, names in kinds if names)


def fit(state: Mapping[str, torch.Tensor], network: nn.Module, *, architecture: str) -> None:
    """Copy weights into a network, strictly: every tensor has its place and its shape.

    Batch counters may be missing. Floats of another precision are converted to the network's.

    Args:
        state: name -> tensor.
        network: changed in place, once everything has been checked.
        architecture: its name, for messages.

    Raises:
        CheckpointError: tensors that are missing, unexpected, of the wrong shape or kind, or not finite; all of them.
    """
    reasons = misfits(state, network)
    if reasons:
        raise CheckpointError(f"weights do not fit {architecture}: {'; '.join(reasons)}")
    with torch.no_grad():
        for name, place in network.state_dict().items():
            if name in state:
                place.copy_(state[name])


def _is_counter(name: str) -> bool:
    return name.rpartition(".")[2] == "num_batches_tracked"


def _load_pickle(path: Path) -> object:
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                declared = sum(entry.file_size for entry in archive.infolist())
        except _READ_ERRORS as error:
            raise CheckpointError(f"weights: {path} is a damaged archive: {_line(error)}") from None
        if declared > SIZE_LIMIT:
            raise CheckpointError(f"weights: {path} unpacks to {declared} bytes, expected at most {SIZE_LIMIT}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old layouts make torch warn about its own storages
            loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error:")[2]  # what comes before is advice to trust the file
        if _FOREIGN.search(reason) or _is_plain_pickle(path):
            raise UnsafeCheckpoint(
                f"weights: {path} holds objects that only code can rebuild; refused, nothing was executed. "
                "Save the state_dict alone, best as safetensors"
            ) from None
        raise CheckpointError(f"weights: {path} is not a readable checkpoint: {_line(reason)}") from None
    except (RecursionError, *_READ_ERRORS) as error:
        raise CheckpointError(f"weights: {path} is not a readable checkpoint: {_line(error)}") from None
    return loaded


def _is_plain_pickle(path: Path) -> bool:
    """Whether a file is a pickle of protocol 4 or 5, which torch's reader gives up on before it meets an object."""
    with path.open("rb") as file:
        return file.read(2) in (b"\x80\x04", b"\x80\x05")


def _unwrap(loaded: object, path: Path) -> tuple[StateDict, tuple[str, ...], tuple[str, ...]]:
    """The innermost dictionary, the keys that led there, and the other keys that were passed by."""
    keys: list[str] = []
    others: list[str] = []
    while isinstance(loaded, Mapping) and len(keys) < 3:
        key = next((key for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if key is None:
            break
        keys.append(key)
        others += [printable(other[:80]) for other in loaded if isinstance(other, str) and other != key]
        loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"weights: {path} holds a {type(loaded).__name__}, expected a state_dict of tensors")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            shown = repr(name)[:80]
            raise CheckpointError(f"weights: {path}: {shown} is a {type(tensor).__name__}, expected a tensor by name")
    return dict(loaded), tuple(keys), tuple(others)


def _check_total(state: StateDict, path: Path) -> StateDict:
    """Refuse views that pretend to be large: a stride of 0 makes any shape out of a single number."""
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if total > SIZE_LIMIT or len(state) > TENSOR_LIMIT:
        raise CheckpointError(
            f"weights: {path} holds {len(state)} tensors of {total} bytes, "
            f"expected at most {TENSOR_LIMIT} of {SIZE_LIMIT} together"
        )
    if any(tensor.layout != torch.strided or tensor.device.type != "cpu" for tensor in state.values()):
        raise CheckpointError(f"weights: {path} holds sparse or empty-device tensors, expected dense ones")
    return state


def _finite(tensor: torch.Tensor, place: torch.Tensor | None) -> bool:
    """Whether floats are finite where they go to: a large float64 is infinite as float32."""
    kind = place.dtype if place is not None and place.is_floating_point() else tensor.dtype
    return bool(tensor.to(kind).isfinite().all())


def _has_prefix(state: StateDict, prefix: str) -> bool:
    return bool(state) and all(name.startswith(prefix) for name in state)


def _hits(names: Collection[str], wanted: Collection[str]) -> int:
    """How many names the network has."""
    return sum(name in wanted for name in names)


def _renamed(name: str, old: str, new: str) -> str:
    """The dotted name with each part `old` replaced by `new`."""
    return ".".join(new if part == old else part for part in name.split("."))


def printable(text: str) -> str:
    """Text from a stranger's file, without what could drive a terminal or break an encoding."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _first(names: list[str], count: int = 3) -> str:
    """The first names of a list, printable; a name that carries shapes has been cut before."""
    return ", ".join(printable(name[:160]) for name in names[:count]) + (", ..." if len(names) > count else "")


def _line(error: BaseException | str) -> str:
    """The first line of an error's text, cut: readers quote what the file says."""
    return printable((str(error).strip().splitlines() or [type(error).__name__])[0][:160])
