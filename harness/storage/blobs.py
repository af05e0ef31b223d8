"""Content-addressed files beside the store: weights of added models, and adversarial images."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.digest import digest_file
from harness.errors import StoreError

WEIGHTS = ".safetensors"
EXAMPLES = ".npz"


class BlobStore:
    """Files named by their SHA-256 in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha: str, suffix: str = WEIGHTS) -> Path:
        """Where the blob with this SHA-256 lies."""
        return self.folder / f"{sha}{suffix}"

    def put(self, source: Path) -> str:
        """Copy a weights file in; returns its SHA-256. Atomic, and a no-op when the blob is there already."""
        sha = digest_file(source)
        target = self.path(sha)
        if not target.exists():
            with source.open("rb") as data:
                self._write(target, iter(lambda: data.read(1 << 20), b""))
        return sha

    def put_bytes(self, content: bytes, suffix: str = EXAMPLES) -> str:
        """Write a file of these bytes; returns its SHA-256. Atomic, and a no-op when the blob is there already."""
        sha = hashlib.sha256(content).hexdigest()
        target = self.path(sha, suffix)
        if not target.exists():
            self._write(target, [content])
        return sha

    def checked_path(self, sha: str, suffix: str = WEIGHTS) -> Path:
        """The path of a blob whose content is verified.

        Raises:
            StoreError: the blob is missing or its bytes changed.
        """
        target = self.path(sha, suffix)
        what = "weights" if suffix == WEIGHTS else "examples"
        if not target.is_file():
            raise StoreError(f"{what} blob {sha[:12]}... is missing from {self.folder}")
        if digest_file(target) != sha:
            raise StoreError(f"{what} blob {target} was changed: its SHA-256 no longer is {sha[:12]}...")
        return target

    def discard(self, sha: str, suffix: str = EXAMPLES) -> None:
        """Delete a blob that nothing refers to any more."""
        self.path(sha, suffix).unlink(missing_ok=True)

    def _write(self, target: Path, parts: Iterable[bytes]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                for part in parts:
                    out.write(part)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
