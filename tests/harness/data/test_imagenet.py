"""Folders of ImageNet and Tiny ImageNet, against torchvision's `ImageFolder` and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torchvision

from harness.data.imagenet import open_imagenet, open_tiny_imagenet
from harness.data.order import round_robin
from harness.errors import DataError
from tests.harness.data.public_files import write_image

WNIDS = ("n02124075", "n01443537", "n04540053")
"""As a published list has them: not sorted."""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Three classes; two training images and one or two validation images each, some of them grey."""
    root = tmp_path / "tiny-imagenet-200"
    for number, wnid in enumerate(WNIDS):
        for image in range(2):
            write_image(root / "train" / wnid / "images" / f"{wnid}_{image}.JPEG", 10 * number + image)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("x", encoding="ascii")
    lines = []
    for image, wnid in enumerate([WNIDS[0], WNIDS[2], WNIDS[1], WNIDS[1]]):
        write_image(root / "val" / "images" / f"val_{image}.JPEG", 100 + image, grey=image == 2)
        lines.append(f"val_{image}.JPEG\t{wnid}\t0\t32\t44\t62")
    (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n", encoding="ascii")
    return root


def test_classes_are_in_the_order_of_image_folder(tiny: Path) -> None:
    """The training folder as torchvision's `ImageFolder` reads it, in our order of images."""
    theirs = torchvision.datasets.ImageFolder(str(tiny / "train"))
    order = round_robin(np.array(theirs.targets))
    ours = open_tiny_imagenet(tiny, "train")
    assert list(ours.classes) == theirs.classes == sorted(WNIDS)
    assert ours.split == "train"
    assert ours.labels.tolist() == np.array(theirs.targets)[order].tolist()
    assert np.array_equal(ours.images(), np.stack([np.asarray(theirs[place][0]) for place in order.tolist()]))


def test_no_class_folder_is_left_out_for_its_name(tmp_path: Path) -> None:
    """Spaces, apostrophes and letters of any language, as `ImageFolder` takes them; one without images is named."""
    names = ("apple pie", "jack-o'-lantern", "n01443537", "éclair", ".hidden")
    for number, name in enumerate(names):
        write_image(tmp_path / "val" / name / "1.png", 10 * number)
    theirs = torchvision.datasets.ImageFolder(str(tmp_path / "val"))
    ours = open_tiny_imagenet(tmp_path, "test")
    assert list(ours.classes) == theirs.classes == sorted(names)
    assert ours.labels.tolist() == theirs.targets
    (tmp_path / "val" / "an empty one").mkdir()
    with pytest.raises(DataError, match=r"an empty one.*no images"):
        open_tiny_imagenet(tmp_path, "test")


def test_validation_images_get_their_classes_from_the_annotations(tiny: Path) -> None:
    """Labels by the sorted ids, files sorted inside a class, grey images with three equal channels."""
    data = open_tiny_imagenet(tiny, "test")
    assert data.classes == tuple(sorted(WNIDS))
    assert data.labels.tolist() == [0, 1, 2, 0]
    assert data.images()[:, 5, 5].tolist() == [[102] * 3, [100] * 3, [101] * 3, [103] * 3]
    assert data.image_size == (64, 64)
    digest = data.digest
    for line in range(4):
        source, wnid = tiny / "val" / "images" / f"val_{line}.JPEG", [WNIDS[0], WNIDS[2], WNIDS[1], WNIDS[1]][line]
        (tiny / "val" / wnid).mkdir(exist_ok=True)
        source.rename(tiny / "val" / wnid / source.name)
    (tiny / "val" / "images").rmdir()
    (tiny / "val" / "val_annotations.txt").unlink()
    assert open_tiny_imagenet(tiny, "test").digest == digest


def test_the_fingerprint_covers_every_image(tiny: Path) -> None:
    """A changed file and a changed label."""
    digest = open_tiny_imagenet(tiny, "test").digest
    listed = tiny / "val" / "val_annotations.txt"
    good = listed.read_text("ascii")
    listed.write_text(good.replace(f"val_0.JPEG\t{WNIDS[0]}", f"val_0.JPEG\t{WNIDS[1]}") + f"val_9.JPEG\t{WNIDS[0]}\n")
    write_image(tiny / "val" / "images" / "val_9.JPEG", 7)
    assert open_tiny_imagenet(tiny, "test").digest != digest
    listed.write_text(good)
    assert open_tiny_imagenet(tiny, "test").digest == digest
    write_image(tiny / "val" / "images" / "val_3.JPEG", 9)
    assert open_tiny_imagenet(tiny, "test").digest != digest


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../../secret.JPEG\tn01443537", "line 5: expected FILE, a tab and its class"),
        ("val_0.JPEG", "line 5: expected FILE"),
        ("val_7.JPEG\tn01443537", "no such file; line 5"),
        ("val_0.JPEG\tn99999999", "'n99999999' is not one of the 3 classes"),
        ("val_0.JPEG\tn014é", "short plain text"),
    ],
)
def test_bad_annotations_are_refused(tiny: Path, line: str, message: str) -> None:
    """Names that lead elsewhere, half lines, strangers."""
    with (tiny / "val" / "val_annotations.txt").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        open_tiny_imagenet(tiny, "test")


def test_a_class_without_an_image_is_named(tiny: Path) -> None:
    """The list of classes says that there should be one."""
    (tiny / "wnids.txt").write_text("\n".join((*WNIDS, "n09999999")), encoding="ascii")
    with pytest.raises(DataError, match="no image of 'n09999999'"):
        open_tiny_imagenet(tiny, "test")


def test_imagenet_is_cut_to_its_usual_size(tmp_path: Path) -> None:
    """The shorter side to 256, the middle 224; files of other sizes; train where it is there."""
    for number, wnid in enumerate(WNIDS):
        write_image(tmp_path / "val" / wnid / f"ILSVRC2012_val_{number}.JPEG", 50 * number, (300 + 30 * number, 260))
    data = open_imagenet(tmp_path, "test")
    assert data.classes == tuple(sorted(WNIDS))
    assert data.image_size == (224, 224)
    assert data.images()[:, 100, 100, 0].tolist() == [50, 0, 100]
    with pytest.raises(DataError, match=r"train.*no such folder"):
        open_imagenet(tmp_path, "train")
    (tmp_path / "val" / "n00000001").mkdir()
    with pytest.raises(DataError, match=r"n00000001.*no images"):
        open_imagenet(tmp_path, "test")


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    """Unpacked flat, as the archive of the validation images is."""
    write_image(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 1)
    with pytest.raises(DataError, match="0 class folders, expected at least two"):
        open_imagenet(tmp_path, "test")
