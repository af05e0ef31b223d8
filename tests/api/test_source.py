"""The service over a real store: missing, empty, replaced; always read-only."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from api.app import create_app
from api.settings import ApiSettings
from api.source import StoreSource
from harness.benchmarks import benchmark_names
from harness.errors import StoreNotReady
from harness.formats import to_csv, to_json
from harness.leaderboard import BoardQuery, load_board
from harness.storage import open_store
from tests.api.client import Client


def make_store(path: Path) -> Path:
    """An empty store of this version, without a write-ahead file beside it."""
    open_store(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def test_the_service_waits_for_a_store(tmp_path: Path) -> None:
    """Started before the first run, it answers 503 and makes no file; once there is a store, it serves it."""
    path = tmp_path / "results.db"
    client = Client(create_app(ApiSettings(db=str(path))))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "robustboard db upgrade" in answer.json()["error"]["message"]
    assert client.get("/").status_code == 503
    assert not path.exists()
    make_store(path)
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/").status_code == 200


def test_http_and_command_line_share_the_text(tmp_path: Path) -> None:
    """JSON and CSV over HTTP are byte for byte what the command line prints of the same query."""
    path = make_store(tmp_path / "results.db")
    client = Client(create_app(ApiSettings(db=str(path))))
    store = open_store(str(path), read_only=True)
    board = load_board(store, BoardQuery(benchmark="digits@2", limit=1000))
    store.close()
    assert client.get("/api/v1/leaderboard?benchmark=digits@2").text == to_json(board)
    assert client.get("/api/v1/leaderboard.csv?benchmark=digits@2").text == to_csv(board)


def test_every_benchmark_has_a_page(tmp_path: Path) -> None:
    """All installed benchmarks are listed, and each one's page says how to fill it."""
    client = Client(create_app(ApiSettings(db=str(make_store(tmp_path / "results.db")))))
    listed = client.get("/api/v1/benchmarks").json()["benchmarks"]
    assert {(item["name"], item["version"]) for item in listed} == set(benchmark_names())
    for item in listed:
        page = client.get(f"/?benchmark={item['name']}@{item['version']}")
        assert f"robustboard run --benchmark {item['name']}" in page.text


def test_a_replaced_file_is_opened_anew(tmp_path: Path) -> None:
    """A snapshot that takes the store's place is served at once; a vanished store is not ready."""
    path = make_store(tmp_path / "results.db")
    source = StoreSource(str(path))
    assert source.list_models() == ()
    fresh = make_store(tmp_path / "fresh.db")
    with sqlite3.connect(fresh) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'unheard-of'")
    connection.close()
    fresh.replace(path)
    answer = Client(create_app(source=source)).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["error"]["type"] == "StoreTooNew"
    path.unlink()
    assert Client(create_app(source=source)).get("/readyz").json()["error"]["type"] == "StoreMissing"


def test_the_store_is_opened_without_the_right_to_write(tmp_path: Path) -> None:
    """A write through the service's own connection is refused by the database."""
    source = StoreSource(str(make_store(tmp_path / "results.db")))
    with source._store().engine.connect() as connection, pytest.raises(StoreNotReady, match="readonly"):
        connection.exec_driver_sql("DELETE FROM model")


def test_serving_a_store_imports_no_torch(tmp_path: Path) -> None:
    """Every kind of answer from a real store, and torch, pandas and the zoo stay out of the process."""
    program = """
import asyncio, sys
import httpx
from api.app import create_app
from api.settings import ApiSettings

async def main():
    transport = httpx.ASGITransport(app=create_app(ApiSettings(db=sys.argv[1])))
    async with httpx.AsyncClient(transport=transport, base_url="http://board.test") as client:
        for path in ("/", "/api/v1/leaderboard.tex?benchmark=digits", "/api/v1/models", "/readyz", "/models/none",
                     "/api/v1/models/none/corruptions.svg"):
            answer = await client.get(path)
            print(path, answer.status_code)

asyncio.run(main())
print("heavy:", sorted({"torch", "torchvision", "pandas", "sklearn", "models_zoo"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(make_store(tmp_path / "results.db"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "/ 200",
        "/api/v1/leaderboard.tex?benchmark=digits 200",
        "/api/v1/models 200",
        "/readyz 200",
        "/models/none 404",
        "/api/v1/models/none/corruptions.svg 404",
        "heavy: []",
    ]
