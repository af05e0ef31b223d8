"""Training: a recipe, arrays and a seed become weights and a card (`train`, `retrain`, `python -m models_zoo.train`).

Deterministic: the order of images, shifts, flips and random starts come from `harness.rng`, initial weights from a
    forked generator; the number of threads is set here and written in the card. The same seed, threads, machine and
    packages give the same weights digest, also when the run was killed and went on from its kept state.

This module and all it imports need no package but torch, numpy and safetensors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from harness import rng
from harness.device import check_device, machine
from harness.errors import InvalidArgument, ModelError
from harness.types import Json
from models_zoo.adopt import count_parameters
from models_zoo.architectures import ARCHITECTURES
from models_zoo.cards import ModelCard, Training
from models_zoo.checkpoints import StateDict, weights_digest
from models_zoo.model import ZooModel
from models_zoo.recipes import RECIPES
from models_zoo.recipes.base import Recipe, Settings
from models_zoo.training_data import TrainingData, accuracy, channel_statistics, to_tensor
from models_zoo.training_device import packages
from models_zoo.training_progress import Progress, Step
from models_zoo.training_run import TrainingRun, learning_rate_at, snapshot
from models_zoo.training_state import StateFile

__all__ = [
    "Progress",
    "Step",
    "TrainResult",
    "TrainingData",
    "accuracy",
    "learning_rate_at",
    "packages",
    "planned_card",
    "retrain",
    "to_tensor",
    "train",
    "train_planned",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainResult:
    """A trained model."""

    card: ModelCard
    state_dict: StateDict
    history: tuple[Progress, ...]
    state: StateFile | None = None
    """The kept state of the finished run, if states are kept: `state.discard()` once the weights are safe."""


def train(
    recipe_name: str,
    *,
    dataset: TrainingData,
    architecture: str,
    settings: Settings | None = None,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    name: str | None = None,
    licence: str = "Apache-2.0",
    progress: Callable[[Progress], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    state_folder: Path | None = None,
    fresh: bool = False,
) -> TrainResult:
    """Train a network.

    Args:
        recipe_name: of a registered recipe.
        dataset: images, labels, classes.
        architecture: of a registered architecture.
        settings: hyper-parameters that differ from the recipe's defaults, as values or their text.
        seed: of initial weights, order, augmentation and random starts, and of the validation part.
        threads: of torch, for the duration of the run.
        device: cpu, cuda or cuda:N; weights are made again bit by bit on the CPU only.
        name: of the model; made from architecture, recipe, settings, data set and seed if None.
        licence: of the weights.
        progress: called after each epoch; in a resumed run first for each epoch that was run before.
        on_step: called after each step.
        state_folder: where the run is kept after each epoch and found again by the same call; nowhere if None.
        fresh: forget kept runs of the same name.

    Returns:
        The card and the weights of the epoch with the lowest objective on the validation part, which is taken from the
        training images, class by class.

    Raises:
        UnknownName: no such recipe, architecture or setting.
        InvalidArgument: a setting, seed, thread count, device or data set outside its domain, or `state_folder` cannot
            be written to.
        CardError: a wrong name.
        RequestError: `state_folder` holds another run of the same name.
        CheckpointError: the kept state is damaged.
        ModelError: the recipe is not for this architecture, or the objective became NaN or infinite.
    """
    plan = planned_card(
        recipe_name,
        dataset=dataset,
        architecture=architecture,
        settings=settings,
        seed=seed,
        name=name,
        licence=licence,
    )
    return train_planned(
        plan,
        dataset=dataset,
        seed=seed,
        threads=threads,
        device=device,
        progress=progress,
        on_step=on_step,
        state_folder=state_folder,
        fresh=fresh,
    )


def train_planned(
    plan: ModelCard,
    *,
    dataset: TrainingData,
    seed: int = 0,
    threads: int = 1,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    state_folder: Path | None = None,
    fresh: bool = False,
) -> TrainResult:
    """Train the network of a card that `planned_card` has made of the same data set and seed.

    Other arguments, the result and errors as in `train`.
    """
    recipe, resolved = RECIPES.get(plan.recipe), plan.hyper_parameters
    if threads < 1:
        raise InvalidArgument("threads", threads, "at least 1")
    place = check_device(device)
    with machine(threads=threads, device=place):
        model = _fresh_model(plan, seed)
        state = None
        if state_folder is not None:
            shapes = {key: tensor.shape for key, tensor in model.network.state_dict().items()}
            identity = _identity(recipe, plan, dataset, seed=seed, threads=threads, device=place.type)
            state = StateFile(state_folder, name=plan.name, identity=identity, shapes=shapes)
            if fresh:
                state.discard(others=True)
        model.to(device)
        run = TrainingRun(recipe=recipe, settings=resolved, dataset=dataset, model=model, seed=seed, device=device)
        if state is not None:
            state.make_ready()
        try:
            history, best_epoch, weights = run.fit(progress, on_step=on_step, state=state)
        except ModelError:
            if state is not None:
                state.discard()  # it would diverge again, and other settings must not trip over it
            raise
        model.network.load_state_dict(weights)
        model.to("cpu").to(memory_format=torch.contiguous_format).eval()
        clean = None
        if dataset.test_images is not None and dataset.test_labels is not None:
            clean = accuracy(model, dataset.test_images, dataset.test_labels)
    training = Training(
        seed=seed,
        threads=threads,
        device=place.type,
        epochs=int(resolved["epochs"]),
        best_epoch=best_epoch,
        train_images=len(run.train_part),
        validation_images=len(run.validation_part),
        validation_accuracy=history[best_epoch - 1].accuracy,
        clean_accuracy=clean,
        test_images=0 if dataset.test_images is None else len(dataset.test_images),
        packages=packages(),
    )
    card = replace(plan, weights_digest=weights_digest(model.network.state_dict()), training=training)
    return TrainResult(card=card, state_dict=snapshot(model), history=tuple(history), state=state)


def retrain(
    card: ModelCard,
    *,
    dataset: TrainingData,
    progress: Callable[[Progress], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
    state_folder: Path | None = None,
    fresh: bool = False,
) -> TrainResult:
    """Train a model again from its card alone and the data set it names; see `train`.

    A card that is older than a setting lacks it and gets its default, which is what training did before.

    Raises:
        InvalidArgument: the card has no training record, or the data set is another one.
    """
    if card.training is None:
        raise InvalidArgument("card", card.name, "a card with a training record")
    if dataset.name != card.dataset:
        raise InvalidArgument("dataset", dataset.name, card.dataset)
    return train(
        card.recipe,
        dataset=dataset,
        architecture=card.architecture,
        settings=card.hyper_parameters,
        seed=card.training.seed,
        threads=card.training.threads,
        device=card.training.device,
        name=card.name,
        licence=card.licence,
        progress=progress,
        on_step=on_step,
        state_folder=state_folder,
        fresh=fresh,
    )


def planned_card(
    recipe_name: str,
    *,
    dataset: TrainingData,
    architecture: str,
    settings: Settings | None = None,
    seed: int = 0,
    name: str | None = None,
    licence: str = "Apache-2.0",
) -> ModelCard:
    """The card that `train` would give, before there are weights: their digest is zeros, the training record missing.

    Args and errors as in `train`.
    """
    recipe = RECIPES.get(recipe_name)
    resolved = recipe.resolve(settings or {})
    rng.stream_key(seed, "train")  # refuses a bad seed before any work
    entry = ARCHITECTURES.get(architecture)
    size = (dataset.images.shape[1], dataset.images.shape[2])
    network = entry.build(len(dataset.class_names), size)
    mean, std = channel_statistics(dataset.images)
    made = recipe.model_name(architecture=architecture, dataset=dataset.name, settings=resolved, seed=seed)
    return ModelCard(
        name=made if name is None else name,
        architecture=architecture,
        architecture_version=entry.version,
        family=recipe.family,
        dataset=dataset.name,
        classes=len(dataset.class_names),
        input_size=size,
        mean=mean,
        std=std,
        weights_digest="0" * 64,
        recipe=recipe.name,
        parameters=count_parameters(network),
        licence=licence,
        citation=recipe.citation,
        description=recipe.description,
        class_names=dataset.class_names,
        hyper_parameters=resolved,
    )


def _identity(
    recipe: Recipe, card: ModelCard, dataset: TrainingData, *, seed: int, threads: int, device: str
) -> dict[str, Json]:
    """All that the weights depend on, but for the code: what a kept state must agree with."""
    return {
        "architecture": f"{card.architecture}@{card.architecture_version}",
        "recipe": f"{recipe.name}@{recipe.version}",
        "settings": dict(card.hyper_parameters),
        "seed": seed,
        "threads": threads,
        "device": device,
        "dataset": {"name": dataset.name, "digest": dataset.digest()},
        "packages": dict(packages()),
    }


def _fresh_model(card: ModelCard, seed: int) -> ZooModel:
    """A model with initial weights from the seed."""
    weights_seed = rng.child_seed(seed, "train/weights")
    return ZooModel(ARCHITECTURES.get(card.architecture).build(card.classes, card.input_size, seed=weights_seed), card)


if __name__ == "__main__":
    from models_zoo.train_command import main

    sys.exit(main(sys.argv[1:]))
