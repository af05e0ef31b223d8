"""Content-addressed files beside the store: the weights of added models."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from harness.digest import digest_file
from harness.errors import StoreError


class BlobStore:
    """Files named by their SHA-256 in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha: str) -> Path:
        """Where the blob with this SHA-256 lies."""
        return self.folder / f"{sha}.safetensors"

    def put(self, source: Path) -> str:
        """Copy a file in; returns its SHA-256. Atomic, and a no-op when the blob is there already."""
        sha = digest_file(source)
        target = self.path(sha)
        if target.exists():
            return sha
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as out, source.open("rb") as data:
                while part := data.read(1 << 20):
                    out.write(part)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        return sha

    def checked_path(self, sha: str) -> Path:
        """The path of a blob whose content is verified.

        Raises:
            StoreError: the blob is missing or its bytes changed.
        """
        target = self.path(sha)
        if not target.is_file():
            raise StoreError(f"weights blob {sha[:12]}... is missing from {self.folder}")
        if digest_file(target) != sha:
            raise StoreError(f"weights blob {target} was changed: its SHA-256 no longer is {sha[:12]}...")
        return target
