"""The Typer application: one module per command group."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli import attack, benchmarks, board, corruptions, datasets, db, models, run, serve, study, train, verify

app = typer.Typer(
    name="robustboard",
    help=(
        "Robustness benchmark harness and leaderboard: how does a checkpoint hold up under everyday corruptions "
        "(average case) and white-box attacks (worst case), compared with the others?"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("quickstart")(run.quickstart)
app.command("run")(run.run)
app.command("leaderboard")(board.leaderboard)
app.command("compare")(board.compare)
app.command("show")(board.show)
app.command("train")(train.train)
app.command("serve")(serve.serve)
app.add_typer(models.app, name="models")
app.add_typer(datasets.app, name="datasets")
app.add_typer(benchmarks.app, name="benchmarks")
attack.app.command("verify")(verify.verify)
app.add_typer(attack.app, name="attack")
app.add_typer(corruptions.app, name="corruptions")
app.add_typer(study.app, name="study")
app.add_typer(db.app, name="db")


def _version(wanted: bool) -> None:
    if wanted:
        from harness import __version__

        typer.echo(f"robustboard {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""
