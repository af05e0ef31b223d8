"""How the service is set up: values from the environment, or given to `create_app`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from harness.settings import DB, Setting

CORS: Final = Setting(
    name="ROBUSTBOARD_CORS",
    default="",
    help="origins that may read the API from a browser, separated by spaces (none by default)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Settings of one app.

    Args:
        db: the store, a SQLite file or a database URL; it is opened read-only.
        cors_origins: origins that browsers may call the API from; empty means no CORS headers at all.
    """

    db: str = field(default_factory=DB.value)
    cors_origins: tuple[str, ...] = field(default_factory=lambda: tuple(CORS.value().split()))
