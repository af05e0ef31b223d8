"""Weights files: canonical digest, strict fit, and nothing that strangers send is executed."""

from __future__ import annotations

import gzip
import os
import pickle
import stat
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from harness.digest import digest_arrays
from harness.errors import CheckpointError, UnsafeCheckpoint
from models_zoo import checkpoints
from models_zoo.checkpoints import (
    Checkpoint,
    StateDict,
    fit,
    misfits,
    read_checkpoint,
    read_state_dict,
    save_state_dict,
    weights_digest,
)


def small() -> nn.Sequential:
    """A convolution with batch normalisation and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))


class Payload:
    """Unpickles by making a file: what a hostile checkpoint would do."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Code to be run by a careless reader."""
        return os.mkdir, (str(self.target),)


def test_digest_is_canonical_and_equal_for_both_formats(tmp_path: Path) -> None:
    """The digest equals one over NumPy arrays, for the network, its safetensors and its .pt file in another order."""
    state = small().state_dict()
    arrays = {name: tensor.numpy() for name, tensor in state.items() if "num_batches" not in name}
    assert weights_digest(state) == digest_arrays(arrays)
    save_state_dict(state, tmp_path / "a.safetensors")
    torch.save(OrderedDict(reversed(list(state.items()))), tmp_path / "a.pt")
    for name in ("a.safetensors", "a.pt"):
        assert weights_digest(read_state_dict(tmp_path / name)) == weights_digest(state)
    changed = dict(state) | {"2.bias": state["2.bias"] + 1}
    assert weights_digest(changed) != weights_digest(state)


def test_save_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash while writing leaves the old file and no debris; a finished file is readable by all."""
    path = tmp_path / "a.safetensors"
    state = small().state_dict()
    save_state_dict(state, path)
    before = path.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_state_dict({"x": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert torch.equal(load_file(path)["2.bias"], state["2.bias"])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_pickle_with_code_is_refused(tmp_path: Path, zipped: bool, key: str | None) -> None:
    """A pickle that would make a folder is refused, in both layouts, and the folder is not made."""
    target = tmp_path / "owned"
    payload = Payload(target) if key is None else {key: {"w": torch.zeros(1), "x": Payload(target)}}
    torch.save(payload, tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpoint, match="nothing was executed"):
        read_state_dict(tmp_path / "bad.pt")
    assert not target.exists()
    # The payload is a live one: a careless reader does run it.
    pickle.loads(pickle.dumps(Payload(target)))  # noqa: S301  our own bytes, to show that the test can fail
    assert target.exists()


def test_plain_pickle_and_whole_module_are_refused(tmp_path: Path) -> None:
    """A bare pickle with code and a pickled module are refused too."""
    target = tmp_path / "owned"
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Payload(target)))
    torch.save(small(), tmp_path / "module.pt")
    for name in ("bare.pth", "module.pt"):
        with pytest.raises(UnsafeCheckpoint):
            read_state_dict(tmp_path / name)
    assert not target.exists()


def prefixed(state: StateDict, prefix: str) -> StateDict:
    """The same tensors with a prefix before every name."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("wrap", "unwrapped", "left_out", "prefixes"),
    [
        (lambda s: s, (), (), ()),
        (lambda s: {"state_dict": s, "epoch": 3, "best_prec1": 91.7}, ("state_dict",), ("epoch", "best_prec1"), ()),
        (lambda s: {"model": {"state_dict": s}, "args": [1]}, ("model", "state_dict"), ("args",), ()),
        (lambda s: {"net": prefixed(s, "module."), "acc": 95.0}, ("net",), ("acc",), ("module.",)),
        (lambda s: {"model_state_dict": s, "optimizer": {}}, ("model_state_dict",), ("optimizer",), ()),
        (lambda s: prefixed(s, "module."), (), (), ("module.",)),
        (lambda s: prefixed(s, "backbone."), (), (), ("backbone.",)),
        (lambda s: {"state_dict": prefixed(s, "module.model.")}, ("state_dict",), (), ("module.", "model.")),
        (lambda s: prefixed(s, "_orig_mod.module."), (), (), ("_orig_mod.", "module.")),
    ],
)
def test_wrappers_and_prefixes_are_undone_and_told(
    tmp_path: Path, wrap: Any, unwrapped: Any, left_out: Any, prefixes: Any, zipped: bool
) -> None:
    """Usual wrappings, in both layouts of torch, give the plain names and the same tensors back, and are told."""
    state = small().state_dict()
    torch.save(wrap(state), tmp_path / "a.th", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "a.th").named_for(state)
    assert set(found.state) == set(state)
    assert all(torch.equal(found.state[name], state[name]) for name in state)
    assert (found.unwrapped, found.left_out, found.prefixes, found.renamed) == (unwrapped, left_out, prefixes, ())
    text = found.describe()
    assert text.startswith("torch archive" if zipped else "torch pickle of the old layout")
    assert f"{len(state)} tensors" in text
    assert all(f'"{word}"' in text for word in (*unwrapped, *prefixes))
    assert all(word in text for word in left_out)


def test_prefixes_of_safetensors_are_undone(tmp_path: Path) -> None:
    """They, too, may come from a parallel module."""
    state = small().state_dict()
    save_state_dict(prefixed(state, "module."), tmp_path / "a.safetensors")
    found = read_checkpoint(tmp_path / "a.safetensors").named_for(state)
    assert set(found.state) == set(state)
    assert found.describe().startswith("safetensors, ")


def test_prefixes_that_the_network_has_are_kept() -> None:
    """A network whose own names begin with a usual prefix gets them as they are."""
    state = prefixed(small().state_dict(), "model.")
    assert Checkpoint(state=state, container="x").named_for(state).state == state
    outer = Checkpoint(state=prefixed(state, "module."), container="x").named_for(state)
    assert set(outer.state) == set(state)
    assert outer.prefixes == ("module.",)


def test_synonyms_are_replaced_only_where_they_help() -> None:
    """Names fc and downsample become linear and shortcut if the network says so; else they stay, to be refused."""
    names = {"conv1.weight", "layer2.0.downsample.0.weight", "fc.weight", "fc.bias"}
    file = Checkpoint(state={name: torch.zeros(1) for name in names}, container="x")
    ours = {"conv1.weight", "layer2.0.shortcut.0.weight", "linear.weight", "linear.bias"}
    found = file.named_for(ours)
    assert set(found.state) == ours
    assert found.renamed == (("fc", "linear"), ("downsample", "shortcut"))
    assert "renamed fc to linear, downsample to shortcut" in found.describe()
    assert set(file.named_for(names).state) == names
    only = file.named_for({"conv1.weight", "linear.weight", "linear.bias"})
    assert only.renamed == (("fc", "linear"),)
    # Two names that would become one are left alone.
    clash = {name: torch.zeros(1) for name in ("fc.weight", "fc.bias", "linear.weight")}
    both = Checkpoint(state=clash, container="x")
    assert set(both.named_for({"linear.weight", "linear.bias"}).state) == set(clash)


def test_strangers_names_cannot_drive_a_terminal(tmp_path: Path) -> None:
    """Control characters in names and keys are replaced in the mapping and in messages."""
    torch.save({"state_dict": {"w\x1b[2J": torch.zeros(1)}, "\x1b]0;x\x07": 1, "\ud800": 2}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    reasons = misfits(found.state, small())
    for text in (found.describe(), *reasons):
        assert text.isprintable()
        text.encode("utf-8")
    assert any("unexpected" in reason for reason in reasons)


def test_fit_names_tensors() -> None:
    """Missing, unexpected, misshapen and non-finite tensors are named at once; the network is left as it was."""
    network = small()
    before = weights_digest(network.state_dict())
    state = dict(small().state_dict())
    del state["0.weight"]
    state["3.weight"] = torch.zeros(1)
    state["2.weight"] = torch.zeros(5, 4)
    state["2.bias"] = torch.tensor([9.0, float("nan")])
    with pytest.raises(CheckpointError) as caught:
        fit(state, network, architecture="small")
    text = str(caught.value)
    assert "1 missing (0.weight)" in text
    assert "1 unexpected (3.weight)" in text
    assert "2.weight float32[5, 4] instead of float32[2, 4]" in text
    assert "1 with NaN or infinity (2.bias)" in text
    assert weights_digest(network.state_dict()) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_fit_refuses_what_is_not_finite(value: float) -> None:
    """One NaN or infinity anywhere is an error that names the tensor; so is what the network's float32 cannot hold."""
    state = dict(small().state_dict())
    state["2.bias"] = torch.tensor([0.0, value], dtype=torch.float64)
    with pytest.raises(CheckpointError, match=r"NaN or infinity \(2.bias\)"):
        fit(state, small(), architecture="small")


def test_fit_converts_precision_and_ignores_counters() -> None:
    """Half precision is converted; batch counters may be missing; the digest is that of the converted weights."""
    state = {n: t.half() for n, t in small().state_dict().items() if "num_batches" not in n}
    network = small()
    fit(state, network, architecture="small")
    assert torch.equal(network.state_dict()["2.weight"], state["2.weight"].float())
    assert weights_digest(state) == weights_digest(network.state_dict())


def test_fit_refuses_integers_for_floats() -> None:
    """A tensor of another kind is not silently converted."""
    state = dict(small().state_dict())
    state["2.bias"] = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(CheckpointError, match=r"2.bias int64\[2\] instead of float32\[2\]"):
        fit(state, small(), architecture="small")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a checkpoint",
        b"PK\x03\x04 nor an archive",
        b"\x80\x02}q\x00.",
        bytes(64),
        b"<!DOCTYPE html><html><title>404 Not Found</title></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4\n",
        b'{"error": "no such file"}',
        gzip.compress(bytes(64), mtime=0),
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}",
    ],
)
def test_damaged_files_are_errors(tmp_path: Path, suffix: str, data: bytes) -> None:
    """Junk of many kinds gives one line that names the file, and is not taken for a pickle with code."""
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="junk") as caught:
        read_state_dict(path)
    assert type(caught.value) is CheckpointError
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's advice to read it with code


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_files_are_errors(tmp_path: Path, suffix: str) -> None:
    """Each cut of a good file is refused."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".pt":
        torch.save(small().state_dict(), path)
    else:
        save_state_dict(small().state_dict(), path)
    data = path.read_bytes()
    for cut in np.linspace(1, len(data) - 1, 12).astype(int):
        path.write_bytes(data[:cut])
        with pytest.raises(CheckpointError):
            read_state_dict(path)


def test_other_files_are_errors(tmp_path: Path) -> None:
    """Missing files, folders, other suffixes and files without tensors are refused by name."""
    with pytest.raises(CheckpointError, match="No such file"):
        read_state_dict(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match="not a file"):
        read_state_dict(tmp_path)
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"suffix '.onnx'"):
        read_state_dict(tmp_path / "a.onnx")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="holds a list"):
        read_state_dict(tmp_path / "list.pt")
    torch.save({"a": 1}, tmp_path / "number.pt")
    with pytest.raises(CheckpointError, match="'a' is a int"):
        read_state_dict(tmp_path / "number.pt")


def test_declared_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives that unpack to too much, views that pretend to be large, and large files are refused."""
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    assert bomb.stat().st_size < 1 << 12
    torch.save({"w": torch.zeros(1).expand(1 << 20)}, tmp_path / "view.pt")
    save_state_dict({"w": torch.zeros(1 << 19)}, tmp_path / "large.safetensors")
    monkeypatch.setattr(checkpoints, "SIZE_LIMIT", 1 << 18)
    for name, message in (
        ("bomb", "unpacks to"),
        ("view", "holds 1 tensors of 4194304 bytes"),
        ("large", "expected 1 to"),
    ):
        path = next(tmp_path.glob(f"{name}.*"))
        with pytest.raises(CheckpointError, match=message):
            read_state_dict(path)


def test_safetensors_header_that_lies(tmp_path: Path) -> None:
    """A header that claims more than the file holds is refused."""
    path = tmp_path / "lies.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        read_state_dict(path)
