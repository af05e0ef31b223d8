"""SVHN's .mat files, against torchvision's reader."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision
from scipy.io import savemat

from harness.data.order import round_robin
from harness.data.svhn import SvhnDataset, open_svhn
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
        ({"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([["a"], ["b"]])}, "2 labels"),
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
