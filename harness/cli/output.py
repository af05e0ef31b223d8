"""What commands print: results on standard output, everything about the work on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from harness.types import Json


def fail(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")


def say(message: str) -> None:
    """One line about the work, on standard error."""
    sys.stderr.write(message + "\n")


def emit(text: str) -> None:
    """A result, on standard output, ending in one newline."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def emit_json(value: Json) -> None:
    """A result for machines."""
    emit(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def console(*, stderr: bool = False) -> Console:
    """A Rich console that shows text as it is: no markup, no emoji, no highlighting in strangers' names."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def emit_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """A table for people.

    Args:
        header: column titles.
        rows: cells as text.
        right: positions of the columns that are aligned to the right.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    aligned = set(right)
    for position, title in enumerate(header):
        table.add_column(Text(title), justify="right" if position in aligned else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    out = console()
    if not out.is_terminal:  # piped: keep whole lines, whatever the width of a terminal would be
        out.width = 10_000
    out.print(table)


def _printable(text: str) -> str:
    """Control characters replaced: a stored text must not drive the terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
