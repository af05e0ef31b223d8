"""`robustboard models`: the registry."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DbOption, DeviceOption, JsonOption
from harness.cli.output import emit, emit_json, emit_table, say

if TYPE_CHECKING:
    from harness.data import Dataset
    from harness.storage.records import StoredModel
    from harness.types import Json
    from models_zoo.model import ZooModel
    from models_zoo.preflight import Finding, Report

app = typer.Typer(help="The registry of models: bundled ones and those you add.", no_args_is_help=True)


@app.command("list")
def list_models(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, such as 'small_cnn.*' (quote it).")] = "*",
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """List bundled models and the store's.

    Example:
        robustboard models list '*.digits.*'
    """
    import fnmatch

    cards = [item for item in _all_cards(db) if fnmatch.fnmatchcase(item["name"], pattern)]
    if as_json:
        emit_json(cards)
        return
    rows = [
        (
            card["name"],
            card["family"],
            card["architecture"],
            card["dataset"],
            f"{card['parameters']:,}",
            card["origin"],
        )
        for card in cards
    ]
    emit_table(("model", "family", "architecture", "data set", "parameters", "origin"), rows, right=(4,))


@app.command("show")
def show_model(
    name: Annotated[str, typer.Argument(help="A model's name.")], as_json: JsonOption = False, db: DbOption = None
) -> None:
    """Show a model's card.

    Example:
        robustboard models show small_cnn.supervised.digits.s0
    """
    from harness.errors import UnknownName

    cards = {card["name"]: card for card in _all_cards(db)}
    if name not in cards:
        raise UnknownName("model", name, cards)
    card = cards[name]
    if as_json:
        emit_json(card)
        return
    for key, value in card.items():
        if isinstance(value, dict):
            emit(f"{key}:")
            for inner, item in value.items():
                emit(f"  {inner}: {item}")
        else:
            emit(f"{key}: {value}")


@app.command("add")
def add_model(
    name: Annotated[
        str, typer.Argument(help="architecture.recipe[-variant].dataset[.sN], for example resnet18.public.photos")
    ],
    arch: Annotated[str, typer.Option("--arch", help="Architecture; `robustboard models architectures` lists them.")],
    weights: Annotated[
        Path, typer.Option("--weights", help="Weights: .safetensors, .pt, .pth or .th (never unpickled).")
    ],
    dataset: Annotated[
        str, typer.Option("--dataset", help="The data set whose classes it tells apart, in that order.")
    ],
    family: Annotated[str, typer.Option("--family", help="Group on the board.")] = "added",
    mean: Annotated[
        str,
        typer.Option("--mean", help="Subtracted from images in [0, 1]: R,G,B. 0,0,0 for a model that takes [0, 1]."),
    ] = "0,0,0",
    std: Annotated[str, typer.Option("--std", help="Divided by, after the mean: R,G,B.")] = "1,1,1",
    licence: Annotated[str, typer.Option("--licence", help="Licence of the weights.")] = "unknown",
    citation: Annotated[str, typer.Option("--citation", help="Where it comes from.")] = "unknown",
    description: Annotated[str, typer.Option("--description", help="One line.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Add a revision if the name has other weights.")] = False,
    db: DbOption = None,
) -> None:
    """Add a local checkpoint to the store. The file is checked, copied and never unpickled.

    Example:
        robustboard models add resnet18.public.photos --arch resnet18 --weights model_test.pt --dataset photos
    """
    from harness.cli.run import existing
    from harness.data import open_dataset
    from harness.errors import RequestError
    from models_zoo.adopt import adopt, take_in
    from models_zoo.architectures import ARCHITECTURES
    from models_zoo.registry import bundled_cards

    ARCHITECTURES.get(arch)
    if name in bundled_cards():
        raise RequestError(f"name: {name!r} is a bundled model; choose another name")
    channels = _channels("mean", mean), _channels("std", std)
    with existing(db) as reader:
        data = open_dataset(dataset, "test", folders={} if reader is None else reader.declarations())
        intake = take_in(arch, weights, input_size=data.image_size, classes=len(data.classes))
        model = adopt(
            arch,
            intake,
            name=name,
            dataset=dataset,
            mean=channels[0],
            std=channels[1],
            family=family,
            licence=licence,
            citation=citation,
            description=description,
        )
    stored = _put(model, db, replace=replace)
    say(f"weights: {intake.checkpoint.describe()}")
    _say_added(stored, model)


@app.command("fetch")
def fetch_model(
    name: Annotated[
        str, typer.Argument(help="torchvision:NETWORK or timm:NETWORK, with .WEIGHTS for others than the default ones.")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Add a revision if the name has other weights.")] = False,
    db: DbOption = None,
) -> None:
    """Add a network of torchvision or timm with the weights that the package offers, downloaded into its cache.

    Examples:
        robustboard models fetch torchvision:resnet50

        robustboard models fetch timm:resnet50.a1_in1k
    """
    from harness.errors import InvalidArgument
    from models_zoo.pretrained import load_pretrained

    if ":" not in name:
        raise InvalidArgument("name", name, "torchvision:NETWORK or timm:NETWORK")
    model = load_pretrained(name)
    _say_added(_put(model, db, replace=replace), model)


def _put(model: ZooModel, db: str | None, *, replace: bool) -> StoredModel:
    """Store a model's card and weights."""
    from harness.storage import open_store
    from models_zoo.checkpoints import save_state_dict

    with tempfile.TemporaryDirectory() as folder, contextlib.closing(open_store(db)) as store:
        blob = Path(folder) / "weights.safetensors"
        save_state_dict(model.network.state_dict(), blob)
        return store.put_model(model.card.to_dict(), model.card.digest, blob=blob, replace=replace)


def _say_added(stored: StoredModel, model: ZooModel) -> None:
    say(f"added {stored.name} (revision {stored.revision}, {model.card.parameters:,} parameters)")
    emit(f"digest {stored.digest}")


@app.command("check")
def check_model(
    file: Annotated[Path, typer.Argument(help="Weights: .safetensors, .pt, .pth or .th (never unpickled).")],
    arch: Annotated[str, typer.Option("--arch", help="Architecture; `robustboard models architectures` lists them.")],
    dataset: Annotated[str, typer.Option("--dataset", help="The data set whose classes it tells apart.")],
    claim: Annotated[
        float | None, typer.Option("--claim", help="Clean accuracy that it is said to have, such as 0.93.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", help="Subtracted from images in [0, 1]: R,G,B [found by trying].")
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="Divided by, after the mean: R,G,B [found by trying].")
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", help="How many test images to try it on [200, fewer for slow networks].")
    ] = None,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Look a checkpoint over before it is added: what it wants, how good it is and how fast. Nothing is stored.

    Exit code 0: it could be added, perhaps with warnings; 1: a check found a problem; 2: the request was wrong.

    Example:
        robustboard models check resnet20.th --arch resnet20 --dataset digits --claim 0.93
    """
    from harness.device import check_device
    from models_zoo.preflight import Wanted, preflight

    given = None
    if mean is not None or std is not None:
        given = _channels("mean", mean or "0,0,0"), _channels("std", std or "1,1,1")
    where = check_device(device)
    data, reference = _test_and_reference(dataset, db)
    wanted = Wanted(
        path=file,
        architecture=arch,
        data=data,
        reference=reference,
        given=given,
        claim=claim,
        images=images,
        device=where,
    )
    report = preflight(wanted)
    if report.add and db is not None:
        report = dataclasses.replace(report, add=(*report.add, "--db", db))
    if as_json:
        emit_json(report.to_dict())
    else:
        _emit_report(report)
    if not report.passed:
        raise typer.Exit(1)


@app.command("architectures")
def list_architectures() -> None:
    """List the architectures that checkpoints can be added for.

    Example:
        robustboard models architectures
    """
    from models_zoo.architectures import ARCHITECTURES

    for name in (*ARCHITECTURES.names(), *(f"{package}:NAME" for package in ARCHITECTURES.packages)):
        emit(name)


def _all_cards(db: str | None) -> list[Json]:
    """Cards of bundled models and, if there is a store, of added ones, by name; `origin` says which."""
    from harness.errors import StoreNotReady
    from harness.storage import open_store
    from models_zoo.registry import bundled_cards

    found = {
        name: {**card.to_dict(), "digest": card.digest, "origin": "bundled"} for name, card in bundled_cards().items()
    }
    try:
        store = open_store(db, read_only=True)
    except StoreNotReady:
        return [found[name] for name in sorted(found)]
    try:
        for model in store.models():
            if model.name not in found:
                found[model.name] = {
                    **model.card,
                    "digest": model.digest,
                    "origin": f"added (revision {model.revision})",
                }
    finally:
        store.close()
    return [found[name] for name in sorted(found)]


def _channels(argument: str, text: str) -> tuple[float, float, float]:
    from harness.errors import InvalidArgument

    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise InvalidArgument(argument, text, "three numbers such as 0.4914,0.4822,0.4465")
    return values


def _test_and_reference(name: str, db: str | None) -> tuple[Dataset, Dataset]:
    """The test images, and those that the data set's own mean is of: the train images, if there are any."""
    from harness.data import open_dataset
    from harness.errors import RequestError, StoreMissing
    from harness.storage import open_store

    declarations = {}
    with contextlib.suppress(StoreMissing), contextlib.closing(open_store(db, read_only=True)) as reader:
        declarations = reader.declarations()
    data = open_dataset(name, "test", folders=declarations)
    try:
        return data, open_dataset(name, "train", folders=declarations)
    except RequestError:
        return data, data


def _emit_report(report: Report) -> None:
    """The findings for people: how it stands, which check, what was found, what to do."""
    from models_zoo.checkpoints import printable

    def line(text: str) -> None:
        emit(printable(text))

    line(f"{report.file}: {report.architecture} on {report.dataset}, up to {report.images} images")
    for finding in report.findings:
        _emit_finding(finding, line)
    problems, warnings = report.named("problem"), report.named("warning")
    noted = f"; warnings: {', '.join(warnings)}" if warnings else ""
    if problems:
        line(f"not to be added as it is: {', '.join(problems)}{noted}")
        return
    line(f"could be added{noted}; {report.seconds:.0f} s. The command:")
    line(shlex.join(report.add))


def _emit_finding(finding: Finding, line: Callable[[str], None]) -> None:
    line(f"{finding.level:<8} {finding.check:<12} {finding.found}")
    for detail in finding.details:
        line(f"{'':21} {detail}")
    if finding.advice:
        line(f"{'':21} -> {finding.advice}")
