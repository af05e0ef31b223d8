"""Work ahead: spare rows of a batch that make later runs change nothing but the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.attacks import AttackResult, engine, run_attack
from harness.attacks.apgd import auto_pgd
from harness.attacks.arena import Arena, enter
from harness.attacks.draws import random_start
from harness.attacks.physical import Passes
from harness.errors import NonFiniteGradients
from harness.types import Norm
from tests.harness.attacks.support import same

EPS: dict[Norm, float] = {"Linf": 0.004, "L2": 0.06, "L1": 0.6}
AHEAD: dict[str, dict[str, Any]] = {
    "apgd-ce": {"steps": 20, "restarts": 4},
    "apgd-t": {"steps": 12, "targets": 6},
    "fab-t": {"steps": 10, "targets": 6},
    "fab": {"steps": 4, "restarts": 4},
    "pgd": {"steps": 6, "restarts": 7},
    "square": {"queries": 25, "restarts": 5},
}


@pytest.mark.parametrize("refusing", [False, True])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("attack", list(AHEAD))
def test_work_ahead_changes_nothing_but_the_time(
    norm: Norm,
    attack: str,
    refusing: bool,
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Spare rows that make later runs: the bits and costs of one run after the other, here in no more physical rows.

    Also where the judge refuses what the search found, so that runs go on after a hit.
    """
    model, pictures = small_conv(), images(21, (3, 8, 8))
    labels = own_labels(model, pictures)
    propose, passes = Arena.propose, Passes.logits

    def picky(
        arena: Arena, rows: torch.Tensor, candidates: torch.Tensor, name: str, steps: torch.Tensor, runs: torch.Tensor
    ) -> torch.Tensor:
        held = torch.zeros(len(rows), dtype=torch.bool)
        fine = (rows + 2 * runs + steps) % 5 == 0
        if bool(fine.any()):
            held[fine] = propose(arena, rows[fine], candidates[fine], name, steps[fine], runs[fine])
        return held

    if refusing:
        monkeypatch.setattr(Arena, "propose", picky)
    batches: list[int] = []

    def gradient(self: Passes, batch: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        batches.append(len(batch))
        return slope(self, batch, *rest)

    def logits(self: Passes, batch: torch.Tensor) -> torch.Tensor:
        batches.append(len(batch))
        return passes(self, batch)

    slope = Passes.gradient
    monkeypatch.setattr(Passes, "gradient", gradient)
    monkeypatch.setattr(Passes, "logits", logits)
    results, rows = [], []
    for ahead in (True, False):
        if not ahead:
            monkeypatch.setattr(engine._Batch, "_fill", lambda _batch: None)
        batches.clear()
        results.append(run_attack(model, pictures, labels, attack, norm=norm, eps=EPS[norm], seed=2, **AHEAD[attack]))
        rows.append(sum(batches))
    same(results[1], results[0], torch.arange(21))
    assert 0 < results[0].robust.sum() < 21
    assert rows[0] <= rows[1]


def test_two_images_go_through_their_targets_at_the_same_time(
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two images, nine targets, sixteen rows: two rounds of steps instead of nine; the costs are those of all nine."""
    model, pictures = small_conv(), images(2, (3, 8, 8))
    calls: list[int] = []
    gradient = Passes.gradient

    def counted(self: Passes, batch: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        calls.append(len(batch))
        return gradient(self, batch, *rest)

    monkeypatch.setattr(Passes, "gradient", counted)
    found = run_attack(model, pictures, own_labels(model, pictures), "apgd-t", eps=1e-6, steps=20)
    assert found.robust.all()
    assert len(calls) == 2 * 20
    assert found.backwards_per_image.tolist() == [9 * 20] * 2


@pytest.mark.parametrize("falls", [True, False])
def test_what_is_not_finite_counts_when_its_turn_comes(
    falls: bool,
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """NaN gradients where a later restart begins: nothing for an image that falls before, else an error."""
    model, pictures = small_conv(), images(9, (3, 8, 8))
    labels, eps = own_labels(model, pictures), EPS["Linf"]

    def run(rows: torch.Tensor) -> AttackResult:
        return run_attack(
            model, pictures[rows], labels[rows], "pgd", eps=eps, seed=5, indices=rows, steps=6, restarts=3
        )

    everything = torch.arange(9)
    expected = run(everything)
    assert set(expected.runs) == {-1, 0}
    image = int(np.flatnonzero((expected.runs == 0) == falls)[0])
    arena = enter(
        model, pictures, labels, norm="Linf", eps=eps, seed=5, indices=np.arange(9), batch=16, fixed_batch=None
    )
    point = random_start(arena, "attack/pgd", torch.tensor([image]), torch.tensor([1]))
    gradient = Passes.gradient

    def not_finite_there(self: Passes, batch: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        if bool((batch == point).flatten(1).all(dim=1).any()):
            raise NonFiniteGradients("model: its gradient is not finite")
        return gradient(self, batch, *rest)

    monkeypatch.setattr(Passes, "gradient", not_finite_there)
    for rows in (everything, torch.tensor([image])):
        if falls:
            same(expected, run(rows), rows)
        else:
            with pytest.raises(NonFiniteGradients):
                run(rows)


def test_a_row_taken_back_is_what_was_put_aside(
    small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """Also where two names of the state are one tensor, as a candidate and the point that the search is at."""
    pictures = images(1, (3, 8, 8))
    arena = enter(
        small_conv(), pictures, torch.zeros(1, dtype=torch.int64), norm="Linf", eps=0.1, seed=0, indices=np.arange(1),
        batch=16, fixed_batch=None,
    )  # fmt: skip
    batch = engine._Batch(auto_pgd(arena, name="apgd-t", steps=5, loss="targeted", runs=3), [0], final=True)
    batch.state["adv"] = batch.state["adv"] + 1.0
    batch._set_aside(1)
    batch.state["adv"] = batch.state["candidate"]
    (row,) = batch.parked.values()
    batch._put(2, row)
    assert torch.equal(batch.state["adv"][2], row["adv"])
    assert torch.equal(batch.state["candidate"][2], row["candidate"])
    assert not torch.equal(row["adv"], row["candidate"])
