"""Fetch a public data set into the data folder: checked against its published MD5, there in full or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlsplit

from harness.data.public import PublicSet, Remote
from harness.errors import DataError, WorkError

Progress = Callable[[str, int, int | None], None]
"""(file, bytes so far, bytes in all or None)."""
CHUNK = 1 << 20
TIMEOUT = 60.0
"""Seconds without an answer."""


def download(entry: PublicSet, *, progress: Progress | None = None) -> bool:
    """Fetch a data set, unless its folder is there.

    Args:
        entry: what to fetch.
        progress: told from time to time.

    Returns:
        Whether the folder is there through this call: not where it was there, or where another download was first.

    Raises:
        DataError: this set is left to the user, or the data folder cannot be written (a full disk, say).
        WorkError: the network failed, or a file is not the published one; nothing is left behind.
    """
    if entry.path.exists():
        return False
    if not entry.remotes:
        raise DataError(f"data set {entry.name!r} cannot be downloaded; {entry.way}. Source: {entry.source}")
    root = entry.path.parent
    try:
        root.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=root, prefix=f".{entry.folder}."))
    except OSError as error:
        raise DataError(f"data folder {str(root)!r}: cannot be written ({error.strerror})") from None
    try:
        for remote in entry.remotes:
            file = part / PurePosixPath(urlsplit(remote.url).path).name
            fetch(remote, file, progress=progress)
            if remote.members:
                unpack(file, remote, entry.folder, part)
                file.unlink()
        return _settle(part, entry.path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _settle(part: Path, path: Path) -> bool:
    """Give a finished folder its name; False, and the folder gone, where another download has come first.

    Raises:
        DataError: the data folder does not let it.
    """
    try:
        part.chmod(0o755)
        part.rename(path)
    except OSError as error:
        if not path.is_dir():
            raise DataError(f"data folder {str(path.parent)!r}: cannot be written ({error.strerror})") from None
        shutil.rmtree(part, ignore_errors=True)
        return False
    return True


def fetch(remote: Remote, path: Path, *, progress: Progress | None = None) -> None:
    """Download one file and compare its MD5.

    Raises:
        WorkError: the network failed, the file is larger than it may be, or its MD5 is another one.
    """
    md5 = hashlib.md5(usedforsecurity=False)  # what the authors publish; it tells damage from the file
    done = 0
    try:
        with urllib.request.build_opener().open(remote.url, timeout=TIMEOUT) as answer, path.open("wb") as file:
            length = answer.headers.get("Content-Length") or ""
            total = int(length) if length.isdecimal() else None
            while part := answer.read(CHUNK):
                done += len(part)
                if done > remote.limit:
                    raise WorkError(f"{remote.url}: more than {remote.limit} bytes, expected the published file")
                md5.update(part)
                file.write(part)
                if progress is not None:
                    progress(path.name, done, total)
    except (OSError, http.client.HTTPException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise WorkError(f"{remote.url}: cannot be downloaded ({reason})") from None
    if md5.hexdigest() != remote.md5:
        raise WorkError(f"{remote.url}: MD5 {md5.hexdigest()} after {done} bytes, expected {remote.md5}")


def unpack(archive: Path, remote: Remote, folder: str, target: Path) -> None:
    """Copy the wanted files of a .tar.gz, and nothing else, into `target`.

    Raises:
        DataError: a file cannot be written.
        WorkError: a file is missing, larger than it may be or no regular file, or the archive is damaged.
    """
    wanted = {f"{folder}/{name}": name for name in remote.members}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = wanted.get(member.name)
                if name is None:
                    continue
                source = tar.extractfile(member) if member.isreg() else None
                if source is None or member.size > remote.member_limit:
                    raise WorkError(f"{archive.name}: {member.name} is no regular file of the published size")
                _write(target / name, _pieces(source, archive.name))
                del wanted[member.name]
    except _DAMAGE as error:
        raise _damaged(archive.name, error) from None
    if wanted:
        raise WorkError(f"{archive.name}: {min(wanted)} is missing")


_DAMAGE = (tarfile.TarError, OSError, EOFError, zlib.error)


def _damaged(archive: str, error: Exception) -> WorkError:
    return WorkError(f"{archive}: damaged archive ({type(error).__name__})")


def _pieces(source: IO[bytes], archive: str) -> Iterator[bytes]:
    """The content of a member; what goes wrong here is the archive's fault, not the disk's.

    Raises:
        WorkError: the archive is damaged.
    """
    try:
        while part := source.read(CHUNK):
            yield part
    except _DAMAGE as error:
        raise _damaged(archive, error) from None


def _write(path: Path, parts: Iterator[bytes]) -> None:
    """Write a file piece by piece.

    Raises:
        DataError: the disk does not take it.
    """
    try:
        with path.open("wb") as file:
            for part in parts:
                file.write(part)
    except OSError as error:
        raise DataError(f"{path.name}: cannot be written in {str(path.parent)!r} ({error.strerror})") from None
