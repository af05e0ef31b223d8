"""The folders that a training run writes to: refused before the run where they can be, and never with a traceback."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import InvalidArgument


@contextmanager
def writing(argument: str, folder: Path) -> Iterator[None]:
    """Give the system's refusal to write inside the `with` block as an error of the request.

    Args:
        argument: that named the folder, for the message.
        folder: that is written to.

    Raises:
        InvalidArgument: the folder cannot be made or written to, or its disk is full.
    """
    try:
        yield
    except OSError as error:
        expected = f"a folder that can be written to ({error.strerror or type(error).__name__})"
        raise InvalidArgument(argument, str(folder), expected) from None


def make_ready(argument: str, folder: Path) -> None:
    """Make a folder where there is none, and try that it takes a file; arguments and errors as in `writing`."""
    with writing(argument, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
