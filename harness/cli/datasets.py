"""`robustboard datasets`: built-in data sets and declared image folders."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from harness.cli.options import DbOption, JsonOption
from harness.cli.output import emit_json, emit_table, say

if TYPE_CHECKING:
    from harness.data import Dataset
    from harness.data.declared import Declaration
    from harness.spec import DataRef
    from harness.target import Layout, Target

app = typer.Typer(help="Data sets: built-in ones and image folders that you declare.", no_args_is_help=True)
_NAME = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")


@app.command("list")
def list_datasets(as_json: JsonOption = False, db: DbOption = None) -> None:
    """List the data sets that a run can use.

    Example:
        robustboard datasets list
    """
    from harness.data import DATASETS, open_dataset
    from harness.errors import StoreNotReady
    from harness.storage import open_store

    found = [(open_dataset(name, split).ref(), None) for name in DATASETS.names() for split in ("train", "test")]
    try:
        store = open_store(db, read_only=True)
    except StoreNotReady:
        declared = []
    else:
        declared = [(item.ref, item.path) for item in store.datasets() if item.path is not None]
        store.close()
    rows = [*found, *declared]
    if as_json:
        emit_json([{**dataclasses.asdict(ref), "path": path} for ref, path in rows])
        return
    emit_table(
        ("data set", "split", "images", "classes", "digest", "path"),
        [
            (ref.name, ref.split, str(ref.images), str(ref.classes), ref.digest[:12], path or "built in")
            for ref, path in rows
        ],
        right=(2, 3),
    )


@app.command("add")
def add_dataset(
    name: Annotated[str, typer.Argument(help="Name: letters, digits, _ and -.")],
    path: Annotated[Path, typer.Option("--path", help="The folder.")],
    layout: Annotated[
        str, typer.Option("--layout", help="How the files lie: folder, cifar-c, imagenet-c or shift; see below.")
    ] = "folder",
    of: Annotated[
        str, typer.Option("--of", help="For all layouts but folder: the data set with the clean images and classes.")
    ] = "",
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Declare a data set. Every image is read once; a bad one is named and nothing is stored.

    Layouts: folder is test/CLASS/* and, optionally, train/CLASS/*; cifar-c is CORRUPTION.npy and labels.npy as
    published; imagenet-c is CORRUPTION/SEVERITY/CLASS/*; shift is CLASS/* with a subset of the base's classes.

    Examples:
        robustboard datasets add photos --path ~/images/photos

        robustboard datasets add photos-c --layout cifar-c --of photos --path ~/images/CIFAR-10-C
    """
    from harness.cli.run import existing
    from harness.data import DATASETS, open_dataset
    from harness.data.declared import Declaration
    from harness.errors import InvalidArgument
    from harness.storage import open_store
    from harness.target import LAYOUTS

    if not _NAME.fullmatch(name) or len(name) > 60:
        raise InvalidArgument("name", name, "up to 60 letters, digits and _, with - between")
    if name in DATASETS:
        raise InvalidArgument("name", name, "another name: this one is built in")
    if layout not in LAYOUTS:
        raise InvalidArgument("layout", layout, f"one of {', '.join(LAYOUTS)}")
    declaration = Declaration(name=name, layout=cast("Layout", layout), path=path.expanduser().absolute(), of=of)
    base = None
    if of:
        with existing(db) as reader:
            base = open_dataset(of, "test", folders={} if reader is None else reader.declarations())
    found = _read(declaration, base)
    with contextlib.closing(open_store(db)) as store:
        store.declare(declaration, found)
    if as_json:
        emit_json([{**dataclasses.asdict(ref), "path": str(declaration.path)} for ref, _ in found])
        return
    counts = ", ".join(f"{ref.split} {ref.images}" for ref, _ in found)
    cells = f", {len(found[0][1].cells)} cells of {found[0][1].source}" if found[0][1] is not None else ""
    say(f"declared {name}: {found[0][0].classes} classes, images: {counts}{cells}")


def _read(declaration: Declaration, base: Dataset | None) -> list[tuple[DataRef, Target | None]]:
    """Every file of a declared data set, read once with progress: its splits, and the target of corrupted files."""
    from rich.progress import Progress

    from harness.cli.output import console
    from harness.data.declared import file_target, open_declared
    from harness.data.folder import check_folder
    from harness.spec import DataRef

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if declaration.layout == "folder":
            report = check_folder(declaration.path, progress=progress)
            classes = len(report.classes)
            return [
                (
                    DataRef(
                        name=declaration.name,
                        split=split.split,
                        digest=split.digest,
                        images=split.images,
                        classes=classes,
                    ),
                    None,
                )
                for split in report.splits
            ]
        if declaration.layout == "shift" or base is None:
            data = open_declared(declaration, "test", base)
            for start in range(0, len(data), 500):
                data.images(start, min(start + 500, len(data)))
                progress(start, len(data))
            return [(data.ref(), None)]
        target = file_target(declaration, base, progress=progress)
        return [(target.data, target)]
