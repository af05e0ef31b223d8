"""Databases for the store's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def db(tmp_path: Path) -> str:
    """An empty SQLite store's file name."""
    return str(tmp_path / "results.db")
