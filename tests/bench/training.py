"""What the selectivity term adds to a training step: `python -m tests.bench.training`.

A step is the recipe's objective on a batch, the backward pass and the optimiser, as the training loop has them, on one
thread. Steps of `supervised` and of `selectivity` follow one another in changing order, so that a busy machine slows
both; processor time of the thread is taken, not the clock. The ratio is the median over rounds of paired steps, its
95 % interval a bootstrap over rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from harness import rng
from models_zoo.architectures import ARCHITECTURES
from models_zoo.model import ZooModel
from models_zoo.recipes import RECIPES
from models_zoo.recipes.base import Batch
from models_zoo.train import TrainingData, planned_card, to_tensor

RESAMPLES = 2000
RECIPES_COMPARED = ("supervised", "selectivity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Seconds of steps, rounds x (supervised, selectivity)."""

    seconds: NDArray[np.float64]

    @property
    def ratio(self) -> tuple[float, float, float]:
        """(median, lower, upper): selectivity over supervised, with a 95 % interval."""
        ratios = self.seconds[:, 1] / self.seconds[:, 0]
        draws = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
        low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
        return float(np.median(ratios)), float(low), float(high)


def measure(*, architecture: str = "resnet20", batch_size: int = 256, rounds: int = 15) -> Overhead:
    """Time steps of both recipes on random 32 x 32 images of ten classes; the first round is thrown away."""
    steps = [make_step(recipe, architecture, batch_size) for recipe in RECIPES_COMPARED]
    seconds = np.empty((rounds + 1, 2))
    for number in range(rounds + 1):
        for place in (0, 1) if number % 2 else (1, 0):
            begun = time.thread_time()
            steps[place]()
            seconds[number, place] = time.thread_time() - begun
    return Overhead(seconds=seconds[1:])


def make_step(recipe_name: str, architecture: str, batch_size: int) -> Callable[[], None]:
    """A training step with its own network and optimiser."""
    generator = np.random.default_rng(0)
    data = TrainingData(
        name="random",
        images=generator.integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8),
        labels=np.arange(batch_size, dtype=np.int64) % 10,
        class_names=tuple("0123456789"),
    )
    recipe = RECIPES.get(recipe_name)
    settings = recipe.resolve({})
    card = planned_card(recipe_name, dataset=data, architecture=architecture)
    model = ZooModel(ARCHITECTURES.get(architecture).build(10, (32, 32), seed=0), card).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    indices = np.arange(batch_size)
    batch = Batch(
        images=to_tensor(data.images),
        labels=torch.from_numpy(data.labels),
        noise=lambda: torch.empty(0),
        pixels=data.images,
        words=lambda purpose, count: rng.words(0, purpose, indices, count),
    )

    def step() -> None:
        loss, _ = recipe.objective(model, batch, settings)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()

    return step


def report(overhead: Overhead) -> None:
    """One line."""
    ratio, low, high = overhead.ratio
    plain, regularised = np.median(overhead.seconds, axis=0)
    sys.stdout.write(
        f"resnet20, batch 256: a step takes {plain:.3f} s, with the selectivity term {regularised:.3f} s: "
        f"{ratio:.3f}x [{low:.3f}, {high:.3f}]\n"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    torch.set_num_threads(1)
    report(measure(rounds=parser.parse_args().rounds))
