"""Content digests: SHA-256 of canonical JSON and of arrays."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def canonical(value: Any) -> Any:
    """Coerce plain data to the one form that is hashed.

    Integral floats become integers (so 1 and 1.0, 0.0 and -0.0 agree), tuples become lists, keys are strings.

    Raises:
        TypeError: for anything but str, int, float, bool, None, mappings and sequences of them.
        ValueError: for NaN and infinities.
    """
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} has no canonical form: use a finite number")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("mapping keys must be strings")
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no canonical form")


def canonical_json(value: Any) -> str:
    """Canonical JSON text: sorted keys, no spaces, no NaN, ASCII only."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def digest(value: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()


def digest_arrays(arrays: Mapping[str, np.ndarray[Any, Any]], header: Any = None) -> str:
    """SHA-256 over named arrays: for each in order of name its name, dtype, shape and little-endian bytes.

    Args:
        arrays: name -> array of any numeric dtype.
        header: plain data hashed first.
    """
    import numpy as np

    sha = hashlib.sha256(canonical_json(header).encode("ascii"))
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        sha.update(canonical_json([name, little.dtype.str, list(array.shape)]).encode("ascii"))
        sha.update(little.tobytes())
    return sha.hexdigest()


def digest_file(path: Any, *, chunk: int = 1 << 20) -> str:
    """SHA-256 of a file's bytes, read in chunks."""
    from pathlib import Path

    sha = hashlib.sha256()
    with Path(path).open("rb") as handle:
        while part := handle.read(chunk):
            sha.update(part)
    return sha.hexdigest()
