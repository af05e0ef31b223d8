"""`robustboard db`: the store itself."""

from __future__ import annotations

import typer

from harness.cli.options import DbOption
from harness.cli.output import emit, say

app = typer.Typer(help="The store: prepare, rebuild, check.", no_args_is_help=True)


@app.command("upgrade")
def upgrade(db: DbOption = None) -> None:
    """Make the store, or bring it to this version's schema.

    Example:
        robustboard db upgrade --db results.db
    """
    from harness.storage import open_store

    store = open_store(db)
    store.close()
    say(f"store {store.shown} is ready")


@app.command("rescore")
def rescore(db: DbOption = None) -> None:
    """Rebuild scores and ranks of the rows that boards have, from the stored outcomes. Nothing is evaluated.

    A model without a row on a board gets one by `robustboard run`, which computes only what is missing.

    Example:
        robustboard db rescore
    """
    from harness.maintenance import rescore_all
    from harness.storage import open_store

    store = open_store(db)
    try:
        boards, cells = rescore_all(store)
    finally:
        store.close()
    say(f"{cells} models' rows rebuilt on {boards} boards")


@app.command("check")
def check(db: DbOption = None) -> None:
    """Check the store: schema, integrity, outcomes that do not fit their evaluation, missing weights.

    Example:
        robustboard db check
    """
    from harness.maintenance import problems
    from harness.storage import open_store

    store = open_store(db, read_only=True)
    try:
        found = problems(store)
    finally:
        store.close()
    for line in found:
        emit(line)
    if found:
        raise typer.Exit(1)
    say(f"store {store.shown} is sound")
