"""`robustboard train`: recipes and cards to weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from harness.cli.options import DbOption
from harness.cli.output import console, emit, say

if TYPE_CHECKING:
    from models_zoo.train import Progress, TrainingData, TrainResult


def train(
    recipe: Annotated[str | None, typer.Argument(help="Recipe: supervised, selectivity or adversarial.")] = None,
    card: Annotated[str | None, typer.Option("--card", help="Train this bundled model again from its card.")] = None,
    arch: Annotated[str, typer.Option("--arch", help="Architecture.")] = "small_cnn",
    dataset: Annotated[str, typer.Option("--dataset", help="Data set to train on.")] = "digits",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A hyper-parameter, key=value; repeat for more.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all draws.")] = 0,
    threads: Annotated[int, typer.Option("--threads", help="Threads of torch; they decide the last bits.")] = 1,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    name: Annotated[str | None, typer.Option("--name", help="Name of the model [made from the above].")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write NAME.toml and NAME.safetensors here.")] = None,
    register: Annotated[bool, typer.Option(help="Register the model in the store.")] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Add a revision if the name has other weights.")] = False,
    db: DbOption = None,
) -> None:
    """Train a model from a recipe, or make a bundled one again from its card, and register it.

    Examples:
        robustboard train selectivity --set alpha=-1 --seed 1

        robustboard train adversarial --arch resnet20 --set eps=8/255 --out trained/

        robustboard train --card small_cnn.supervised.digits.s0 --no-register
    """
    from harness.errors import RequestError
    from models_zoo.recipes.base import parse_assignments
    from models_zoo.registry import bundled_cards, get_card
    from models_zoo.train import retrain
    from models_zoo.train import train as fit

    if (recipe is None) == (card is None):
        raise RequestError("train: give either a recipe or --card NAME")
    if card is not None:
        made = get_card(card)
        data = _training_data(made.dataset, db)
        with _Watch() as watch:
            result = retrain(made, dataset=data, progress=watch)
        same = result.card.weights_digest == made.weights_digest
        say("same weights as the card's" if same else "other weights than the card's (another machine or packages?)")
    else:
        data = _training_data(dataset, db)
        with _Watch() as watch:
            result = fit(
                str(recipe),
                dataset=data,
                architecture=arch,
                settings=parse_assignments(settings or []),
                seed=seed,
                threads=threads,
                device=device,
                name=name,
                progress=watch,
            )
    _say_result(result)
    if out is not None:
        _write(result, out)
    if register and result.card.name in bundled_cards():
        say(f"not registered: {result.card.name} is the name of a bundled model; --name gives another")
    elif register:
        _register(result, db, replace=replace)


class _Watch:
    """An epoch a step, with the time that is left."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("first epoch", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        text = f"loss {progress.loss:.4f}, validation accuracy {progress.accuracy:.4f}"
        self._bar.update(self._task, total=progress.epochs, completed=progress.epoch, description=text)


def _training_data(name: str, db: str | None) -> TrainingData:
    from harness.data import DATASETS, open_dataset
    from harness.storage import open_store
    from models_zoo.train import TrainingData

    folders = {}
    if name not in DATASETS:
        store = open_store(db, read_only=True)
        folders = store.declarations()
        store.close()
    learn, test = (open_dataset(name, split, folders=folders) for split in ("train", "test"))
    return TrainingData(
        name=name,
        images=learn.images(),
        labels=learn.labels,
        class_names=learn.classes,
        test_images=test.images(),
        test_labels=test.labels,
    )


def _say_result(result: TrainResult) -> None:
    training = result.card.training
    if training is not None and training.clean_accuracy is not None:
        say(f"epoch {training.best_epoch} of {training.epochs}, test accuracy {training.clean_accuracy:.4f}")
    emit(f"{result.card.name} {result.card.weights_digest}")


def _write(result: TrainResult, folder: Path) -> None:
    from models_zoo.checkpoints import save_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    save_state_dict(result.state_dict, folder / f"{result.card.name}.safetensors")
    (folder / f"{result.card.name}.toml").write_text(result.card.to_toml(), encoding="utf-8")
    say(f"written to {folder}")


def _register(result: TrainResult, db: str | None, *, replace: bool) -> None:
    import tempfile

    from harness.storage import open_store
    from models_zoo.checkpoints import save_state_dict

    store = open_store(db)
    try:
        with tempfile.TemporaryDirectory() as folder:
            blob = Path(folder) / "weights.safetensors"
            save_state_dict(result.state_dict, blob)
            stored = store.put_model(result.card.to_dict(), result.card.digest, blob=blob, replace=replace)
    finally:
        store.close()
    say(f"registered {stored.name}, revision {stored.revision}")
