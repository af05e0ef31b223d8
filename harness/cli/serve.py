"""`robustboard serve`: the HTTP service."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from harness.cli.options import DbOption
from harness.cli.output import say


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.", show_default=True)] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.", show_default=True)] = 8000,
    db: DbOption = None,
) -> None:
    """Serve the board as pages and as an API. The store is opened read-only.

    Example:
        robustboard serve --db results.db --port 8000
    """
    import uvicorn

    from harness.settings import DB

    if db is not None:
        os.environ[DB.name] = db
    say(f"serving on http://{host}:{port}/ (Ctrl-C stops it)")
    uvicorn.run("api.app:create_app", factory=True, host=host, port=port, log_level="warning")
