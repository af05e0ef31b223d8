"""ImageNet and Tiny ImageNet as folders of class folders; their validation images are the split "test".

Classes are the WordNet ids in sorted order, which is the order of torchvision's `ImageFolder` and of the public
checkpoints, and the names of the class folders of ImageNet-C and Tiny-ImageNet-C. Images are brought to 224 and 64
pixels a side as `harness.data.published.PictureFolder` says (the shorter side to 256, then the centre; 64x64 files
are taken as they are).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.data.image_file import SUFFIXES, read_head, show
from harness.data.order import round_robin
from harness.data.published import PictureFolder
from harness.errors import DataError

FOLDERS = {"train": "train", "test": "val"}
IMAGENET_SIDE = 224
TINY_SIDE = 64
TEXT_LIMIT = 4 << 20
"""Bytes of a list of classes or annotations; the published ones have 2 and 400 kilobytes."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
"""Names in a list that stay inside their folder."""


def open_imagenet(folder: Path, split: str) -> PictureFolder:
    """`val/WNID/*` or `train/WNID/*`, 224x224.

    Raises:
        DataError: a missing folder, no classes, or an empty class.
    """
    root = folder / FOLDERS[split]
    return _pictures("imagenet", split, _class_folders(root), IMAGENET_SIDE)


def open_tiny_imagenet(folder: Path, split: str) -> PictureFolder:
    """Tiny ImageNet, 64x64: `train/WNID/images/*`, and `val/images/*` with `val_annotations.txt` or `val/WNID/*`.

    Raises:
        DataError: a missing folder or file, no classes, an empty class, or an annotation that is not understood.
    """
    root = folder / FOLDERS[split]
    listed = root / "val_annotations.txt"
    if split == "test" and listed.is_file():
        names = folder / "wnids.txt"
        classes = _lines(names) if names.is_file() else None
        return _pictures("tiny-imagenet", split, _annotated(root / "images", listed, classes), TINY_SIDE)
    return _pictures("tiny-imagenet", split, _class_folders(root), TINY_SIDE)


def _pictures(name: str, split: str, by_class: dict[str, list[Path]], side: int) -> PictureFolder:
    """The data set of files by class, classes sorted."""
    classes = tuple(sorted(by_class))
    files = [path for item in classes for path in by_class[item]]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(by_class[item]) for item in classes])
    order = round_robin(labels)
    return PictureFolder(
        name=name,
        split=split,
        classes=classes,
        labels=labels[order],
        files=tuple(files[place] for place in order.tolist()),
        side=side,
    )


def _class_folders(root: Path) -> dict[str, list[Path]]:
    """Class -> sorted images of its folder, or of the folder `images` in it."""
    if not root.is_dir():
        raise DataError(f"{show(root)}: no such folder, expected class folders in it")
    found = {}
    for folder in root.iterdir():
        if folder.is_dir():  # whatever it is called: a class less would shift the labels of all that follow
            inner = folder / "images"
            found[folder.name] = _images(inner if inner.is_dir() else folder)
    if len(found) < 2:
        raise DataError(f"{show(root)}: {len(found)} class folders, expected at least two")
    return found


def _images(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.suffix.lower().lstrip(".") in SUFFIXES)
    if not files:
        raise DataError(f"{show(folder)}: no images")
    return files


def _annotated(folder: Path, listed: Path, classes: Sequence[str] | None) -> dict[str, list[Path]]:
    """Class -> images by a list of lines `FILE<tab>WNID<tab>...`, sorted by name as class folders are."""
    if not folder.is_dir():
        raise DataError(f"{show(folder)}: no such folder")
    there = {path.name for path in folder.iterdir()}
    found: dict[str, list[Path]] = {item: [] for item in classes or ()}
    for number, line in enumerate(_lines(listed), start=1):
        file, label = ([*line.split("\t"), ""])[:2]
        if not (_PLAIN.fullmatch(file) and _PLAIN.fullmatch(label)):
            raise DataError(f"{show(listed)}, line {number}: expected FILE, a tab and its class")
        if file not in there:
            raise DataError(f"{show(folder / file)}: no such file; line {number} of {listed.name} names it")
        if classes is not None and label not in found:
            raise DataError(f"{show(listed)}, line {number}: {label!r} is not one of the {len(classes)} classes")
        found.setdefault(label, []).append(folder / file)
    empty = sorted(item for item, files in found.items() if not files)
    if empty or len(found) < 2:
        raise DataError(f"{show(listed)}: {f'no image of {empty[0]!r}' if empty else 'expected at least two classes'}")
    return {item: sorted(files) for item, files in found.items()}


def _lines(path: Path) -> list[str]:
    """The lines of a text file, without empty ones."""
    content = read_head(path, TEXT_LIMIT + 1)
    if len(content) > TEXT_LIMIT or not content.isascii():
        raise DataError(f"{show(path)}: expected a short plain text")
    return [line for line in content.decode("ascii").splitlines() if line.strip()]
