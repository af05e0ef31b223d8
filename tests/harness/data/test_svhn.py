"""SVHN's .mat files, against torchvision's reader."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torchvision
from scipy.io import savemat

from harness.data.order import round_robin
from harness.data.svhn import INFLATED_LIMIT, SvhnDataset, open_svhn
from harness.errors import DataError
from tests.harness.data.public_files import planes

COUNT = 14


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Both splits, classes 1 to 10, where 10 is the digit 0."""
    for seed, split in enumerate(("train", "test")):
        labels = np.arange(COUNT, dtype=np.uint8)[::-1] % 10 + 1
        values = {"X": planes(COUNT, seed).transpose(2, 3, 1, 0), "y": labels[:, None]}
        savemat(tmp_path / f"{split}_32x32.mat", values, do_compression=request.param)
    return tmp_path


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_labels_are_those_that_torchvision_reads(
    folder: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """In our order; class 10 is the digit 0."""
    monkeypatch.setattr(torchvision.datasets.SVHN, "_check_integrity", lambda _self: True)
    theirs = torchvision.datasets.SVHN(str(folder), split=split)
    order = round_robin(theirs.labels.astype(np.int64))
    ours = open_svhn(folder, split)
    assert np.array_equal(ours.images(), theirs.data[order].transpose(0, 2, 3, 1))
    assert ours.labels.tolist() == theirs.labels[order].tolist()
    assert 0 in ours.labels
    assert ours.classes == tuple("0123456789")
    assert np.array_equal(ours.images(3, 5), ours.images()[3:5])


def test_the_fingerprint_covers_images_and_labels(folder: Path) -> None:
    """The splits differ in their images only; a label changes it too; pickling does not."""
    test = open_svhn(folder, "test")
    assert test.digest != open_svhn(folder, "train").digest
    content = pickle.dumps(test)
    assert len(content) < 10_000
    assert pickle.loads(content).digest == open_svhn(folder, "test").digest  # noqa: S301  our own bytes
    values = {"X": planes(COUNT, 1).transpose(2, 3, 1, 0), "y": np.full((COUNT, 1), 3, np.uint8)}
    savemat(folder / "train_32x32.mat", values)
    assert open_svhn(folder, "train").digest != test.digest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"y": np.ones((2, 1))}, "X is missing"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8)}, "y is missing"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.ones((3, 1))}, r"y is \(3, 1\)"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[0], [1]])}, "2 labels"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([["a"], ["b"]])}, "y is char"),
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], ["b"]], dtype=object)}, "y is cell"),
        ({"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))}, "X is double"),
        ({"X": np.zeros((16, 32, 3, 2), np.uint8), "y": np.ones((2, 1))}, "X is uint8"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    """One line that says what is there and what was expected."""
    savemat(tmp_path / "x.mat", values)
    with pytest.raises(DataError, match=message) as caught:
        SvhnDataset(tmp_path / "x.mat", "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("second", [False, True], ids=["at once", "after another"])
def test_what_inflates_beyond_all_images_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, second: bool
) -> None:
    """A variable whose name has a gigabyte: a header reader takes it whole; here a few megabytes are inflated."""
    stream = zlib.compressobj(9)
    name = struct.pack(f"{order}IIII", 14, 1 << 30, 6, 8) + bytes(8) + struct.pack(f"{order}4I", 5, 8, 1, 1)
    inner = name + struct.pack(f"{order}II", 1, 1 << 30)
    packed = stream.compress(inner) + b"".join(stream.compress(bytes(1 << 20)) for _ in range(64)) + stream.flush()
    first = struct.pack(f"{order}II", 14, 8) + bytes(8) if second else b""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + (b"\x00\x01IM" if order == "<" else b"\x01\x00MI")
    (tmp_path / "x.mat").write_bytes(head + first + struct.pack(f"{order}II", 15, len(packed)) + packed)
    assert len(packed) < 100_000
    monkeypatch.setattr("harness.data.svhn.INFLATED_LIMIT", 8 << 20)
    monkeypatch.setattr(scipy.io, "whosmat", lambda _path: pytest.fail("the reader saw the file"))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="inflates to more than 8388608 bytes"):
            SvhnDataset(tmp_path / "x.mat", "test")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_bound_is_on_all_parts_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published sizes are far below it; one byte less than a file's own and it is refused, if it is compressed."""
    assert 73257 * (32 * 32 * 3 + 1) < INFLATED_LIMIT < 1 << 30
    plain = COUNT * (32 * 32 * 3 + 1)
    compressed = (folder / "test_32x32.mat").read_bytes()[128] == 15
    monkeypatch.setattr("harness.data.svhn.INFLATED_LIMIT", plain + 1000)
    assert len(SvhnDataset(folder / "test_32x32.mat", "test")) == COUNT
    monkeypatch.setattr("harness.data.svhn.INFLATED_LIMIT", plain)
    if compressed:
        with pytest.raises(DataError, match="inflates to more than"):
            SvhnDataset(folder / "test_32x32.mat", "test")
    else:
        assert len(SvhnDataset(folder / "test_32x32.mat", "test")) == COUNT


def test_damaged_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at any place, of another format, missing, too large."""
    path = folder / "test_32x32.mat"
    good = path.read_bytes()
    for cut in (0, 10, 130, 200, len(good) // 2, len(good) - 3):
        path.write_bytes(good[:cut])
        with pytest.raises(DataError):
            SvhnDataset(path, "test").images()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(600))
    with pytest.raises(DataError, match="version 5"):
        open_svhn(folder, "test")
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        open_svhn(folder, "test")
    path.write_bytes(good)
    monkeypatch.setattr("harness.data.svhn.FILE_LIMIT", 100)
    with pytest.raises(DataError, match="at most 100"):
        open_svhn(folder, "test")
