"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

DbOption = Annotated[
    str | None,
    typer.Option("--db", help="The store: a SQLite file or a database URL [ROBUSTBOARD_DB, else results.db]."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", help="Processes, each of one thread; results do not depend on it [all processors]."),
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", help="Images in a batch; results do not depend on it.", show_default=True)
]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.", show_default=True)]
