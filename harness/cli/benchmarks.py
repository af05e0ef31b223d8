"""`robustboard benchmarks`: what can be run."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from harness.cli.options import JsonOption
from harness.cli.output import emit, emit_json, emit_table

app = typer.Typer(help="Benchmarks: named, versioned lists of evaluations.", no_args_is_help=True)


@app.command("list")
def list_benchmarks(as_json: JsonOption = False) -> None:
    """List all benchmarks.

    Example:
        robustboard benchmarks list
    """
    from harness.benchmarks import benchmark_names, load_benchmark

    found = [load_benchmark(f"{name}@{version}") for name, version in benchmark_names()]
    if as_json:
        emit_json(
            [
                {
                    "name": item.name,
                    "version": item.version,
                    "title": item.title,
                    "dataset": item.dataset,
                    "columns": [column.name for column in item.columns],
                    "ranked_by": item.ranked_by,
                }
                for item in found
            ]
        )
        return
    rows = [(item.label, item.dataset, item.title, ", ".join(column.name for column in item.columns)) for item in found]
    emit_table(("benchmark", "data set", "title", "columns"), rows)


@app.command("show")
def show_benchmark(
    benchmark: Annotated[str, typer.Argument(help="NAME (newest version) or NAME@VERSION.")],
    as_json: JsonOption = False,
) -> None:
    """Show a benchmark's evaluations and columns.

    Example:
        robustboard benchmarks show digits
    """
    from harness.benchmarks import load_benchmark

    item = load_benchmark(benchmark)
    if as_json:
        emit_json(dataclasses.asdict(item))
        return
    emit(f"{item.label}: {item.title}")
    emit(item.description)
    emit(f"data set {item.dataset}, {item.classes} classes, ranked by {item.ranked_by}, seed {item.seed}")
    emit_table(
        ("evaluation", "what", "images"),
        [
            (
                group.id,
                group.kind
                + {
                    "corruptions": f": {group.suite}, {len(group.corruptions)} x {len(group.severities)}",
                    "attack": f": {group.attack} {group.norm} {group.eps}",
                    "measure": f": {group.measure}",
                    "checks": f": {group.norm} {group.eps}",
                }.get(group.kind, ""),
                str(group.images),
            )
            for group in item.groups
        ],
        right=(2,),
    )
    emit_table(
        ("column", "score", "from", "meaning"),
        [(column.name, column.score, ", ".join(column.evaluations), column.help) for column in item.columns],
    )
