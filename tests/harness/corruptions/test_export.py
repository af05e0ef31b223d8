"""Exports in both published layouts: complete, resumable, and equal to what is made in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from harness.corruptions import corrupt, export
from harness.corruptions.sheet import contact_sheet
from harness.data.base import ArrayDataset
from harness.data.published import open_array_set, open_picture_folder
from harness.errors import DataError, InvalidArgument, UnknownName

if TYPE_CHECKING:
    from harness.types import ImagesU8


@pytest.fixture
def source(photos: ImagesU8) -> ArrayDataset:
    """Six photographs of two classes."""
    return ArrayDataset(
        name="six", split="test", classes=("cat", "dog"), labels=np.array([0, 1, 1, 0, 1, 0]), pixels=photos[:6]
    )


def run(source: ArrayDataset, folder: Path, **options: Any) -> list[tuple[int, int]]:
    """Export two corruptions and return the calls of the progress callback."""
    calls: list[tuple[int, int]] = []
    export.export(
        source, folder, suite="cifar-10-c", names=("fog", "impulse_noise"), seed=3,
        progress=lambda done, total: calls.append((done, total)), **options,
    )  # fmt: skip
    return calls


def test_arrays_have_the_published_layout(source: ArrayDataset, tmp_path: Path) -> None:
    """Severity by severity, labels repeated, read back by the reader of published sets."""
    calls = run(source, tmp_path / "c")
    assert calls[-1] == (60, 60)
    assert calls == sorted(calls)
    whole = np.load(tmp_path / "c" / "fog.npy")
    assert whole.shape == (30, 32, 32, 3)
    assert np.load(tmp_path / "c" / "labels.npy").tolist() == [0, 1, 1, 0, 1, 0] * 5
    for severity in (1, 5):
        wanted = corrupt(source.images(), "fog", severity, seed=3)
        np.testing.assert_array_equal(whole[6 * severity - 6 : 6 * severity], wanted)
        cell = open_array_set(tmp_path / "c", "fog", severity, classes=source.classes)
        np.testing.assert_array_equal(cell.images(), wanted)
        assert cell.labels.tolist() == source.labels.tolist()
        assert cell.source == "published files"


@pytest.mark.parametrize("left", [0, 50, 128, 128 + 3072 * 7, 128 + 3072 * 13 + 1000, 128 + 3072 * 30])
def test_an_interrupted_array_goes_on_where_it_ends(
    left: int, source: ArrayDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut in the header, between images or inside one: the file becomes whole, no finished image is made again."""
    monkeypatch.setattr(export, "BLOCK_PIXELS", 2 * 32 * 32)
    run(source, tmp_path / "whole")
    run(source, tmp_path / "cut")
    content = (tmp_path / "cut" / "fog.npy").read_bytes()
    (tmp_path / "cut" / "fog.npy").unlink()
    (tmp_path / "cut" / "fog.npy.part").write_bytes(content[:left])
    made: list[int] = []

    def counting(images: ImagesU8, *args: Any, **options: Any) -> ImagesU8:
        made.append(len(images))
        return corrupt(images, *args, **options)

    monkeypatch.setattr(export, "corrupt", counting)
    run(source, tmp_path / "cut")
    assert (tmp_path / "cut" / "fog.npy").read_bytes() == (tmp_path / "whole" / "fog.npy").read_bytes()
    assert sum(made) == 30 - max(0, left - 128) // 3072


def test_folders_have_the_published_layout_and_resume(source: ArrayDataset, tmp_path: Path) -> None:
    """NAME/SEVERITY/CLASS/*.JPEG at quality 85; a deleted file comes back, the others are not touched."""
    folder = tmp_path / "f"
    run(source, folder, layout="folder")
    files = sorted((folder / "fog" / "3").rglob("*.JPEG"))
    assert [str(file.relative_to(folder / "fog" / "3")) for file in files][:2] == [
        "cat/00000000.JPEG",
        "cat/00000003.JPEG",
    ]
    with Image.open(files[0]) as picture:
        tables: Any = vars(picture)["quantization"]
        assert tables[0][0] == 5  # the standard luminance table's 16, scaled to quality 85: 16 * 0.3 + 0.5
    times = {file: file.stat().st_mtime_ns for file in files}
    content = files[0].read_bytes()
    files[0].unlink()
    run(source, folder, layout="folder")
    assert files[0].read_bytes() == content
    assert all(file.stat().st_mtime_ns == times[file] for file in files[1:])
    cell = open_picture_folder(folder / "fog" / "3", classes=source.classes, side=32)
    assert cell.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert np.abs(cell.images(0, 1)[0].astype(int) - corrupt(source.images(0, 1), "fog", 3, seed=3)[0]).mean() < 8


def test_another_export_is_not_overwritten(source: ArrayDataset, tmp_path: Path) -> None:
    """Other seed, suite or a folder with strange files: refused, nothing written."""
    run(source, tmp_path / "c")
    before = (tmp_path / "c" / "fog.npy").read_bytes()
    with pytest.raises(DataError, match="another export"):
        export.export(source, tmp_path / "c", suite="cifar-10-c", seed=4)
    assert (tmp_path / "c" / "fog.npy").read_bytes() == before
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        export.export(source, tmp_path / "d", suite="cifar-10-c")


def test_wrong_requests(source: ArrayDataset, tmp_path: Path) -> None:
    """Unknown names, wrong sizes, limits and layouts are refused before anything is written."""
    with pytest.raises(UnknownName):
        export.export(source, tmp_path / "x", suite="cifar-10-c", names=["rain"])
    with pytest.raises(InvalidArgument, match="224x224"):
        export.export(source, tmp_path / "x", suite="imagenet-c")
    with pytest.raises(InvalidArgument, match="limit"):
        export.export(source, tmp_path / "x", suite="cifar-10-c", limit=7)
    strange: Any = "zip"
    with pytest.raises(InvalidArgument, match="layout"):
        export.export(source, tmp_path / "x", suite="cifar-10-c", layout=strange)
    assert not (tmp_path / "x").exists()


def test_contact_sheet(photos: ImagesU8) -> None:
    """A row a corruption and a column a severity, each cell the corrupted image; wrong images are refused."""
    sheet = contact_sheet(photos[0], names=("contrast", "fog"), severities=(1, 5))
    pixels = np.asarray(sheet)
    clean = np.repeat(np.repeat(photos[0], 3, axis=0), 3, axis=1)
    worst = np.repeat(np.repeat(corrupt(photos[:1], "fog", 5)[0], 3, axis=0), 3, axis=1)
    height, width = pixels.shape[:2]
    np.testing.assert_array_equal(pixels[height - 104 : height - 8, width - 104 : width - 8], worst)
    np.testing.assert_array_equal(pixels[height - 104 : height - 8, width - 312 : width - 216], clean)
    floats: Any = photos[0].astype(float)
    with pytest.raises(InvalidArgument, match="float"):
        contact_sheet(floats)
    with pytest.raises(InvalidArgument, match="32x32"):
        contact_sheet(photos[0], suite="imagenet-c")
