"""Weights files: written atomically as safetensors, read from strangers without executing anything.

A `.pt` file goes through `torch.load(weights_only=True)` alone, after its declared sizes have been checked; a pickle
that would have to call code is refused.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
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
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Keys under which training scripts put the weights."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""Prefixes that parallel, wrapped and compiled modules put before every name."""

# What a damaged or hostile file makes the readers raise, besides pickle.UnpicklingError.
_READ_ERRORS = (
    RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, EOFError, OSError,
    OverflowError, MemoryError, NotImplementedError, zipfile.BadZipFile,
)  # fmt: skip


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


def read_state_dict(path: Path) -> StateDict:
    """The weights in a file: safetensors, or a pickle of tensors (.pt, .pth, .th, .ckpt).

    A dictionary {"state_dict": ...} or {"model": ...} is unwrapped, and prefixes that all names share ("module.",
    "model.") are stripped.

    Returns:
        Name -> tensor on the CPU.

    Raises:
        UnsafeCheckpoint: a pickle that would have to execute code; nothing was executed.
        CheckpointError: missing, damaged, over 4 GiB, of another format, or without weights.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"weights: {path} cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise CheckpointError(f"weights: {path} is not a file")
    if not 0 < size <= SIZE_LIMIT:
        raise CheckpointError(f"weights: {path} has {size} bytes, expected 1 to {SIZE_LIMIT}")
    if path.suffix == ".safetensors":
        try:
            return _check_total(load_file(path), path)
        except (SafetensorError, *_READ_ERRORS) as error:
            raise CheckpointError(f"weights: {path} is not a readable safetensors file: {_line(error)}") from None
    if path.suffix in PICKLE_SUFFIXES:
        return _strip_prefixes(_check_total(_unwrap(_load_pickle(path), path), path))
    known = ", ".join((".safetensors", *PICKLE_SUFFIXES))
    raise CheckpointError(f"weights: {path} has the suffix {path.suffix!r}, expected one of {known}")


def fit(state: Mapping[str, torch.Tensor], network: nn.Module, *, architecture: str) -> None:
    """Copy weights into a network, strictly: every tensor has its place and its shape.

    Batch counters may be missing. Floats of another precision are converted to the network's.

    Args:
        state: name -> tensor.
        network: changed in place, once everything has been checked.
        architecture: its name, for messages.

    Raises:
        CheckpointError: tensors that are missing, unexpected, of the wrong shape or kind, or not finite.
    """
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state and not _is_counter(name)]
    unexpected = [name for name in state if name not in wanted and not _is_counter(name)]
    shared = [name for name in wanted if name in state]
    wrong = [
        f"{name} {_shape(state[name])} instead of {_shape(wanted[name])}"
        for name in shared
        if state[name].shape != wanted[name].shape
        or state[name].is_floating_point() != wanted[name].is_floating_point()
        or state[name].is_complex()
    ]
    problems = [("missing", missing), ("unexpected", unexpected), ("wrong shape or kind", wrong)]
    if any(names for _, names in problems):
        parts = [f"{len(names)} {kind} ({_first(names)})" for kind, names in problems if names]
        raise CheckpointError(f"weights do not fit {architecture}: {'; '.join(parts)}")
    bad = [name for name in shared if state[name].is_floating_point() and not bool(state[name].isfinite().all())]
    if bad:
        raise CheckpointError(f"weights: {len(bad)} tensors hold NaN or infinity ({_first(bad)})")
    with torch.no_grad():
        for name in shared:
            wanted[name].copy_(state[name])


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
        if "nsupported" in str(error):
            raise UnsafeCheckpoint(
                f"weights: {path} holds objects that only code can rebuild; refused, nothing was executed. "
                "Save the state_dict alone, best as safetensors"
            ) from None
        raise CheckpointError(f"weights: {path} is not a readable checkpoint: {_line(error)}") from None
    except (RecursionError, *_READ_ERRORS) as error:
        raise CheckpointError(f"weights: {path} is not a readable checkpoint: {_line(error)}") from None
    return loaded


def _unwrap(loaded: object, path: Path) -> StateDict:
    for _ in range(3):
        if not isinstance(loaded, Mapping):
            break
        inner = next((loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"weights: {path} holds a {type(loaded).__name__}, expected a state_dict of tensors")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            shown = repr(name)[:80]
            raise CheckpointError(f"weights: {path}: {shown} is a {type(tensor).__name__}, expected a tensor by name")
    return dict(loaded)


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


def _strip_prefixes(state: StateDict) -> StateDict:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in state)), None):
        state = {name[len(prefix) :]: tensor for name, tensor in state.items()}
    return state


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _first(names: list[str], count: int = 3) -> str:
    return ", ".join(name[:80] for name in names[:count]) + (", ..." if len(names) > count else "")


def _line(error: BaseException) -> str:
    """The first line of an error's text, cut: readers quote what the file says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
