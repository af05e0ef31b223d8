"""NumPy archives (.npz) from strangers: every size is read and bounded before anything of that size is allocated.

Nothing is unpickled: arrays of Python objects are refused by their header. Only what `numpy.savez` and
`numpy.savez_compressed` write is taken, so that the parts of the ZIP format which hide other contents need not be
understood.
"""

from __future__ import annotations

import io
import math
import struct
import sys
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ExamplesError

MAX_FILE = 256 << 20
"""Bytes of an archive."""

MAX_BYTES = 1 << 30
"""Bytes of all its arrays together, uncompressed."""

MAX_MEMBERS = 16
_MAX_DIRECTORY = 64 << 10
_MAX_HEADER = 65_536 + 16
_MAX_TEXT = 1024

_END = struct.Struct("<4s4H2LH")
"""End of central directory: signature, two disk numbers, two counts of members, size, offset, length of a comment."""

_FAILURES = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    SyntaxError,
    OverflowError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
    Warning,
)


@dataclass(frozen=True, slots=True)
class Field:
    """An array that an archive may hold.

    Attributes:
        kinds: NumPy kind and bytes of an element ("f4", "u1", ...); "U" is text of up to 256 characters.
        dims: number of dimensions.
        required: whether it must be there.
    """

    kinds: tuple[str, ...]
    dims: int
    required: bool = False


def read_file(path: Path) -> bytes:
    """The bytes of an archive.

    Raises:
        ExamplesError: it cannot be read or is larger than 256 MiB.
    """
    try:
        with path.open("rb") as handle:
            content = handle.read(MAX_FILE + 1)
    except OSError as error:
        raise ExamplesError(f"file {str(path)!r} cannot be read ({error.strerror})") from None
    if len(content) > MAX_FILE:
        raise ExamplesError(f"file {str(path)!r} is larger than {MAX_FILE >> 20} MiB; split it into several")
    return content


def load(content: bytes, fields: Mapping[str, Field], *, max_bytes: int = MAX_BYTES) -> dict[str, NDArray[Any]]:
    """The arrays of an archive, by name.

    Args:
        content: the bytes of the file.
        fields: the arrays that it may hold.
        max_bytes: of all arrays together, uncompressed.

    Returns:
        Arrays in the machine's byte order, C order, read-only.

    Raises:
        ExamplesError: not such an archive, an array that is not in `fields` or not as they say, or a bound exceeded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _check_end(content)
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                return _arrays(archive, fields, max_bytes)
    except ExamplesError:
        raise
    except _FAILURES as error:
        kind = type(error).__name__
        raise ExamplesError(f"not a whole .npz archive of plain arrays ({kind}); write it with numpy.savez") from None


def _check_end(content: bytes) -> None:
    """Bound the directory before `zipfile` reads it: it trusts the numbers that stand there.

    Raises:
        ExamplesError: too many members, a comment, or the 64-bit form, which no file below 256 MiB needs.
    """
    if content[:4] != b"PK\x03\x04" or len(content) < _END.size:
        raise ExamplesError("not a .npz archive; write it with numpy.savez")
    mark, disk, first, here, members, size, offset, comment = _END.unpack(content[-_END.size :])
    whole = mark == b"PK\x05\x06" and (disk, first, comment) == (0, 0, 0) and here == members
    large = content[-_END.size - 20 :].startswith(b"PK\x06\x07")
    if not whole or large or offset + size != len(content) - _END.size:
        raise ExamplesError("not a plain .npz archive: its directory is damaged, or something is before or after it")
    if members > MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise ExamplesError(f"{members} arrays in the archive, at most {MAX_MEMBERS} are taken")


def _arrays(archive: zipfile.ZipFile, fields: Mapping[str, Field], max_bytes: int) -> dict[str, NDArray[Any]]:
    """Check all headers, then read."""
    expected = ", ".join(fields)
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name not in fields or name in found:
            raise ExamplesError(f"array {info.filename[:60]!r} is unknown or occurs twice; known: {expected}")
        if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ExamplesError(f"array {name!r} is encrypted or compressed in an unusual way; write with numpy.savez")
        found[name] = info
    for name, field in fields.items():
        if field.required and name not in found:
            raise ExamplesError(f"array {name!r} is missing; known: {expected}")
    if sum(info.file_size for info in found.values()) > max_bytes + MAX_MEMBERS * _MAX_HEADER:
        raise ExamplesError(f"more than {max_bytes:,} bytes of arrays, uncompressed")
    return {name: _array(archive, info, name, fields[name], max_bytes) for name, info in found.items()}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, field: Field, max_bytes: int) -> NDArray[Any]:
    """One array: header first, then exactly the bytes that it announces."""
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) != (1, 0):  # the other forms allow headers of 4 GiB
            raise ExamplesError(f"array {name!r} has an unusual header; write it with numpy.savez")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        kind = f"{dtype.kind}{dtype.itemsize}"
        text = dtype.kind == "U" and "U" in field.kinds and dtype.itemsize <= _MAX_TEXT
        if dtype.subdtype is not None or dtype.names is not None or not (text or kind in field.kinds):
            wanted = ", ".join("text" if item == "U" else np.dtype(item).name for item in field.kinds)
            raise ExamplesError(f"array {name!r} has type {str(dtype)[:40]}, expected {wanted}")
        if len(shape) != field.dims or min(shape, default=0) < 0:
            raise ExamplesError(f"array {name!r} has shape {str(shape)[:60]}, expected {field.dims} dimensions")
        size = math.prod(shape) * dtype.itemsize
        if size > max_bytes:
            raise ExamplesError(f"array {name!r} has {size:,} bytes, expected at most {max_bytes:,}")
        raw = member.read(size + 1)
    if len(raw) != size:
        raise ExamplesError(f"array {name!r} has {len(raw):,} bytes or more, its header says {size:,}")
    if text and raw and int(np.frombuffer(raw, dtype=f"{dtype.byteorder}u4").max()) > sys.maxunicode:
        raise ExamplesError(f"array {name!r} holds numbers that are no characters")
    flat = np.frombuffer(raw, dtype=dtype)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("=")).reshape(shape)
