"""`robustboard datasets`: built-in data sets, public ones in the data folder, and declared image folders."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from harness.cli.options import DbOption, JsonOption
from harness.cli.output import emit_json, emit_table, say
from harness.settings import data_folder

if TYPE_CHECKING:
    from rich.progress import TaskID

    from harness.data import Dataset
    from harness.data.declared import Declaration
    from harness.spec import DataRef
    from harness.target import Layout, Target
    from harness.types import Json

app = typer.Typer(help="Data sets: built-in ones and image folders that you declare.", no_args_is_help=True)
_NAME = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)*")


@app.command("list")
def list_datasets(as_json: JsonOption = False, db: DbOption = None) -> None:
    """List the data sets that a run can use.

    Example:
        robustboard datasets list
    """
    from harness.data import DATASETS, PUBLIC, open_dataset
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
    own = {ref.name for ref, _ in declared}
    there = [name for name in PUBLIC if name not in own and PUBLIC.get(name).path.is_dir()]
    public = [row for name in there for row in _public_rows(name)]
    rows = [{**dataclasses.asdict(ref), "path": path} for ref, path in [*found, *declared]] + public
    if as_json:
        emit_json(rows)
    else:
        emit_table(
            ("data set", "split", "images", "classes", "digest", "path"),
            [
                (
                    row["name"],
                    row["split"],
                    str(row["images"]),
                    str(row["classes"]),
                    (row["digest"] or "")[:12],
                    row["path"] or "built in",
                )
                for row in rows
            ],
            right=(2, 3),
        )
    missing = [name for name in PUBLIC if name not in own and name not in there]
    if missing:
        say(f"known, but not in {data_folder().absolute()}: {', '.join(missing)}; see `robustboard datasets download`")


def _public_rows(name: str) -> list[Json]:
    """The splits of a public data set that are there; no digest, which would take reading every image."""
    from harness.data import PUBLIC, SPLITS
    from harness.errors import DataError

    entry = PUBLIC.get(name)
    rows: list[Json] = []
    problems = []
    for split in SPLITS:
        try:
            data = entry.open(split)
        except DataError as error:
            problems.append(str(error))
            continue
        counts = {"images": len(data), "classes": len(data.classes)}
        rows.append({"name": name, "split": split, "digest": None, **counts, "path": str(entry.path.absolute())})
    if not rows:
        say(f"{name}: {problems[-1]}")
    return rows


@app.command("download")
def download_dataset(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100 or svhn.")], as_json: JsonOption = False
) -> None:
    """Fetch a public data set into the data folder (ROBUSTBOARD_DATA), checked against its published MD5.

    Example:
        robustboard datasets download cifar10
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from harness.cli.output import console
    from harness.data import PUBLIC
    from harness.data.download import download

    entry = PUBLIC.get(name)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def progress(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file, total=total)
            bar.update(tasks[file], completed=done)

        fetched = download(entry, progress=progress)
    opened = [entry.open(split) for split in ("train", "test")]
    if as_json:
        emit_json(
            [{"name": name, "split": data.split, "images": len(data), "path": str(entry.path)} for data in opened]
        )
        return
    counts = ", ".join(f"{data.split} {len(data)}" for data in opened)
    say(f"{name} {'fetched into' if fetched else 'is there already:'} {entry.path.absolute()}, images: {counts}")


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
