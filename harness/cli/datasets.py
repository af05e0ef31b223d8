"""`robustboard datasets`: built-in data sets and declared image folders."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import DbOption, JsonOption
from harness.cli.output import emit_json, emit_table, say

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
    path: Annotated[Path, typer.Option("--path", help="Folder with test/CLASS/* and, optionally, train/CLASS/*.")],
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Declare an image folder as a data set. Every image is read once; a bad one is named and nothing is stored.

    Example:
        robustboard datasets add photos --path ~/images/photos
    """
    from harness.cli.output import console
    from harness.data import DATASETS
    from harness.data.folder import check_folder
    from harness.errors import InvalidArgument
    from harness.spec import DataRef
    from harness.storage import open_store

    if not _NAME.fullmatch(name) or len(name) > 60:
        raise InvalidArgument("name", name, "up to 60 letters, digits and _, with - between")
    if name in DATASETS:
        raise InvalidArgument("name", name, "another name: this one is built in")
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading images", total=None)
        report = check_folder(path, progress=lambda done, total: bar.update(task, completed=done, total=total))
    store = open_store(db)
    try:
        for split in report.splits:
            ref = DataRef(
                name=name, split=split.split, digest=split.digest, images=split.images, classes=len(report.classes)
            )
            store.put_dataset(ref, report.path)
    finally:
        store.close()
    if as_json:
        emit_json(
            {
                "name": name,
                "path": str(report.path),
                "classes": list(report.classes),
                "splits": {split.split: {"images": split.images, "digest": split.digest} for split in report.splits},
            }
        )
        return
    counts = ", ".join(f"{split.split} {split.images}" for split in report.splits)
    say(f"declared {name}: {len(report.classes)} classes, images: {counts}")
