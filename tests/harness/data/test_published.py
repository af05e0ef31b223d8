"""Readers of published files: what they return, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.published import open_array_set, open_picture_folder
from harness.errors import DataError, InvalidArgument

CLASSES = tuple(f"class{i}" for i in range(10))


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A set of 4 images in 5 severities; image k is filled with k."""
    images = np.arange(20, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "fog.npy", images)
    np.save(tmp_path / "labels.npy", np.tile(np.array([3, 1, 4, 1], dtype=np.uint8), 5))
    return tmp_path


def test_a_cell_is_its_fifth_of_the_file(arrays: Path) -> None:
    """Severity 2 is images 4 to 7; fingerprints tell cells apart."""
    cell = open_array_set(arrays, "fog", 2, classes=CLASSES)
    assert cell.images()[:, 0, 0, 0].tolist() == [4, 5, 6, 7]
    assert cell.images(1, 3)[:, 0, 0, 0].tolist() == [5, 6]
    assert cell.labels.tolist() == [3, 1, 4, 1]
    assert cell.digest != open_array_set(arrays, "fog", 3, classes=CLASSES).digest
    np.save(arrays / "labels.npy", np.array([3, 1, 4, 1]))
    assert open_array_set(arrays, "fog", 2, classes=CLASSES).digest == cell.digest


def test_bad_arrays_are_refused(arrays: Path) -> None:
    """Truncated, missing, pickled, of the wrong type or number, labels that do not fit, severity 0 and 6."""
    good = (arrays / "fog.npy").read_bytes()

    def refused(match: str, severity: int = 1) -> None:
        with pytest.raises((DataError, InvalidArgument), match=match):
            open_array_set(arrays, "fog", severity, classes=CLASSES)

    refused("severity", 0)
    refused("severity", 6)
    for length in (0, 40, 300):
        (arrays / "fog.npy").write_bytes(good[:length])
        refused("not a whole .npy array")
    np.save(arrays / "fog.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused("not a whole .npy array")
    np.save(arrays / "fog.npy", np.zeros((20, 8, 8, 3), dtype=np.float32))
    refused("float32")
    np.save(arrays / "fog.npy", np.zeros((21, 8, 8, 3), dtype=np.uint8))
    refused("five equal parts")
    (arrays / "fog.npy").unlink()
    refused("no such file")
    (arrays / "fog.npy").write_bytes(good)
    np.save(arrays / "labels.npy", np.zeros(7, dtype=np.uint8))
    refused("7 labels for 20 images")
    np.save(arrays / "labels.npy", np.full(20, 11, dtype=np.uint8))
    refused(r"\[0, 10\)")
    np.save(arrays / "labels.npy", np.zeros(20))
    refused("integers")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three class folders with two pictures each; one of 30x20, the others of 16x16."""
    for number, name in enumerate(CLASSES[:3]):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(2):
            size = (30, 20) if (number, index) == (2, 1) else (16, 16)
            Image.new("RGB", size, (10 * number, 10 * index, 0)).save(tmp_path / "set" / name / f"{index}.png")
    return tmp_path / "set"


def test_a_subset_keeps_the_full_labels(pictures: Path) -> None:
    """Labels are positions in the full list, `present` says which occur, and each class comes in turn."""
    data = open_picture_folder(pictures, classes=CLASSES[::-1], subset=CLASSES[:3], side=16)
    assert data.present == (7, 8, 9)
    assert sorted(data.labels.tolist()) == [7, 7, 8, 8, 9, 9]
    assert sorted(data.labels[:3].tolist()) == [7, 8, 9]
    assert data.images().shape == (6, 16, 16, 3)
    red = {9: 0, 8: 10, 7: 20}
    assert all(
        int(image[8, 8, 0]) == red[label] for image, label in zip(data.images(), data.labels.tolist(), strict=True)
    )


def test_pictures_of_the_right_size_are_taken_as_they_are(tmp_path: Path) -> None:
    """224x224 files are neither resized nor cropped; others are, about their centre."""
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(noise).save(tmp_path / "a" / "0.png")
    wide = np.zeros((256, 512, 3), dtype=np.uint8)
    wide[:, 144:368] = 200
    Image.fromarray(wide).save(tmp_path / "a" / "1.png")
    data = open_picture_folder(tmp_path, classes=("a",))
    np.testing.assert_array_equal(data.images(0, 1)[0], noise)
    assert data.images(1, 2)[0].min() == 200


def test_bad_folders_are_refused(pictures: Path) -> None:
    """A class too few or too many, an empty one, an unknown subset, a damaged picture, no folder."""

    def refused(match: str, *, classes: tuple[str, ...] = CLASSES[:3], subset: tuple[str, ...] | None = None) -> None:
        with pytest.raises(DataError, match=match):
            open_picture_folder(pictures, classes=classes, subset=subset, side=16)

    refused("has 3 of 4 classes; 'class3' is the first", classes=CLASSES[:4])
    refused("'class2' is not one of the 2", classes=CLASSES[:2])
    refused("'zebra' of the subset", subset=("zebra",))
    with pytest.raises(DataError, match="no such folder"):
        open_picture_folder(pictures / "nowhere", classes=CLASSES)
    (pictures / "class1" / "0.png").write_bytes(b"not a picture")
    data = open_picture_folder(pictures, classes=CLASSES[:3], side=16)
    with pytest.raises(DataError, match="unreadable"):
        data.images()
    for file in (pictures / "class1").iterdir():
        file.unlink()
    refused("no images")
