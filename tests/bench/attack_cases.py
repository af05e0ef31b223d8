"""What the attack engine is compared on with pyautoattack: models, images, radii, and one call of either side."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyautoattack import AutoAttack

from harness.attacks import Numerics, run_attack
from harness.data import Dataset, open_dataset
from models_zoo import load_model
from models_zoo.adopt import adopt

PACKAGE_MODEL = "resnet18 of pyautoattack"
"""The undefended CIFAR-10 network that comes inside the reference's wheel."""
PHOTOGRAPHS = Path(__file__).parents[1] / "fixtures" / "photos"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model with the images and radii that it is attacked at.

    Attributes:
        model: its name.
        images: how many.
        photographs: attacked on photographs of CIFAR-10's classes rather than on the embedded digits.
        radii: norm -> an easy, a middle and a hard eps.
    """

    model: str
    images: int
    photographs: bool
    radii: dict[str, tuple[str, ...]]


SUBJECTS: tuple[Subject, ...] = (
    Subject(
        model="small_cnn.supervised.digits.s0",
        images=200,
        photographs=False,
        radii={"Linf": ("2/255", "4/255", "8/255"), "L2": ("0.3", "0.6", "1.2"), "L1": ("4", "8", "16")},
    ),
    Subject(
        model="small_cnn.adversarial-linf8.digits.s0",
        images=200,
        photographs=False,
        radii={"Linf": ("8/255", "16/255", "24/255"), "L2": ("1", "2", "3"), "L1": ("10", "20", "30")},
    ),
    Subject(
        model="resnet20.adversarial-linf4.cifar10-jpeg.s0",
        images=64,
        photographs=True,
        radii={"Linf": ("2/255", "4/255", "8/255"), "L2": ("0.25", "0.5", "1")},
    ),
    Subject(
        model=PACKAGE_MODEL,
        images=24,
        photographs=True,
        radii={"Linf": ("0.5/255", "1/255", "4/255"), "L2": ("0.1", "0.15", "0.5")},
    ),
)


def load(model: str) -> torch.nn.Module:
    """A fresh copy of a subject's model, its parameters requiring gradients as users load them."""
    if model != PACKAGE_MODEL:
        return load_model(model).eval().requires_grad_(True)
    package = find_spec("pyautoattack")
    if package is None or package.origin is None:
        raise SystemExit("pyautoattack is not installed")
    weights = Path(package.origin).parent / "examples" / "model_test.pt"
    return adopt("resnet18", weights).eval().requires_grad_(True)


def pictures(count: int, *, photographs: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `count` test digits, or photographs of CIFAR-10's classes (64 at most): float NCHW and labels."""
    data = _data(photographs=photographs)
    raw = np.array(data.images(0, count))
    images = torch.from_numpy(raw).permute(0, 3, 1, 2).float().contiguous() / 255
    return images, torch.from_numpy(np.array(data.labels[:count]))


@cache
def _data(*, photographs: bool) -> Dataset:
    return open_dataset("photos" if photographs else "digits", folders={"photos": PHOTOGRAPHS})


@dataclass(frozen=True, slots=True)
class Case:
    """One model under one attack in one threat model; `indices` key our draws, by default 0, 1, ...."""

    model: torch.nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    norm: str
    eps: float
    attack: str
    indices: list[int] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a side found and spent: images that stand, CPU seconds, rows passed."""

    robust: int
    seconds: float
    forwards: int = 0
    backwards: int = 0


class Counting(torch.nn.Module):
    """A model that counts the rows passed forward, and those of them that kept a graph.

    Args:
        model: the network.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forwards = 0
        self.backwards = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        self.forwards += len(images)
        logits: torch.Tensor = self.model(images)
        if images.requires_grad and torch.is_grad_enabled():
            self.backwards += len(images)  # the package asks for a gradient wherever it keeps a graph
        return logits


def reference(case: Case, *, seed: int, batch: int) -> Measured:
    """The package, called directly with the given batch size."""
    counting = Counting(case.model)
    package = AutoAttack(counting, norm=case.norm, eps=case.eps, version="standard", seed=seed)
    if case.attack != "standard":
        package.attacks_to_run = [case.attack]
    started = time.process_time()
    found, _ = package.run_standard_evaluation(case.images, case.labels, batch_size=batch)
    seconds = time.process_time() - started
    with torch.no_grad():
        robust = int((case.model(found).argmax(dim=1) == case.labels).sum())
    return Measured(robust, seconds, counting.forwards, counting.backwards)


def ours(case: Case, numerics: Numerics, *, seed: int = 0, batch_size: int | None = None) -> Measured:
    """The engine on the same case; every break is predicted again.

    Raises:
        RuntimeError: a break does not hold, or lies outside the ball.
    """
    options: dict[str, Any] = {}
    if case.norm == "L1":
        options = {"apgd-ce": {"restarts": 5}, "apgd-t": {"targets": 5}}.get(case.attack, {})
    name = "autoattack" if case.attack == "standard" else case.attack
    started = time.process_time()
    found = run_attack(
        case.model,
        case.images,
        case.labels,
        name,
        norm=case.norm,
        eps=case.eps,
        seed=seed,
        indices=case.indices,
        numerics=numerics,
        batch_size=batch_size,
        **options,
    )
    seconds = time.process_time() - started
    with torch.no_grad():
        again = (case.model(found.adversarial).argmax(dim=1) == case.labels).numpy()
    if not np.array_equal(again, found.robust) or not bool((found.norm <= case.eps).all()):
        raise RuntimeError("a break did not hold when it was predicted again")
    return Measured(int(found.robust.sum()), seconds, found.forwards, found.backwards)
