"""Settings that come from the environment, each with its name, default and help; `docs/reference.md` lists them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One environment variable."""

    name: str
    default: str
    help: str

    def value(self) -> str:
        """The variable's value, or the default if it is unset or empty."""
        return os.environ.get(self.name) or self.default


DB = Setting(
    name="ROBUSTBOARD_DB",
    default="results.db",
    help="the store: a SQLite file or a database URL (postgresql+psycopg://...); --db overrides it",
)
DATA = Setting(
    name="ROBUSTBOARD_DATA",
    default="data",
    help="the folder that holds data sets which are files (images, downloads)",
)
SETTINGS: tuple[Setting, ...] = (DB, DATA)


def data_folder() -> Path:
    """The folder that holds data sets."""
    return Path(DATA.value())
