"""Tiny files in the layouts of public data sets."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Planes = NDArray[np.uint8]


def planes(count: int, seed: int) -> Planes:
    """Random pixels, n x 3 x 32 x 32."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def write_cifar10(folder: Path, *, per_file: int = 12) -> dict[str, tuple[Planes, NDArray[np.uint8]]]:
    """The binary version; file name -> pixels and labels."""
    folder.mkdir(parents=True)
    made = {}
    for number, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]):
        pixels = planes(per_file, number)
        labels = np.random.default_rng(50 + number).permutation(np.arange(per_file, dtype=np.uint8) % 10)
        (folder / name).write_bytes(b"".join(bytes([y]) + x.tobytes() for x, y in zip(pixels, labels, strict=True)))
        made[name] = pixels, labels
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10) + "\n\n", encoding="ascii")
    return made


def write_cifar100(folder: Path) -> dict[str, tuple[Planes, NDArray[np.uint8]]]:
    """Two coarse and six fine classes; split -> pixels and fine labels."""
    folder.mkdir(parents=True)
    made = {}
    for seed, split in enumerate(("train", "test")):
        pixels, labels = planes(9, seed), (np.arange(9, dtype=np.uint8) * 5) % 6
        rows = [bytes([y // 3, y]) + x.tobytes() for x, y in zip(pixels, labels, strict=True)]
        (folder / f"{split}.bin").write_bytes(b"".join(rows))
        made[split] = pixels, labels
    names = ("apple", "baby", "bear", "bed", "bee", "bowl")
    (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n", encoding="ascii")
    return made


def archive(folder: Path, path: Path) -> Path:
    """`folder` as a .tar.gz with the folder's name in front, and a stranger beside it."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
        stranger = tarfile.TarInfo("../outside.txt")
        stranger.size = 4
        tar.addfile(stranger, io.BytesIO(b"evil"))
    return path


def write_image(path: Path, value: int, size: tuple[int, int] = (64, 64), *, grey: bool = False) -> None:
    """One plain image, width x height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("L" if grey else "RGB", size, value if grey else (value, value, value))
    picture.save(path, quality=95)
