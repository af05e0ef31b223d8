"""Archives from strangers: what is refused before anything of its size is allocated."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import archive
from harness.archive import Field, load, read_file
from harness.errors import ExamplesError

FIELDS = {"pixels": Field(("f4", "u1"), 2, required=True), "names": Field(("U",), 0), "order": Field(("i8",), 1)}


def saved(**arrays: Any) -> bytes:
    """What NumPy writes."""
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP file of these members, the same bytes at any time of day."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as made:
        for name, content in members:
            made.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return out.getvalue()


def header(descr: str, shape: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """The head of a .npy file with any text in it."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text


def test_what_numpy_writes_is_read() -> None:
    """Both orders in memory, both byte orders, compressed and not."""
    pixels = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    plain = io.BytesIO()
    np.savez(plain, pixels=pixels, names=np.array("x"), order=np.arange(5))
    for content in (
        plain.getvalue(),
        saved(pixels=pixels, names=np.array("x"), order=np.arange(5)),
        saved(pixels=np.asfortranarray(pixels), names=np.array("x"), order=np.arange(5)),
        saved(pixels=pixels.astype(">f4"), names=np.array("x"), order=np.arange(5).astype(">i8")),
    ):
        found = load(content, FIELDS)
        assert np.array_equal(found["pixels"], pixels)
        assert found["pixels"].dtype == np.float32
        assert found["pixels"].flags.c_contiguous
        assert str(found["names"]) == "x"
        assert found["order"].tolist() == [0, 1, 2, 3, 4]


GOOD = np.zeros((2, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .npz archive"),
        (b"PK\x03\x04" + bytes(100), "directory is damaged"),
        (saved(pixels=GOOD)[:-1], "directory is damaged"),
        (saved(pixels=GOOD) + b"x", "directory is damaged"),
        (b"PK\x03\x04" + saved(pixels=GOOD), "before or after"),
        (saved(order=np.arange(2)), "'pixels' is missing"),
        (saved(pixels=GOOD, other=GOOD), "'other.npy' is unknown"),
        (zipped(("pixels", b"")), "'pixels' is unknown"),
        (zipped(("../pixels.npy", b"")), "is unknown"),
        (zipped(*((f"a{n}.npy", b"") for n in range(17))), "17 arrays in the archive, at most 16"),
        (zipped(("pixels.npy", b""), method=zipfile.ZIP_LZMA), "compressed in an unusual way"),
        (saved(pixels=GOOD.astype(np.float64)), "type float64, expected float32, uint8"),
        (saved(pixels=GOOD.astype(np.complex64)), "type complex64"),
        (saved(pixels=GOOD, names=np.array("x" * 300)), "type <U300, expected text"),
        (saved(pixels=GOOD, names=np.array([0xFFFFFFFF], "<u4").view("<U1")[0:1].reshape(())), "no characters"),
        (saved(pixels=GOOD, names=np.array([0x110000], ">u4").view(">U1").reshape(())), "no characters"),
        (saved(pixels=GOOD[0]), "expected 2 dimensions"),
        (zipped(("pixels.npy", b"")), "not a whole .npz"),
        (zipped(("pixels.npy", header("'<f4'", "(2, 2)"))), "0 bytes or more, its header says 16"),
        (zipped(("pixels.npy", header("'<f4'", "(2, 2)") + bytes(17))), "17 bytes or more, its header says 16"),
        (zipped(("pixels.npy", header("'<f4'", "(-1, 2)"))), "shape"),
        (zipped(("pixels.npy", header("'<f4'", "(10**3, 2)"))), "not a whole .npz"),
        (zipped(("pixels.npy", header("'<f4'", f"({10**15}, 2)"))), "expected at most"),
        (zipped(("pixels.npy", header("[('a', '<f4')]", "(2, 2)"))), "expected float32"),
        (zipped(("pixels.npy", header("('<f4', (2,))", "(2, 2)"))), "expected float32"),
        (zipped(("pixels.npy", header("'<f4'", "(2, 2)", (2, 0)) + bytes(16))), "unusual header"),
        (zipped(("pixels.npy", header("'|O'", "(2, 2)") + pickle.dumps(GOOD))), "type object"),
        (zipped(("pixels.npy", header("'<f4'", "(" * 300 + ")" * 300))), "not a whole .npz"),
        (zipped(("pixels.npy", header("'<f4'", "(2, 2)" + " " * 12_000))), "not a whole .npz"),
    ],
)
def test_anything_else_is_refused(content: bytes, message: str) -> None:
    """Each with one line that says what is wrong."""
    with pytest.raises(ExamplesError, match=message.replace("(", r"\(")) as caught:
        load(content, FIELDS)
    assert "\n" not in str(caught.value)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    """An array of objects whose unpickling would write a file."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "pwned",))

    out = io.BytesIO()
    np.savez(out, pixels=np.array([[Evil()]], dtype=object))
    with pytest.raises(ExamplesError, match="object"):
        load(out.getvalue(), FIELDS)
    assert not (tmp_path / "pwned").exists()
    np.load(io.BytesIO(out.getvalue()), allow_pickle=True)["pixels"]  # the file is armed
    assert (tmp_path / "pwned").exists()


def test_a_damaged_member_is_refused() -> None:
    """One flipped bit in the data fails its check sum."""
    content = bytearray(zipped(("pixels.npy", header("'<f4'", "(2, 2)") + bytes(16)), method=zipfile.ZIP_STORED))
    content[content.index(b"}", content.index(b"descr")) + 5] ^= 1
    with pytest.raises(ExamplesError, match="BadZipFile"):
        load(bytes(content), FIELDS)


@pytest.mark.parametrize("honest", [True, False])
def test_a_bomb_costs_no_memory(honest: bool) -> None:
    """128 MiB of zeros in an eighth of a megabyte, announced or hidden behind a small header: refused in a few MiB."""
    out = io.BytesIO()
    shape = f"({1 << 12}, {1 << 13})" if honest else "(2, 2)"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made, made.open("pixels.npy", "w") as member:
        member.write(header("'<f4'", shape))
        for _ in range(16):
            member.write(bytes(8 << 20))
    content = out.getvalue()
    assert len(content) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ExamplesError, match="more than 1,000,000 bytes"):
            load(content, FIELDS, max_bytes=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_directory_that_lies_about_its_sizes_is_refused() -> None:
    """The announced size is small, the member is not: no more than that is ever read."""
    content = bytearray(saved(pixels=np.zeros((1000, 1000), dtype=np.float32)))
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 100)
    with pytest.raises(ExamplesError):
        load(bytes(content), FIELDS, max_bytes=100)


def test_the_wide_form_of_the_directory_is_refused() -> None:
    """A second, 64-bit directory would be believed instead of the one that was checked."""
    content = saved(pixels=GOOD)
    end, body = content[-22:], content[:-22]
    locator = b"PK\x06\x07" + struct.pack("<LQL", 0, len(body), 1)
    size, offset = struct.unpack("<LL", end[12:20])
    forged = end[:12] + struct.pack("<LL", size + len(locator), offset) + end[20:]
    with pytest.raises(ExamplesError, match="directory"):
        load(body + locator + forged, FIELDS)


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing and too large ones, before their content is looked at."""
    with pytest.raises(ExamplesError, match="cannot be read"):
        read_file(tmp_path / "none.npz")
    with pytest.raises(ExamplesError, match="cannot be read"):
        read_file(tmp_path)
    path = tmp_path / "large.npz"
    path.write_bytes(bytes((1 << 20) + 1))
    monkeypatch.setattr(archive, "MAX_FILE", 1 << 20)
    with pytest.raises(ExamplesError, match="larger than 1 MiB"):
        read_file(path)


def test_errors_cross_process_borders() -> None:
    """With all reasons."""
    error = pickle.loads(pickle.dumps(ExamplesError("a", "b")))  # noqa: S301 - our own
    assert error.reasons == ("a", "b")
    assert str(error) == "examples: a; b"
