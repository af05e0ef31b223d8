"""One training run, epoch by epoch: batches, optimiser, schedule, validation, and how it goes on after a kill.

Everything that an epoch draws is a function of (seed, epoch, image), so the weights, the optimiser's momentum and the
history after an epoch are all that the next one needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from harness import rng
from harness.errors import ModelError
from models_zoo.augmentation import (
    epoch_order,
    flip_at_random,
    shift_at_random,
    split_validation,
    validation_pieces,
)
from models_zoo.checkpoints import StateDict
from models_zoo.model import ZooModel
from models_zoo.recipes.base import Batch, Recipe, Settings
from models_zoo.training_data import EVALUATION_BATCH, TrainingData, accuracy, to_tensor
from models_zoo.training_progress import Progress, Step
from models_zoo.training_state import RunState, StateFile

Watch = Callable[[Progress], None]
StepWatch = Callable[[Step], None]


def snapshot(model: ZooModel) -> StateDict:
    """A copy of the network's weights, on the CPU and contiguous."""
    copies = ((name, tensor.detach().cpu()) for name, tensor in model.network.state_dict().items())
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in copies}


class TrainingRun:
    """One training run: the parts of the data, the optimiser and its schedule.

    Args:
        recipe: the objective.
        settings: all of them, resolved.
        dataset: images and labels.
        model: with its initial weights, on the device; trained in place.
        seed: of all draws.
        device: torch device of the model.
    """

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
        self._begun = time.monotonic()
        self._done_before = 0

    def fit(
        self, progress: Watch | None = None, *, on_step: StepWatch | None = None, state: StateFile | None = None
    ) -> tuple[list[Progress], int, StateDict]:
        """All epochs that are left.

        Args:
            progress: called after each epoch, and first for each epoch that an earlier process ran.
            on_step: called after each step.
            state: where the run goes on from, if it was interrupted, and where it is kept after each epoch.

        Returns:
            The history, the best epoch (from 1) and its weights.

        Raises:
            ModelError: the recipe is not for this network, or the objective became NaN or infinite.
            CheckpointError: the kept state is damaged or another run's.
        """
        self._check()
        history: list[Progress] = []
        best, best_epoch, weights = math.inf, 0, snapshot(self.model)
        kept = state.load() if state is not None else None
        if kept is not None:
            history, weights = list(kept.history), kept.best
            self._restore(kept)
            best, best_epoch = min((past.objective, past.epoch) for past in history)
            for past in history:
                if progress is not None:
                    progress(past)
        self._begun, self._done_before = time.monotonic(), len(history)
        for epoch in range(len(history) + 1, self.epochs + 1):
            history.append(self._epoch(epoch, on_step))
            if history[-1].objective < best:
                best, best_epoch, weights = history[-1].objective, epoch, snapshot(self.model)
            if state is not None:
                state.save(
                    RunState(
                        history=tuple(history), model=snapshot(self.model), best=weights, momentum=self._momentum()
                    )
                )
            if progress is not None:
                progress(history[-1])
        return history, best_epoch, weights

    @torch.no_grad()
    def _check(self) -> None:
        """Let the recipe refuse the network; eval mode leaves the batch statistics alone."""
        if self.recipe.check is not None:
            images = self._batch(self.validation_part[:EVALUATION_BATCH], 0).images
            self.recipe.check(self.model.eval(), images, self.settings)

    def _epoch(self, epoch: int, on_step: StepWatch | None) -> Progress:
        """Train and validate once."""
        begun = time.monotonic()
        loss, extras = self._train_epoch(epoch, on_step)
        objective, right = self._validate()
        if not (math.isfinite(loss) and math.isfinite(objective)):
            raise ModelError(
                f"training diverged in epoch {epoch}: the objective is not finite; lower learning_rate "
                f"(now {self.settings['learning_rate']})"
            )
        now = time.monotonic()
        return Progress(
            epoch=epoch,
            epochs=self.epochs,
            loss=loss,
            accuracy=right,
            objective=objective,
            eta_seconds=(now - self._begun) / (epoch - self._done_before) * (self.epochs - epoch),
            rate=float(self.optimiser.param_groups[0]["lr"]),
            seconds=now - begun,
            extras=extras,
        )

    def _train_epoch(self, epoch: int, on_step: StepWatch | None) -> tuple[float, tuple[tuple[str, float], ...]]:
        """(mean objective, means of the recipe's notes) over the steps of an epoch."""
        self.model.train()
        order = self.train_part[epoch_order(len(self.train_part), seed=self.seed, epoch=epoch)]
        # Sums stay on the device: reading a number at every step would make a GPU wait.
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        notes: dict[str, list[torch.Tensor]] = {}
        # The last, incomplete batch is left out: tiny batches upset batch normalisation and class means. The order
        # changes with the epoch, so no image is left out twice in a row for long.
        for step in range(self.steps_per_epoch):
            self._set_rate((epoch - 1) * self.steps_per_epoch + step)
            indices = order[step * self.batch_size : (step + 1) * self.batch_size]
            batch = self._batch(indices, epoch, elapsed=epoch - 1 + step / self.steps_per_epoch)
            with self._precision():
                loss, _ = self.recipe.objective(self.model, batch, self.settings)
            self.optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimiser.step()
            total += loss.detach().double()
            for name, value in batch.notes.items():
                notes.setdefault(name, []).append(value)
            if on_step is not None:
                on_step(self._step(epoch, step + 1))
        extras = ((name, float(torch.stack(values).double().mean())) for name, values in sorted(notes.items()))
        return float(total) / self.steps_per_epoch, tuple(extras)

    def _step(self, epoch: int, step: int) -> Step:
        done = (epoch - 1 - self._done_before) * self.steps_per_epoch + step
        left = (self.epochs - self._done_before) * self.steps_per_epoch - done
        pace = (time.monotonic() - self._begun) / done
        return Step(epoch=epoch, epochs=self.epochs, step=step, steps=self.steps_per_epoch, eta_seconds=pace * left)

    def _validate(self) -> tuple[float, float]:
        """(mean objective, clean accuracy) on the validation part, in eval mode, without augmentation."""
        self.model.eval()
        total = 0.0
        part = self.validation_part
        for indices in validation_pieces(part, self.dataset.labels, size=EVALUATION_BATCH):
            with self._precision():
                loss, _ = self.recipe.objective(self.model, self._batch(indices, 0), self.settings)
            total += float(loss.detach()) * len(indices)
        return total / len(part), accuracy(self.model, self.dataset.images[part], self.dataset.labels[part])

    def _precision(self) -> torch.autocast:
        """Autocast to bf16 where the settings ask for it; weights and losses stay float32."""
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.mixed)

    def _batch(self, indices: NDArray[np.int64], epoch: int, *, elapsed: float = math.inf) -> Batch:
        """Images of an epoch, shifted and flipped; epoch 0 is validation and leaves them as they are."""
        images = self.dataset.images[indices]
        if epoch > 0:
            images = shift_at_random(images, indices, int(self.settings["shift"]), seed=self.seed, epoch=epoch)
            if self.settings["flip"]:
                images = flip_at_random(images, indices, seed=self.seed, epoch=epoch)
        tensor = to_tensor(images).to(self.device, memory_format=self.memory_format)

        def noise() -> torch.Tensor:
            shape = (int(tensor.shape[1]), int(tensor.shape[2]), int(tensor.shape[3]))
            return torch.from_numpy(rng.uniform(self.seed, f"train/noise/{epoch}", indices, shape)).to(self.device)

        def words(purpose: str, count: int) -> rng.U32:
            return rng.words(self.seed, f"train/{purpose}/{epoch}", indices, count)

        labels = torch.from_numpy(self.dataset.labels[indices]).to(self.device)
        return Batch(images=tensor, labels=labels, noise=noise, pixels=images, words=words, elapsed=elapsed)

    def _set_rate(self, step: int) -> None:
        rate = learning_rate_at(
            step,
            peak=float(self.settings["learning_rate"]),
            warmup=float(self.settings["warmup_epochs"]) * self.steps_per_epoch,
            total=self.epochs * self.steps_per_epoch,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _momentum(self) -> StateDict:
        """The optimiser's memory by the name of the weight; empty where it has none."""
        found: StateDict = {}
        for name, parameter in self.model.network.named_parameters():
            buffer = self.optimiser.state[parameter].get("momentum_buffer")
            if buffer is not None:
                found[name] = buffer.detach().cpu().clone(memory_format=torch.contiguous_format)
        return found

    @torch.no_grad()
    def _restore(self, kept: RunState) -> None:
        """Weights, batch statistics and momentum as they were, in the memory format of this run."""
        for name, tensor in self.model.network.state_dict().items():
            tensor.copy_(kept.model[name])
        for name, parameter in self.model.network.named_parameters():
            if name in kept.momentum:
                self.optimiser.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(
                    kept.momentum[name]
                )


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
