"""`robustboard train`: recipes and cards to weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from harness.cli.options import DbOption
from harness.cli.output import console, emit, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.types import Json
    from models_zoo.cards import ModelCard
    from models_zoo.train import Progress, Step, TrainingData, TrainResult
    from models_zoo.training_log import TrainingLog


def train(
    ctx: typer.Context,
    recipe: Annotated[
        str | None, typer.Argument(help="Recipe: supervised, selectivity, adversarial, trades or augmix.")
    ] = None,
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
    state: Annotated[
        Path | None, typer.Option("--state", help="Folder of interrupted runs [STORE.training, beside the store].")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over instead of going on with an interrupted run.")
    ] = False,
    log: Annotated[Path | None, typer.Option("--log", help="Write FOLDER/NAME/history.csv.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="With --log: event files, too.")] = False,
    register: Annotated[bool, typer.Option(help="Register the model in the store.")] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Add a revision if the name has other weights.")] = False,
    db: DbOption = None,
) -> None:
    """Train a model from a recipe, or make a bundled one again from its card, and register it.

    The run is kept after each epoch: interrupted, the same command goes on and ends with the same weights.

    Examples:
        robustboard train selectivity --set alpha=-1 --seed 3

        robustboard train adversarial --arch resnet20 --set eps=8/255 --out trained/

        robustboard train --card small_cnn.supervised.digits.s0
    """
    from harness.errors import RequestError

    if (recipe is None) == (card is None):
        raise RequestError("train: give either a recipe or --card NAME")
    if tensorboard and log is None:
        raise RequestError("tensorboard: needs --log FOLDER to write to")
    if card is not None:
        _refuse_beside_card(ctx, register=register)
    work = _Work(
        db=db,
        state=state if state is not None else _state_folder(db),
        fresh=fresh,
        log=log,
        events=tensorboard,
        out=out,
    )
    if card is not None:
        result = _again(card, work)
    else:
        plan = _plan(str(recipe), _training_data(dataset, db), arch, settings or [], seed=seed, name=name)
        if register and not replace:
            _refuse_taken(plan, db, seed=seed, threads=threads, device=device)
        result = _anew(plan, work, seed=seed, threads=threads, device=device)
    _finish(result, db, out=out, register=register and card is None, replace=replace)


_NOT_BESIDE_CARD = {
    "arch": "--arch", "dataset": "--dataset", "settings": "--set", "seed": "--seed", "threads": "--threads",
    "device": "--device", "name": "--name", "register": "--register", "replace": "--replace",
}  # fmt: skip
"""What a card says itself, or what is not done with the model that it makes."""


def _refuse_beside_card(ctx: typer.Context, *, register: bool) -> None:
    """Refuse options that --card would leave unread."""
    from harness.errors import RequestError

    sources = {name: ctx.get_parameter_source(name) for name in _NOT_BESIDE_CARD if name != "register" or register}
    given = [_NOT_BESIDE_CARD[name] for name, source in sources.items() if source and source.name != "DEFAULT"]
    if given:
        raise RequestError(
            f"card: takes no {', '.join(given)}; a model is made again as its card says, and is not registered"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """Where a run leaves what."""

    db: str | None
    state: Path
    fresh: bool
    log: Path | None
    events: bool
    out: Path | None

    def watch(self, name: str) -> _Watch:
        """Eyes on the run of a model, and its log; the folders that are asked for are there from now on."""
        from models_zoo.training_folders import make_ready
        from models_zoo.training_log import TrainingLog

        if self.out is not None:
            make_ready("out", self.out)
        return _Watch(None if self.log is None else TrainingLog(self.log, name, tensorboard=self.events))


@dataclass(frozen=True, slots=True)
class _Plan:
    """A card without weights, and the images to find them with."""

    card: ModelCard
    data: TrainingData


def _plan(recipe: str, data: TrainingData, arch: str, settings: list[str], *, seed: int, name: str | None) -> _Plan:
    from models_zoo.recipes.base import parse_assignments
    from models_zoo.train import planned_card

    chosen = parse_assignments(settings)
    card = planned_card(recipe, dataset=data, architecture=arch, settings=chosen, seed=seed, name=name)
    return _Plan(card, data)


def _anew(plan: _Plan, work: _Work, *, seed: int, threads: int, device: str) -> TrainResult:
    from models_zoo.train import train_planned

    with work.watch(plan.card.name) as watch:
        return train_planned(
            plan.card,
            dataset=plan.data,
            seed=seed,
            threads=threads,
            device=device,
            progress=watch.epoch,
            on_step=watch.step,
            state_folder=work.state,
            fresh=work.fresh,
        )


def _again(name: str, work: _Work) -> TrainResult:
    """Make a bundled model again and compare."""
    from models_zoo.registry import get_card
    from models_zoo.train import retrain

    card = get_card(name)
    with work.watch(name) as watch:
        result = retrain(
            card,
            dataset=_training_data(card.dataset, work.db),
            progress=watch.epoch,
            on_step=watch.step,
            state_folder=work.state,
            fresh=work.fresh,
        )
    same = result.card.weights_digest == card.weights_digest
    say("same weights as the card's" if same else "other weights than the card's (another machine or packages?)")
    return result


class _Watch:
    """A bar with the time that is left in a terminal, a plain line now and then elsewhere; and the log, if any.

    Args:
        log: told of each epoch.
    """

    def __init__(self, log: TrainingLog | None) -> None:
        from models_zoo.training_progress import LineWatch

        self._log = log
        out = console(stderr=True)
        self._bar = None
        self._lines = LineWatch(sys.stderr)
        if out.is_terminal:
            from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.fields[place]}", markup=False),
                BarColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=out,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None, place="first step")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._log is not None:
            self._log.close()

    def step(self, step: Step) -> None:
        """Move the bar, or say a line."""
        if self._bar is None:
            self._lines.step(step)
            return
        done = (step.epoch - 1) * step.steps + step.step
        self._bar.update(
            self._task, total=step.epochs * step.steps, completed=done, place=f"epoch {step.epoch}/{step.epochs}"
        )

    def epoch(self, progress: Progress) -> None:
        """Show how the epoch ended, and log it."""
        if self._log is not None:
            self._log(progress)
        if self._bar is None:
            self._lines.epoch(progress)
            return
        text = f"loss {progress.loss:.4f}, validation accuracy {progress.accuracy:.4f}"
        self._bar.update(self._task, description=text)


def _state_folder(db: str | None) -> Path:
    """Beside the store, as the weights of added models are."""
    from harness.settings import DB
    from harness.storage.engine import parse_url, sqlite_path

    path = sqlite_path(parse_url(db if db is not None else DB.value()))
    return path.with_suffix(".training") if path is not None else Path("results.training")


def _refuse_taken(plan: _Plan, db: str | None, *, seed: int, threads: int, device: str) -> None:
    """Refuse a name that other weights have, before hours go into new ones.

    A run that is made alike passes: it gives the weights that are there.

    Raises:
        RequestError: a bundled model's name, or that of a model in the store that was made in another way.
    """
    from harness.errors import RequestError, StoreMissing
    from harness.storage import open_store
    from models_zoo.registry import bundled_cards

    name = plan.card.name
    if name in bundled_cards():
        raise RequestError(
            f"name: {name} is a bundled model; choose another --name or --seed, --no-register to train it all the "
            f"same, or --card {name} to make it again"
        )
    try:
        store = open_store(db, read_only=True)
    except StoreMissing:
        return
    try:
        known = store.find_model(name)
    finally:
        store.close()
    if known is not None and not _made_alike(known.card, plan, seed=seed, threads=threads, device=device):
        raise RequestError(
            f"name: {name} is registered with other weights (digest {known.digest[:12]}...); choose another "
            "--name, add a revision with --replace, or --no-register"
        )


def _made_alike(known: Mapping[str, Json], plan: _Plan, *, seed: int, threads: int, device: str) -> bool:
    """Whether a stored card tells of the very run that is planned, as far as cards tell.

    Cards hold no digest of the training images, but their number, mean and standard deviation.
    """
    from harness.device import check_device
    from models_zoo.train import packages

    training = known.get("training")
    if not isinstance(training, dict):
        return False
    planned = plan.card.to_dict()
    made = {
        "seed": seed, "threads": threads, "device": check_device(device).type, "packages": dict(packages()),
    }  # fmt: skip
    of_images = training.get("train_images", 0) + training.get("validation_images", 0)
    keys = (
        "recipe", "architecture", "architecture_version", "dataset", "classes", "class_names", "input_size", "mean",
        "std", "hyper_parameters",
    )  # fmt: skip
    return (
        of_images == len(plan.data.images)
        and all(training.get(key) == value for key, value in made.items())
        and all(known.get(key) == planned[key] for key in keys)
    )


def _training_data(name: str, db: str | None) -> TrainingData:
    from harness.cli.run import existing
    from harness.data import open_dataset
    from models_zoo.train import TrainingData

    with existing(db) as reader:
        folders = {} if reader is None else reader.declarations()
    learn, test = (open_dataset(name, split, folders=folders) for split in ("train", "test"))
    return TrainingData(
        name=name,
        images=learn.images(),
        labels=learn.labels,
        class_names=learn.classes,
        test_images=test.images(),
        test_labels=test.labels,
    )


def _finish(result: TrainResult, db: str | None, *, out: Path | None, register: bool, replace: bool) -> None:
    """Say what came out, write and register it, and only then forget the kept run."""
    from models_zoo.train_command import write_result

    training = result.card.training
    if training is not None and training.clean_accuracy is not None:
        say(f"epoch {training.best_epoch} of {training.epochs}, test accuracy {training.clean_accuracy:.4f}")
    emit(f"{result.card.name} {result.card.weights_digest}")
    if out is not None:
        write_result(result, out)
        say(f"written to {out}")
    if register:
        _register(result, db, replace=replace)
    if result.state is not None:
        result.state.discard()


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
