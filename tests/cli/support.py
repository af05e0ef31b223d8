"""Looks at answers of the command line and at stores."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.cli.plugin import Answer


def refused(answer: Answer, *parts: str) -> None:
    """Exit code 2, one line on standard error that has all parts, nothing on standard output."""
    assert answer.code == 2, answer
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def dump(path: Path) -> list[str]:
    """Everything in a store."""
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()
