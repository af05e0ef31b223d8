"""The one training loop: a recipe, arrays and a seed become weights and a card.

Deterministic: the order of images, shifts, flips and random starts come from `harness.rng`, initial weights from a
    forked generator; the number of threads is set here and written in the card. The same seed, threads, machine and
    packages give the same weights digest.
"""

from __future__ import annotations

import contextlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness import rng
from harness.errors import InvalidArgument, ModelError
from models_zoo.adopt import count_parameters
from models_zoo.architectures import ARCHITECTURES
from models_zoo.augmentation import epoch_order, flip_at_random, shift_at_random, split_validation
from models_zoo.cards import ModelCard, Training
from models_zoo.checkpoints import StateDict, weights_digest
from models_zoo.model import ZooModel
from models_zoo.recipes import RECIPES
from models_zoo.recipes.base import Batch, Recipe, Settings

if TYPE_CHECKING:
    from harness.types import ImagesU8, Labels

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingData:
    """Images to train on, and optionally a test split that is looked at once, at the end."""

    name: str
    images: ImagesU8
    """n x h x w x 3, uint8."""
    labels: Labels
    class_names: tuple[str, ...]
    test_images: ImagesU8 | None = None
    test_labels: Labels | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3:
            raise InvalidArgument("images", f"{self.images.dtype} {self.images.shape}", "uint8, n x height x width x 3")
        if self.labels.shape != self.images.shape[:1] or len(self.labels) == 0:
            raise InvalidArgument("labels", self.labels.shape, f"one for each of {len(self.images)} images")
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise InvalidArgument("labels", int(self.labels.max()), f"classes from 0 to {len(self.class_names) - 1}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training run stands after an epoch."""

    epoch: int
    """From 1."""
    epochs: int
    loss: float
    """Mean objective over the epoch's training images."""
    accuracy: float
    """Share of right answers on the clean validation images."""
    objective: float
    """The recipe's objective on the validation images; the epoch with the lowest is kept."""
    eta_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainResult:
    """A trained model."""

    card: ModelCard
    state_dict: StateDict
    history: tuple[Progress, ...]


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
) -> TrainResult:
    """Train a network.

    Args:
        recipe_name: of a registered recipe.
        dataset: images, labels, classes.
        architecture: of a registered architecture.
        settings: hyper-parameters that differ from the recipe's defaults, as values or their text.
        seed: of initial weights, order, augmentation and random starts, and of the validation part.
        threads: of torch, for the duration of the run.
        device: torch device; weights are made again bit by bit on the CPU only.
        name: of the model; made from architecture, recipe, settings, data set and seed if None.
        licence: of the weights.
        progress: called after each epoch.

    Returns:
        The card and the weights of the epoch with the lowest objective on the validation part, which is taken from the
        training images, class by class.

    Raises:
        UnknownName: no such recipe, architecture or setting.
        InvalidArgument: a setting, seed, thread count or data set outside its domain.
        CardError: a wrong name.
        ModelError: the objective became NaN or infinite.
    """
    recipe = RECIPES.get(recipe_name)
    resolved = recipe.resolve(settings or {})
    rng.stream_key(seed, "train")  # refuses a bad seed before any work
    if threads < 1:
        raise InvalidArgument("threads", threads, "at least 1")
    draft = _draft_card(recipe, dataset, architecture, resolved, seed, name, licence)
    with _threads(threads):
        model = _fresh_model(draft, seed).to(device)
        run = _Run(recipe=recipe, settings=resolved, dataset=dataset, model=model, seed=seed, device=device)
        history, best_epoch, state = run.fit(progress)
        model.network.load_state_dict(state)
        model.to("cpu").to(memory_format=torch.contiguous_format).eval()
        clean = None
        if dataset.test_images is not None and dataset.test_labels is not None:
            clean = accuracy(model, dataset.test_images, dataset.test_labels)
    training = Training(
        seed=seed,
        threads=threads,
        device=torch.device(device).type,
        epochs=int(resolved["epochs"]),
        best_epoch=best_epoch,
        train_images=len(run.train_part),
        validation_images=len(run.validation_part),
        validation_accuracy=history[best_epoch - 1].accuracy,
        clean_accuracy=clean,
        test_images=0 if dataset.test_images is None else len(dataset.test_images),
        packages=packages(),
    )
    card = replace(draft, weights_digest=weights_digest(model.network.state_dict()), training=training)
    return TrainResult(card=card, state_dict=_snapshot(model), history=tuple(history))


def retrain(
    card: ModelCard, *, dataset: TrainingData, progress: Callable[[Progress], None] | None = None
) -> TrainResult:
    """Train a model again from its card alone and the data set it names; see `train`.

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
    )


def to_tensor(images: ImagesU8) -> torch.Tensor:
    """uint8 NHWC to float32 NCHW in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float().div_(255)


def accuracy(model: ZooModel, images: ImagesU8, labels: Labels) -> float:
    """Share of right answers, in [0, 1], of a model in eval mode on uint8 NHWC images."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(images), EVALUATION_BATCH):
            batch = to_tensor(images[start : start + EVALUATION_BATCH]).to(model.mean.device)
            predicted = model(batch).argmax(1).cpu().numpy()
            right += int((predicted == labels[start : start + EVALUATION_BATCH]).sum())
    return right / len(images)


def packages() -> tuple[tuple[str, str], ...]:
    """What the bits of the weights depend on besides the code: package versions and the CPU's instruction set."""
    versions = {name: version(name) for name in ("numpy", "torch")}
    versions["python"] = platform.python_version()
    versions["cpu"] = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return tuple(sorted(versions.items()))


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Run with `count` threads of torch, then put the old number back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _draft_card(
    recipe: Recipe,
    dataset: TrainingData,
    architecture: str,
    settings: Settings,
    seed: int,
    name: str | None,
    licence: str,
) -> ModelCard:
    """The card before there are weights: their digest is still zeros."""
    entry = ARCHITECTURES.get(architecture)
    size = (dataset.images.shape[1], dataset.images.shape[2])
    network = entry.build(len(dataset.class_names), size)
    pixels = dataset.images.reshape(-1, 3)
    mean = [round(float(value) / 255, 4) for value in pixels.mean(0, dtype=np.float64)]
    std = [max(round(float(value) / 255, 4), 1e-3) for value in pixels.std(0, dtype=np.float64)]
    made = recipe.model_name(architecture=architecture, dataset=dataset.name, settings=settings, seed=seed)
    return ModelCard(
        name=made if name is None else name,
        architecture=architecture,
        architecture_version=entry.version,
        family=recipe.family,
        dataset=dataset.name,
        classes=len(dataset.class_names),
        input_size=size,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        weights_digest="0" * 64,
        recipe=recipe.name,
        parameters=count_parameters(network),
        licence=licence,
        citation=recipe.citation,
        description=recipe.description,
        class_names=dataset.class_names,
        hyper_parameters=settings,
    )


def _fresh_model(card: ModelCard, seed: int) -> ZooModel:
    """A model with initial weights from the seed."""
    weights_seed = rng.child_seed(seed, "train/weights")
    return ZooModel(ARCHITECTURES.get(card.architecture).build(card.classes, card.input_size, seed=weights_seed), card)


def _snapshot(model: ZooModel) -> StateDict:
    """A copy of the network's weights."""
    copies = ((name, tensor.detach().cpu()) for name, tensor in model.network.state_dict().items())
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in copies}


class _Run:
    """One training run: the parts of the data, the optimiser and its schedule."""

    def __init__(
        self, *, recipe: Recipe, settings: Settings, dataset: TrainingData, model: ZooModel, seed: int, device: str
    ) -> None:
        self.recipe = recipe
        self.settings = settings
        self.dataset = dataset
        self.model = model
        self.seed = seed
        self.device = device
        self.epochs = int(settings["epochs"])
        self.train_part, self.validation_part = split_validation(
            dataset.labels, float(settings["validation_share"]), seed=seed
        )
        self.mixed = settings["precision"] == "bf16"
        # Weights and images in one memory format: a convolution that meets two converts at every call.
        self.memory_format = torch.channels_last if self.mixed else torch.contiguous_format
        model.to(memory_format=self.memory_format)
        self.batch_size = min(int(settings["batch_size"]), len(self.train_part))
        self.steps_per_epoch = len(self.train_part) // self.batch_size
        self.optimiser = torch.optim.SGD(
            model.parameters(),
            lr=float(settings["learning_rate"]),
            momentum=float(settings["momentum"]),
            weight_decay=float(settings["weight_decay"]),
            nesterov=float(settings["momentum"]) > 0,
        )

    def fit(self, progress: Callable[[Progress], None] | None) -> tuple[list[Progress], int, StateDict]:
        """All epochs: their history, the best epoch (from 1) and its weights."""
        history: list[Progress] = []
        best, best_epoch, state = math.inf, 0, _snapshot(self.model)
        begun = time.monotonic()
        for epoch in range(1, self.epochs + 1):
            loss = self._train_epoch(epoch)
            objective, right = self._validate()
            if not (math.isfinite(loss) and math.isfinite(objective)):
                raise ModelError(
                    f"training diverged in epoch {epoch}: the objective is not finite; lower learning_rate "
                    f"(now {self.settings['learning_rate']})"
                )
            if objective < best:
                best, best_epoch, state = objective, epoch, _snapshot(self.model)
            eta = (time.monotonic() - begun) / epoch * (self.epochs - epoch)
            history.append(
                Progress(
                    epoch=epoch, epochs=self.epochs, loss=loss, accuracy=right, objective=objective, eta_seconds=eta
                )
            )
            if progress is not None:
                progress(history[-1])
        return history, best_epoch, state

    def _train_epoch(self, epoch: int) -> float:
        self.model.train()
        order = self.train_part[epoch_order(len(self.train_part), seed=self.seed, epoch=epoch)]
        total = 0.0
        # The last, incomplete batch is left out: tiny batches upset batch normalisation and class means. The order
        # changes with the epoch, so no image is left out twice in a row for long.
        for step in range(self.steps_per_epoch):
            self._set_rate((epoch - 1) * self.steps_per_epoch + step)
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            with self._precision():
                loss, _ = self.recipe.objective(self.model, self._batch(indices, epoch, augment=True), self.settings)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimiser.step()
            total += float(loss.detach())
        return total / self.steps_per_epoch

    def _validate(self) -> tuple[float, float]:
        """(mean objective, clean accuracy) on the validation part, in eval mode, without augmentation."""
        self.model.eval()
        total = 0.0
        part = self.validation_part
        pieces = np.array_split(part, math.ceil(len(part) / EVALUATION_BATCH))
        for indices in pieces:
            with self._precision():
                loss, _ = self.recipe.objective(self.model, self._batch(indices, 0, augment=False), self.settings)
            total += float(loss.detach()) * len(indices)
        return total / len(part), accuracy(self.model, self.dataset.images[part], self.dataset.labels[part])

    def _precision(self) -> torch.autocast:
        """Autocast to bf16 where the settings ask for it; weights and losses stay float32."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.mixed)

    def _batch(self, indices: NDArray[np.int64], epoch: int, *, augment: bool) -> Batch:
        images = self.dataset.images[indices]
        if augment:
            images = shift_at_random(images, indices, int(self.settings["shift"]), seed=self.seed, epoch=epoch)
            if self.settings["flip"]:
                images = flip_at_random(images, indices, seed=self.seed, epoch=epoch)
        tensor = to_tensor(images).to(self.device, memory_format=self.memory_format)

        def noise() -> torch.Tensor:
            shape = (int(tensor.shape[1]), int(tensor.shape[2]), int(tensor.shape[3]))
            return torch.from_numpy(rng.uniform(self.seed, f"train/noise/{epoch}", indices, shape)).to(self.device)

        labels = torch.from_numpy(self.dataset.labels[indices]).to(self.device)
        return Batch(images=tensor, labels=labels, noise=noise)

    def _set_rate(self, step: int) -> None:
        rate = learning_rate_at(
            step,
            peak=float(self.settings["learning_rate"]),
            warmup=float(self.settings["warmup_epochs"]) * self.steps_per_epoch,
            total=self.epochs * self.steps_per_epoch,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate


def learning_rate_at(step: int, *, peak: float, warmup: float, total: int) -> float:
    """Learning rate of a step: a line up to `peak` over `warmup` steps, then half a cosine that ends near 0.

    Args:
        step: from 0.
        peak: highest rate.
        warmup: steps of warm-up, at most half of all steps are used for it.
        total: all steps.
    """
    warmup = min(warmup, total / 2)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
