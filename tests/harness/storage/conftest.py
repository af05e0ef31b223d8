"""Databases for the store's tests: SQLite always, PostgreSQL where its programs and psycopg are installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _program(name: str) -> str | None:
    found = shutil.which(name)
    if found is None:
        candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        found = str(candidates[-1]) if candidates else None
    return found


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of its own on a local socket; its URL without a database name."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl, or psycopg, are not installed")
    user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="robustboard-pg-"))
    if os.geteuid() == 0:  # the server refuses to run as root
        if shutil.which("runuser") is None:
            pytest.skip("runuser is not installed, and PostgreSQL refuses to run as root")
        user = ["runuser", "-u", "nobody", "--"]
        shutil.chown(folder, "nobody")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    options = f"-p {port} -k {folder} -c listen_addresses='' -c fsync=off"
    start = [pg_ctl, "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start"]
    try:
        subprocess.run([*user, initdb, "-D", str(data), "-U", "board", "-A", "trust"], check=True, capture_output=True)
        subprocess.run([*user, *start], check=True, capture_output=True)
        yield f"postgresql+psycopg://board@/{{name}}?host={folder}&port={port}"
    finally:
        subprocess.run([*user, pg_ctl, "-D", str(data), "-m", "immediate", "stop"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store: a SQLite file name, or the URL of a fresh PostgreSQL database."""
    if request.param == "sqlite":
        return str(tmp_path / "results.db")
    import psycopg

    monkeypatch.chdir(tmp_path)  # blobs of a store without a file lie in the working folder
    template: str = request.getfixturevalue("postgres")
    name = f"t{abs(hash(request.node.name)) % 10**12}"
    with psycopg.connect(template.replace("+psycopg", "").format(name="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return template.format(name=name)
