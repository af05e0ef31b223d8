"""CIFAR's binary version, against torchvision's reader of the other version and by hand."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torchvision

from harness.data import open_dataset
from harness.data.cifar import BinaryDataset, open_cifar10, open_cifar100
from harness.data.order import round_robin
from harness.errors import DataError
from tests.harness.data.public_files import CIFAR10, write_cifar10, write_cifar100


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with CIFAR-10 in it."""
    monkeypatch.setenv("ROBUSTBOARD_DATA", str(tmp_path))
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    return tmp_path / "cifar-10-batches-bin"


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_and_labels_are_those_that_torchvision_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """The same images written in both published versions: ours read from one, torchvision's from the other."""
    made = write_cifar10(tmp_path / "cifar-10-batches-bin")
    other = tmp_path / "cifar-10-batches-py"
    other.mkdir()
    for name, (pixels, labels) in made.items():
        batch = {"data": pixels.reshape(len(pixels), -1), "labels": labels.tolist()}
        (other / name.removesuffix(".bin")).write_bytes(pickle.dumps(batch))
    (other / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR10)}))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda _self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *_: True)
    theirs = torchvision.datasets.CIFAR10(str(tmp_path), train=split == "train")
    order = round_robin(np.array(theirs.targets))
    ours = open_cifar10(tmp_path / "cifar-10-batches-bin", split)
    assert ours.images().dtype == np.uint8
    assert np.array_equal(ours.images(), theirs.data[order])
    assert ours.labels.tolist() == np.array(theirs.targets)[order].tolist()
    assert list(ours.classes) == theirs.classes


def test_any_range_reads_the_same_images(folder: Path) -> None:
    """Parts that lie in several files; the first ten are one of each class."""
    data = open_dataset("cifar10", "train")
    whole = data.images()
    assert whole.shape == (60, 32, 32, 3)
    for start, stop in ((0, 0), (0, 1), (7, 33), (59, 60)):
        assert np.array_equal(data.images(start, stop), whole[start:stop])
    assert sorted(data.labels[:10].tolist()) == list(range(10))


def test_cifar100_has_fine_labels(tmp_path: Path) -> None:
    """The second byte of a record; class names from the file."""
    made = write_cifar100(tmp_path / "cifar-100-binary")
    data = open_cifar100(tmp_path / "cifar-100-binary", "test")
    pixels, labels = made["test"]
    order = round_robin(labels.astype(np.int64))
    assert data.classes == ("apple", "baby", "bear", "bed", "bee", "bowl")
    assert data.labels.tolist() == labels[order].tolist()
    assert np.array_equal(data.images(), pixels[order].transpose(0, 2, 3, 1))


def test_the_fingerprint_covers_all_content(tmp_path: Path) -> None:
    """A pixel of the last image, a label, a class name; not the place, nor how the images are spread over files."""
    folder = tmp_path / "a"
    write_cifar10(folder)
    same = tmp_path / "b"
    write_cifar10(same)
    digest = open_cifar10(folder, "test").digest
    assert open_cifar10(same, "test").digest == digest
    assert open_cifar10(folder, "train").digest != digest
    content = bytearray((same / "test_batch.bin").read_bytes())
    for place in (len(content) - 1, 0):
        changed = bytearray(content)
        changed[place] = (changed[place] + 1) % 10
        (same / "test_batch.bin").write_bytes(changed)
        assert open_cifar10(same, "test").digest != digest
    (same / "test_batch.bin").write_bytes(content)
    assert open_cifar10(same, "test").digest == digest
    (same / "batches.meta.txt").write_text("\n".join(CIFAR10).replace("frog", "toad"), encoding="ascii")
    assert open_cifar10(same, "test").digest != digest
    parts = tuple(folder / f"data_batch_{n}.bin" for n in range(1, 6))
    (tmp_path / "all.bin").write_bytes(b"".join(path.read_bytes() for path in parts))
    joined = BinaryDataset(name="x", split="train", classes=CIFAR10, files=(tmp_path / "all.bin",), label_bytes=1)
    assert joined.digest == open_cifar10(folder, "train").digest


def test_it_crosses_processes(folder: Path) -> None:
    """Pickled without its images."""
    data = open_cifar10(folder, "train")
    content = pickle.dumps(data)
    assert len(content) < 10_000
    assert np.array_equal(pickle.loads(content).images(3, 5), data.images(3, 5))  # noqa: S301  our own bytes


def test_changed_files_are_noticed(folder: Path) -> None:
    """Outcomes must not be stored under the fingerprint of other images."""
    data = open_cifar10(folder, "test")
    path = folder / "test_batch.bin"
    path.write_bytes(path.read_bytes() + path.read_bytes())
    with pytest.raises(DataError, match=r"test_batch\.bin.*has changed"):
        data.images(0, 1)


def test_bad_files_are_refused(folder: Path) -> None:
    """Missing, truncated, empty; labels without a class; names that are no text."""
    path = folder / "test_batch.bin"
    good = path.read_bytes()
    for content, message in (
        (good[:-1], "whole number of records of 3073"),
        (b"", "0 bytes"),
        (b"\x0a" * 3073, "labels"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_cifar10(folder, "test")
    path.unlink()
    with pytest.raises(DataError, match=r"test_batch\.bin.*cannot be read"):
        open_cifar10(folder, "test")
    path.write_bytes(good)
    for names in (b"one\n", b"one\none\n", b"a\nb\x07\n", b"\xff\xfe", b"a\n" * 40_000):
        (folder / "batches.meta.txt").write_bytes(names)
        with pytest.raises(DataError, match=r"batches\.meta\.txt"):
            open_cifar10(folder, "test")
