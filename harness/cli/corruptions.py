"""`robustboard corruptions`: look at corruptions, write suites as files, hold them against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from harness.cli.options import DbOption, JsonOption
from harness.cli.output import emit, emit_json, emit_table, say

if TYPE_CHECKING:
    from harness.corruptions.export import Layout

app = typer.Typer(help="Corruptions: list, preview and export suites.", no_args_is_help=True)

SuiteOption = Annotated[
    str, typer.Option("--suite", help="Parameter set; NAME@any applies it to sizes that it is not meant for.")
]
NamesOption = Annotated[
    list[str] | None, typer.Option("--corruption", "-c", help="Only this corruption; repeat for more [all].")
]


@app.command("list")
def list_suites(as_json: JsonOption = False) -> None:
    """List suites and their corruptions.

    Example:
        robustboard corruptions list
    """
    from harness.corruptions.suites import SUITES

    suites = [SUITES.get(name) for name in SUITES.names()]
    if as_json:
        emit_json(
            [
                {
                    "name": suite.name,
                    "purpose": suite.purpose,
                    "image_size": suite.image_size,
                    "benchmark": list(suite.benchmark),
                    "extra": list(suite.extra),
                    "baseline": suite.baselines is not None,
                }
                for suite in suites
            ]
        )
        return
    rows = [
        (
            suite.name,
            "any" if suite.image_size is None else f"{suite.image_size}x{suite.image_size}",
            "yes" if suite.baselines is not None else "no",
            suite.purpose,
        )
        for suite in suites
    ]
    emit_table(("suite", "images", "mCE", "what it is"), rows)
    emit("corruptions: " + ", ".join(suites[0].benchmark))
    emit("extra (in no mean): " + ", ".join(suites[0].extra))


@app.command("preview")
def preview(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")] = Path("preview.png"),
    suite: SuiteOption = "imagecorruptions",
    names: NamesOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 0,
) -> None:
    """Draw a labelled contact sheet of an image: corruptions x severities.

    Examples:
        robustboard corruptions preview cat.jpg --out sheet.png

        robustboard corruptions preview cat32.png --suite cifar-10-c -c fog -c frost
    """
    import numpy as np

    from harness.corruptions.sheet import contact_sheet
    from harness.data.image_file import decode, image_size, read_bytes
    from harness.errors import RequestError

    content = read_bytes(image)
    pixels = decode(content, image, size=image_size(content, image))
    sheet = contact_sheet(np.asarray(pixels), suite=suite, names=names, seed=seed)
    try:
        sheet.save(out, format="PNG")
    except OSError as error:
        raise RequestError(f"out: {out} cannot be written ({error.strerror})") from None
    say(f"wrote {out}, {sheet.width}x{sheet.height} pixels")


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write; an empty folder, or this export begun earlier.")],
    dataset: Annotated[str, typer.Option("--dataset", help="The clean images.")] = "digits",
    suite: SuiteOption = "cifar-10-c",
    layout: Annotated[str, typer.Option("--layout", help="npy (CIFAR-10-C's) or folder (ImageNet-C's, JPEG).")] = "npy",
    names: NamesOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first N images.")] = None,
    db: DbOption = None,
) -> None:
    """Write a corrupted copy of a data set in a published file layout. Resumable: the same command goes on.

    Example:
        robustboard corruptions export digits-c --dataset digits --suite cifar-10-c
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.cli.output import console
    from harness.cli.run import existing
    from harness.corruptions.export import export as write
    from harness.data import open_dataset

    with existing(db) as reader:
        source = open_dataset(dataset, "test", folders={} if reader is None else reader.declarations())
    columns = TextColumn("{task.percentage:>3.0f} %"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("export", total=None)
        write(
            source,
            folder,
            suite=suite,
            layout=cast("Layout", layout),
            names=names,
            seed=seed,
            limit=limit,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    say(f"wrote {folder}")
