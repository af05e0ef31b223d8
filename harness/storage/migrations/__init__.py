"""Alembic migrations of the store, run in-process by `upgrade`."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import Engine


def upgrade(engine: Engine) -> None:
    """Bring the store to this version's schema; does nothing when it is there already."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
