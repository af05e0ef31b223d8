"""`robustboard study`: published claims, tested again on bundled models."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DbOption, JsonOption, WorkersOption
from harness.cli.output import emit, emit_json, emit_table, say
from harness.errors import InvalidArgument, RequestError

app = typer.Typer(help="Published claims, tested again: list, run, report.", no_args_is_help=True)
StudyArgument = Annotated[str, typer.Argument(help="Name of the study.")]
DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Another data set than the study's own.")]


@app.command("list")
def list_studies(as_json: JsonOption = False) -> None:
    """List the studies with their benchmark and the bundled models that take part.

    Example:
        robustboard study list
    """
    from models_zoo.studies import STUDIES

    studies = [STUDIES.get(name) for name in STUDIES]
    if as_json:
        emit_json(
            [
                {
                    "name": study.name,
                    "title": study.title,
                    "description": study.description,
                    "citation": study.citation,
                    "benchmark": study.benchmark,
                    "dataset": study.dataset,
                    "models": list(study.models()),
                }
                for study in studies
            ]
        )
        return
    rows = [(item.name, item.title, item.benchmark, item.dataset, str(len(item.models()))) for item in studies]
    emit_table(("study", "title", "benchmark", "data set", "bundled models"), rows, right=(4,))


@app.command("run")
def run_study(
    study: StudyArgument,
    models: Annotated[
        list[str] | None,
        typer.Option("--models", "-m", help="Models: names, or patterns (quote them) [the study's bundled ones]."),
    ] = None,
    dataset: DatasetOption = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N images; rows stay unranked.")] = None,
    workers: WorkersOption = None,
    db: DbOption = None,
) -> None:
    """Evaluate a study's models: computes what the store lacks; goes on where it was stopped.

    Examples:
        robustboard study run selectivity --workers 2

        robustboard study run selectivity --dataset cifar10-jpeg
    """
    from harness.benchmarks import load_benchmark
    from harness.cli.run import execute, existing, make_crew, make_job
    from harness.storage import open_store
    from models_zoo.studies import STUDIES

    chosen = STUDIES.get(study)
    names = list(models or chosen.models(dataset))
    if not names:
        raise RequestError(f"models: none is bundled for {dataset}; name some with --models")
    with existing(db) as reader:
        job = make_job(reader, load_benchmark(chosen.benchmark), names, dataset=dataset, limit=limit)
        crew = make_crew(workers)
    with contextlib.closing(open_store(db)) as store:
        report = execute(store, job, *crew)
    say(f"{report.computed} verdicts computed in {report.seconds:.1f} s; now: robustboard study report {study}")
    if report.failures:
        say(f"{len(report.failures)} pieces failed; `robustboard show MODEL` has the errors, a new run tries again")
        raise typer.Exit(1)


@app.command("report")
def report_study(
    study: StudyArgument,
    out: Annotated[Path | None, typer.Option("--out", help="Write it to FILE.md [standard output].")] = None,
    plots: Annotated[bool, typer.Option("--plots", help="Also write pictures beside it, FILE-*.svg.")] = False,
    dataset: DatasetOption = None,
    db: DbOption = None,
) -> None:
    """Write what a store says about a study's claims, as Markdown.

    Example:
        robustboard study report selectivity --out selectivity-digits.md --plots
    """
    from harness.storage import open_store
    from models_zoo.studies import STUDIES

    chosen = STUDIES.get(study)
    if out is not None and (out.suffix.lower() != ".md" or out.is_dir() or not out.parent.is_dir()):
        raise InvalidArgument("out", str(out), "a file name that ends in .md, in a folder that exists")
    if plots and out is None:
        raise InvalidArgument("plots", True, "used with --out FILE.md, beside which the pictures go")
    with contextlib.closing(open_store(db, read_only=True)) as store:
        found = chosen.write(store, dataset or chosen.dataset, out.stem if plots and out is not None else None)
    if out is None:
        emit(found.markdown.rstrip("\n"))
        return
    texts = {out: found.markdown} | {out.parent / name: f"{svg}\n" for name, svg in found.pictures.items()}
    for path, text in texts.items():
        try:
            path.write_text(text, "utf-8")
        except OSError as error:
            raise InvalidArgument("out", str(path), f"a file that can be written ({error.strerror})") from error
        say(f"wrote {path}")
