"""Image folders: order, identity, pixels, caching and everything that can be wrong with them."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from harness.data import folder as folder_module
from harness.data import open_dataset
from harness.data.folder import check_folder, open_folder
from harness.data.image_file import decode
from harness.errors import DataError, InvalidArgument, UnknownName

COUNTS = {"ant": 3, "bee": 1, "cat": 2}


def picture(number: int, side: int = 6) -> NDArray[np.uint8]:
    """A random but fixed RGB picture."""
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


def make_split(folder: Path, counts: dict[str, int] = COUNTS, *, first: int = 0) -> None:
    """PNG files `CLASS/0.png`, ... with pictures numbered from `first` in class order."""
    number = first
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for position in range(count):
            Image.fromarray(picture(number)).save(folder / name / f"{position}.png")
            number += 1


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A good folder with both splits."""
    make_split(tmp_path / "photos" / "test")
    make_split(tmp_path / "photos" / "train", first=10)
    return tmp_path / "photos"


def test_order_is_round_robin_and_pixels_are_exact(photos: Path) -> None:
    """ant/0, bee/0, cat/0, ant/1, cat/1, ant/2: a worked example; PNG pixels come back unchanged."""
    data = open_dataset("mine", folders={"mine": photos})
    assert data.classes == ("ant", "bee", "cat")
    assert data.labels.tolist() == [0, 1, 2, 0, 2, 0]
    expected = np.stack([picture(number) for number in (0, 3, 4, 1, 5, 2)])
    assert np.array_equal(data.images(0, 6), expected)
    assert np.array_equal(data.images(2, 4), expected[2:4])
    assert data.image_size == (6, 6)
    assert data.images(3, 3).shape == (0, 6, 6, 3)
    assert (data.ref().images, data.ref().classes, data.ref().digest) == (6, 3, data.digest)


def test_files_are_sorted_by_code_point(tmp_path: Path) -> None:
    """Names sort as text whatever order the file system gives: 10 before 2, capitals before small letters."""
    (tmp_path / "test" / "a").mkdir(parents=True)
    for number, name in enumerate(["b.png", "2.png", "B.png", "10.png"]):
        Image.fromarray(picture(number)).save(tmp_path / "test" / "a" / name)
    expected = np.stack([picture(number) for number in (3, 1, 2, 0)])
    assert np.array_equal(open_folder(tmp_path).images(), expected)


def test_identity_is_content(photos: Path, tmp_path: Path) -> None:
    """Another path, another data set name and other file names in the same order leave the fingerprint alone."""
    before = open_folder(photos, name="one").digest
    moved = tmp_path / "elsewhere"
    shutil.copytree(photos, moved)
    (moved / "test" / "ant" / "2.png").rename(moved / "test" / "ant" / "7.png")
    (moved / "test" / "ant" / ".DS_Store").write_bytes(b"junk")
    assert open_folder(moved, name="two").digest == before


@pytest.mark.parametrize(
    "change",
    [
        lambda test: Image.fromarray(picture(99)).save(test / "cat" / "1.png"),
        lambda test: (test / "ant" / "2.png").unlink(),
        lambda test: (test / "ant" / "0.png").rename(test / "ant" / "9.png"),
        lambda test: (test / "ant" / "2.png").rename(test / "bee" / "2.png"),
        lambda test: (test / "bee").rename(test / "bug"),
    ],
    ids=["pixels", "one less", "order", "label", "class name"],
)
def test_identity_changes_with_content(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Other pixels, number, order, labels or class names make another data set."""
    make_split(tmp_path / "test")
    before = open_folder(tmp_path).digest
    change(tmp_path / "test")
    assert open_folder(tmp_path).digest != before


def test_decode_matches_pillow_on_jpeg_and_grey(tmp_path: Path) -> None:
    """JPEG and grey files equal what Pillow's own conversion to RGB gives; palettes are resolved."""
    folder = tmp_path / "test" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(picture(0)).save(folder / "0.jpg", quality=80)
    Image.fromarray(picture(1)[..., 0]).save(folder / "1.png")
    Image.fromarray(picture(2)).quantize(8).save(folder / "2.png")
    opaque = np.dstack([picture(3), np.full((6, 6), 255, dtype=np.uint8)])
    Image.fromarray(opaque).save(folder / "3.png")
    images = open_folder(tmp_path).images()
    for row, name in enumerate(["0.jpg", "1.png", "2.png", "3.png"]):
        with Image.open(folder / name) as image:
            assert np.array_equal(images[row], np.asarray(image.convert("RGB")))
    assert np.array_equal(images[1], np.repeat(picture(1)[..., :1], 3, axis=2))
    assert np.array_equal(images[3], picture(3))


def test_decoding_is_bounded_and_cached(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small splits are read once; above the bound every read decodes anew and nothing is kept."""
    data = open_folder(photos)
    first = data.images(0, 6).copy()
    monkeypatch.setattr(folder_module, "decode", pytest.fail)
    assert np.array_equal(data.images(0, 6), first)
    monkeypatch.undo()
    monkeypatch.setattr(folder_module, "CACHE_BYTES", 6 * 6 * 6 * 3 - 1)
    fresh = open_folder(photos)
    assert np.array_equal(fresh.images(0, 6), first)
    assert fresh._cache is None


def test_pickle_leaves_the_cache_behind(photos: Path) -> None:
    """A worker process gets the same data set without the decoded images, and with the fingerprint."""
    data = open_folder(photos)
    images = data.images()
    digest = data.digest
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own object
    assert copy._cache is None
    assert "digest" in copy.__dict__
    assert copy.digest == digest
    assert np.array_equal(copy.images(), images)


def test_images_cannot_be_written(photos: Path) -> None:
    """A corruption that works in place must not damage the cached images or labels."""
    data = open_folder(photos)
    with pytest.raises(ValueError, match="read-only"):
        data.images(0, 1)[0, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        data.labels[0] = 1


def test_file_changed_after_fingerprint(photos: Path) -> None:
    """Outcomes must never be stored under the fingerprint of other images."""
    data = open_folder(photos)
    data.images(0, 6)
    assert data.digest
    Image.fromarray(picture(99)).save(photos / "test" / "ant" / "0.png")
    with pytest.raises(DataError, match=r"ant/0\.png.*has changed"):
        data.images(0, 1)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 7), (3, 2)])
def test_range_outside_the_split(photos: Path, start: int, stop: int) -> None:
    """Ranges are checked, never clipped."""
    with pytest.raises(InvalidArgument, match="images"):
        open_folder(photos).images(start, stop)


def test_unknown_names(photos: Path) -> None:
    """Unknown data sets get a did-you-mean, unknown splits the right ones; built-in names cannot be taken."""
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        open_dataset("digit")
    with pytest.raises(UnknownName, match="did you mean 'photos'"):
        open_dataset("photo", folders={"photos": photos})
    with pytest.raises(InvalidArgument, match="train or test"):
        open_dataset("digits", "validation")
    with pytest.raises(DataError, match="built in"):
        open_dataset("digits", folders={"digits": photos})


def test_report_of_a_good_folder(photos: Path) -> None:
    """Counts, sizes and digests per split; progress ends at the total."""
    seen: list[tuple[int, int]] = []
    report = check_folder(photos, progress=lambda done, total: seen.append((done, total)))
    assert report.classes == ("ant", "bee", "cat")
    assert [split.split for split in report.splits] == ["train", "test"]
    assert [split.per_class for split in report.splits] == [(3, 1, 2), (3, 1, 2)]
    assert [split.digest for split in report.splits] == [open_folder(photos, name).digest for name in ("train", "test")]
    assert report.splits[0].digest != report.splits[1].digest
    assert seen == [(6, 12), (12, 12)]


def test_train_is_optional(tmp_path: Path) -> None:
    """A test split alone is a data set; asking for its train split is an error that says what is missing."""
    make_split(tmp_path / "test")
    assert [split.split for split in check_folder(tmp_path).splits] == ["test"]
    with pytest.raises(DataError, match="has no train/ folder"):
        open_folder(tmp_path, "train")


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims any size in some 60 bytes: a decompression bomb."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncate(path: Path) -> None:
    """Cut the last third of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def transparent(path: Path) -> None:
    """A picture with one transparent pixel."""
    pixels = np.dstack([picture(0), np.full((6, 6), 255, dtype=np.uint8)])
    pixels[0, 0, 3] = 0
    Image.fromarray(pixels).save(path)


def empty(folder: Path) -> None:
    """Remove everything in a folder."""
    shutil.rmtree(folder)
    folder.mkdir()


def escape(folder: Path) -> None:
    """A link to a file outside of the data folder."""
    outside = folder.parent / "secret.png"
    Image.fromarray(picture(0)).save(outside)
    (folder / "test" / "ant" / "link.png").symlink_to(outside)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such folder"),
    "no test split": (lambda f: shutil.rmtree(f / "test"), "has no test/ folder"),
    "no classes": (lambda f: empty(f / "test"), "has no class folders"),
    "empty class": (lambda f: (f / "test" / "bee" / "0.png").unlink(), "test/bee.*has no images"),
    "class only in train": (lambda f: shutil.rmtree(f / "test" / "bee"), r"'bee' is in train/ but not in test/"),
    "class only in test": (lambda f: shutil.rmtree(f / "train" / "cat"), r"'cat' is in test/ but not in train/"),
    "truncated": (lambda f: truncate(f / "test" / "cat" / "1.png"), r"test/cat/1\.png.*unreadable or truncated"),
    "no image": (lambda f: (f / "test" / "cat" / "1.png").write_bytes(b"hello"), r"cat/1\.png.*unreadable"),
    "empty file": (lambda f: (f / "train" / "cat" / "1.png").write_bytes(b""), r"train/cat/1\.png.*unreadable"),
    "gif in disguise": (
        lambda f: Image.fromarray(picture(0)).save(f / "test" / "ant" / "0.png", format="GIF"),
        r"ant/0\.png.*unreadable",
    ),
    "text file": (lambda f: (f / "test" / "cat" / "notes.txt").write_text("x"), r"'notes\.txt' is no image"),
    "nested folder": (lambda f: (f / "test" / "cat" / "more").mkdir(), "'more' is no regular file"),
    "pipe": (lambda f: os.mkfifo(f / "test" / "cat" / "pipe.png"), r"'pipe\.png' is no regular file"),
    "other size": (
        lambda f: Image.fromarray(picture(0, side=7)).save(f / "test" / "cat" / "1.png"),
        r"cat/1\.png.*got 7x7 pixels, expected 6x6",
    ),
    "large": (
        lambda f: (f / "test" / "ant" / "0.png").write_bytes(png_header(5000, 4)),
        r"ant/0\.png.*got 5000x4 pixels, expected at most 4096",
    ),
    "bomb warning": (
        lambda f: (f / "test" / "ant" / "0.png").write_bytes(png_header(10_000, 10_000)),
        r"ant/0\.png.*absurdly large",
    ),
    "bomb": (
        lambda f: (f / "test" / "cat" / "1.png").write_bytes(png_header(60_000, 60_000)),
        r"cat/1\.png.*absurdly large",
    ),
    "16 bits": (
        lambda f: Image.fromarray(picture(0)[..., 0].astype(np.uint16) * 257).save(f / "test" / "ant" / "1.png"),
        r"ant/1\.png.*'I;16', expected 8 bits",
    ),
    "transparent": (lambda f: transparent(f / "test" / "ant" / "1.png"), r"ant/1\.png.*transparent pixels"),
    "escape": (escape, r"link\.png' leads out of the folder"),
    "class escape": (
        lambda f: (f / "test" / "dog").symlink_to(f.parent),
        r"dog' leads out of the folder",
    ),
    "circular link": (
        lambda f: (f / "test" / "ant" / "x.png").symlink_to(f / "test" / "ant" / "x.png"),
        r"x\.png",
    ),
    "broken link": (
        lambda f: (f / "test" / "ant" / "x.png").symlink_to(f / "test" / "nothing.png"),
        r"'x\.png' is no regular file",
    ),
    "odd class name": (lambda f: shutil.copytree(f / "test" / "bee", f / "test" / "b\nee"), r"class name 'b\\nee'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_folder_is_named(photos: Path, case: str) -> None:
    """Each fault is one typed line that names the path; Pillow's own warnings and errors never come through."""
    damage, message = BAD[case]
    damage(photos)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=message) as caught:
            check_folder(photos)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_large_files_are_not_read(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file above the bound is refused without decoding it."""
    monkeypatch.setattr("harness.data.image_file.MAX_BYTES", 50)
    with pytest.raises(DataError, match="larger than"):
        open_folder(photos)


def test_links_inside_the_folder_are_fine(photos: Path) -> None:
    """A link that stays in the folder is an image like any other."""
    (photos / "test" / "bee" / "1.png").symlink_to(photos / "test" / "ant" / "0.png")
    data = open_folder(photos)
    assert np.bincount(data.labels).tolist() == [3, 2, 2]


@given(
    st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "PPM"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=8)
)
def test_damaged_bytes_give_pixels_or_a_typed_error(kind: str, position: int, junk: bytes) -> None:
    """Whatever bytes are overwritten, Pillow's many exceptions and warnings arrive as DataError."""
    buffer = io.BytesIO()
    Image.fromarray(picture(0)).save(buffer, format=kind)
    whole = buffer.getvalue()
    position %= len(whole)
    damaged = whole[:position] + junk + whole[position + len(junk) :]
    try:
        pixels = decode(damaged, Path("x"), size=(6, 6))
    except DataError:
        return
    assert pixels.shape == (6, 6, 3)
    assert pixels.dtype == np.uint8
