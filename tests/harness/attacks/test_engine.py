"""The attacks of the engine: exact on linear models, bit-identical however they are batched, never above their cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.attacks import ATTACKS, AttackResult, Numerics, attack_blocks, fast, run_attack
from harness.attacks.arena import enter
from harness.attacks.catalogue import attack_cost
from harness.attacks.ensemble import finish
from harness.errors import InvalidArgument, UnknownName
from harness.types import Norm
from tests.harness.attacks.support import same

DUAL: dict[Norm, float] = {"Linf": 1, "L2": 2, "L1": np.inf}
EPS: dict[Norm, float] = {"Linf": 0.004, "L2": 0.1, "L1": 1.0}

QUICK: dict[str, dict[str, Any]] = {
    "apgd-ce": {"steps": 20, "restarts": 2},
    "apgd-dlr": {"steps": 12},
    "apgd-t": {"steps": 15, "targets": 3},
    "fab-t": {"steps": 10, "targets": 2},
    "fab": {"steps": 4, "restarts": 2},
    "square": {"queries": 60, "restarts": 2},
    "msd": {"steps": 8, "eps_linf": 0.004, "eps_l2": 0.1, "eps_l1": 1.0},
    "fast": {},
    "autoattack": {"version": "custom", "attacks": "fgsm,apgd-ce"},
}


def radius(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Distance of each image to the nearest other class, ignoring the box: min over j of (z_y - z_j) / |w_y - w_j|*."""
    weight = model.get_parameter("weight").detach().double()
    logits = model(images).detach().double()
    rows = torch.arange(len(images))
    apart = torch.linalg.vector_norm(weight[labels][:, None] - weight[None], ord=DUAL[norm], dim=2)
    distance = (logits[rows, labels][:, None] - logits) / apart
    distance[rows, labels] = torch.inf
    nearest: torch.Tensor = distance.amin(dim=1)
    return nearest


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("apgd-ce", {}),
        ("apgd-dlr", {}),
        ("apgd-t", {}),
        ("fab-t", {}),
        ("fab", {"restarts": 1}),
        ("fast", {}),
        ("autoattack", {"version": "custom", "attacks": "apgd-ce,apgd-t,fab-t"}),
    ],
)
def test_linear_models_fall_exactly_where_the_margin_says(
    norm: Norm,
    attack: str,
    options: dict[str, Any],
    linear: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
) -> None:
    """With images far from the box, an image is broken if and only if eps exceeds its distance to the boundary."""
    untargeted = attack in ("apgd-ce", "apgd-dlr")
    # untargeted losses follow the nearest class of the logits, which need not be the nearest in distance
    model = linear(2 if untargeted else 5, (3, 4, 4), centred=True)
    pictures = images(48, (3, 4, 4), low=0.45, high=0.55)
    labels = model(pictures).argmax(dim=1)
    exact = radius(model, pictures, labels, norm).numpy()
    eps = float(np.median(exact))
    # FAB overshoots the boundary by 5 % and comes back to within 1 %
    slack = 0.01 if attack in ("fab", "fab-t") else 1e-3
    found = run_attack(model, pictures, labels, attack, norm=norm, eps=eps, **options)
    assert bool(found.robust[exact > eps * (1 + 1e-4)].all())
    assert not bool(found.robust[exact < eps * (1 - slack)].any())
    assert 0 < found.robust.sum() < 48


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("attack", list(QUICK))
def test_promise_a(
    norm: Norm,
    attack: str,
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """Batch sizes 1, 17 and 256, another order, a subset, and blocks in one pool give the same bits and costs."""
    model, pictures = small_conv(), images(30, (3, 8, 8))
    labels = own_labels(model, pictures)
    labels[::9] = (labels[::9] + 1) % 10

    def run(rows: torch.Tensor, batch: int | None) -> AttackResult:
        return run_attack(
            model, pictures[rows], labels[rows], attack, norm=norm, eps=EPS[norm], seed=5, indices=rows,
            batch_size=batch, **QUICK[attack],
        )  # fmt: skip

    everything = torch.arange(30)
    base = run(everything, 32)
    for batch in (1, 17, 256):
        same(base, run(everything, batch), everything)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    same(base, run(order, 16), order)
    same(base, run(everything[13:28], None), everything[13:28])
    blocks = attack_blocks(
        model, pictures, labels, [10, 15, 5], attack, norm=norm, eps=EPS[norm], seed=5, batch_size=16, **QUICK[attack]
    )
    spans = {0: everything[:10], 1: everything[10:25], 2: everything[25:]}
    for number, result in blocks:
        same(base, result, spans.pop(number))
    assert not spans


@pytest.mark.parametrize("attack", list(QUICK))
@pytest.mark.parametrize("norm", ["Linf", "L1"])
def test_cost_stays_below_what_was_planned(
    attack: str,
    norm: Norm,
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """The catalogue's budget bounds every image; survivors of a tiny ball come close to it."""
    model, pictures = small_conv(), images(16, (3, 8, 8))
    labels = own_labels(model, pictures)
    entry = ATTACKS.get(attack)
    forwards, backwards = entry.budget(entry.complete(QUICK[attack]), 10)
    for eps in (1e-6, EPS[norm]):
        found = run_attack(model, pictures, labels, attack, norm=norm, eps=eps, **QUICK[attack])
        assert found.forwards_per_image.max() <= forwards
        assert found.backwards_per_image.max() <= backwards
        if eps == 1e-6 and attack != "fast":
            assert found.forwards_per_image.max() >= 0.8 * forwards - 5


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("attack", [name for name in QUICK if name != "autoattack"])
def test_few_classes(
    classes: int, attack: str, linear: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """Two and three classes have fallbacks: a generous ball breaks everything that white-box attacks see."""
    model, pictures = linear(classes, (3, 6, 6), scale=0.05), images(20, (3, 6, 6))
    labels = model(pictures).argmax(dim=1)
    found = run_attack(model, pictures, labels, attack, eps=0.5, **QUICK[attack])
    if attack != "square":
        assert not found.robust.any()


def test_broken_images_leave_at_once(
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """At an eps where the model falls, an image costs a handful of passes, not a hundred steps."""
    model, pictures = small_conv(), images(64)
    found = run_attack(model, pictures, own_labels(model, pictures), "autoattack", eps=0.05)
    assert not found.robust.any()
    assert found.forwards <= 64 * 6
    assert set(found.broken_by) == {"apgd-ce"}


def test_blocks_come_out_when_they_are_done(
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """A block of images that fall is yielded before the work on one that stands, even if it comes later."""
    model, pictures = small_conv(), images(48, (3, 8, 8))
    labels = own_labels(model, pictures)
    margins = run_attack(model, pictures, labels, "fgsm", eps=1e-6).margin
    order = torch.from_numpy(np.argsort(-margins).copy())
    calls = attack_blocks(
        model, pictures[order], labels[order], [16, 32], "apgd-ce", eps=0.003, steps=40, batch_size=48
    )
    numbers = [number for number, _ in calls]
    assert sorted(numbers) == [0, 1]
    with pytest.raises(InvalidArgument, match="blocks"):
        next(attack_blocks(model, pictures, labels, [16, 16], "pgd"))


def test_low_precision_breaks_hold_in_float32(
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """With bf16 search every break is one of the model as given; the search loses next to nothing by it."""
    model, pictures = small_conv(), images(32, (3, 8, 8))
    labels = own_labels(model, pictures)
    options: dict[str, Any] = {"version": "custom", "attacks": "apgd-ce", "eps": 0.004}
    exact = run_attack(model, pictures, labels, **options)
    low = run_attack(model, pictures, labels, numerics=Numerics(precision="bfloat16"), **options)
    with torch.no_grad():
        again = (model(low.adversarial).argmax(dim=1) == labels).numpy()
    assert np.array_equal(again, low.robust)
    assert bool((low.norm <= 0.004).all())
    assert 0 < exact.robust.sum() < 30
    # the float32 finish of a low-precision search aims at targets: it may find more, not less
    assert int((low.robust & ~exact.robust).sum()) <= 1
    same(low, run_attack(model, pictures, labels, numerics=Numerics(precision="bfloat16"), batch_size=16, **options),
         torch.arange(32))  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "options"),
    [("fgsm", {}), ("pgd", {}), ("fab-distance", {}), ("autoattack:reference", {}), ("bisect", {"inner": "pgd"})],
)
def test_low_precision_is_for_ensembles(attack: str, options: dict[str, Any], linear: Callable[..., nn.Module]) -> None:
    """A single attack with a targeted search after it would not be what its name says."""
    pictures = torch.full((4, 3, 4, 4), 0.5)
    with pytest.raises(
        InvalidArgument, match=r"search_precision.*float32 for .*; the others are for autoattack, worst_of, fast"
    ):
        run_attack(
            linear(4, (3, 4, 4)), pictures, torch.zeros(4, dtype=torch.int64), attack,
            numerics=Numerics(precision="bfloat16"), **options,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "options"),
    [
        ("autoattack", {"version": "custom", "attacks": "fgsm"}),
        ("worst_of", {"attacks": "fgsm,pgd"}),
        ("fast", {}),
        ("bisect", {"inner": "fast", "levels": 3}),
    ],
)
def test_the_finish_is_in_the_cost(
    attack: str,
    options: dict[str, Any],
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
) -> None:
    """What stands against everything has paid the float32 finish, and not more than was announced."""
    model, pictures = small_conv(), images(16, (3, 8, 8))
    found = run_attack(
        model, pictures, own_labels(model, pictures), attack, eps=1e-5, numerics=Numerics(precision="bfloat16"),
        **options,
    )  # fmt: skip
    assert found.robust.all()
    complete = ATTACKS.get(attack).complete(options)
    classes = model(pictures[:1]).shape[1]
    exact, low = (attack_cost(attack, complete, classes, precision) for precision in ("float32", "bfloat16"))
    assert found.forwards_per_image.max() <= low[0]
    assert exact[1] < found.backwards_per_image.max() <= low[1]


class Spike(nn.Module):
    """Two logits with a margin of 1 and no slope, but around one point, where it falls to -1."""

    def __init__(self, point: torch.Tensor) -> None:
        super().__init__()
        self.point = nn.Parameter(point)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        margin = 1 - 2 * (1 - 20 * (images - self.point).abs().mean(dim=(1, 2, 3))).relu()
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)


@pytest.mark.parametrize("seen", [True, False])
def test_a_finish_goes_on_from_the_closest_point(seen: bool) -> None:
    """Found from what the search in low precision came closest with, and by no search from random points."""
    pictures, point = torch.full((16, 3, 4, 4), 0.5), torch.full((3, 4, 4), 0.6)
    arena = enter(
        Spike(point).eval(), pictures, torch.zeros(16, dtype=torch.int64), norm="Linf", eps=0.2, seed=0,
        indices=np.arange(16), batch=None, fixed_batch=None,
    )  # fmt: skip
    arena.speed_up(Numerics(precision="bfloat16"))
    assert arena.memory is not None
    if seen:
        arena.memory.point, arena.memory.margin = pictures + 0.07, torch.full((16,), 0.2)
    for _ in finish(arena):
        continue
    found = arena.result()
    assert set(found.broken_by) == ({"apgd-t-finish"} if seen else {""})
    assert arena.numerics.precision == "float32"


def test_both_halves_of_fast_and_standard_search_alike(
    small_conv: Callable[..., nn.Module],
    images: Callable[..., torch.Tensor],
    own_labels: Callable[[nn.Module, torch.Tensor], torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The float32 finish comes once, after both."""
    seen: list[tuple[str, str]] = []
    for name in ("run_autoattack", "finish"):
        real = getattr(fast, name)

        def noted(arena: Any, *rest: Any, name: str = name, real: Any = real) -> Any:
            seen.append((name, arena.numerics.precision))
            return real(arena, *rest) if name == "finish" else iter(())

        monkeypatch.setattr(fast, name, noted)
    model, pictures = small_conv(), images(16, (3, 8, 8))
    labels = own_labels(model, pictures)
    run_attack(model, pictures, labels, "fast+standard", eps=1e-5, numerics=Numerics(precision="bfloat16"))
    assert seen == [("run_autoattack", "bfloat16")]


def test_randomised_models_are_judged_by_their_mean(images: Callable[..., torch.Tensor]) -> None:
    """Version `rand` averages gradients and predictions: noise alone breaks nothing that stands in the mean."""
    weight = torch.randn(5, 48, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)

    def model(images: torch.Tensor) -> torch.Tensor:
        logits = (images.flatten(1) - 0.5) @ weight.T
        return logits + 0.3 * torch.randn(logits.shape, generator=noise)

    pictures = images(64, (3, 4, 4))
    clean = (pictures.flatten(1) - 0.5) @ weight.T
    top = clean.topk(2, dim=1).values
    sure = top[:, 0] - top[:, 1] > 1.5
    pictures, labels = pictures[sure], clean.argmax(dim=1)[sure]
    calm = run_attack(model, pictures, labels, "autoattack", version="rand", eps=1e-4)
    assert calm.robust.mean() > 0.95
    assert not run_attack(model, pictures, labels, "autoattack", version="rand", eps=0.5).robust.any()


def test_lists_of_members_are_checked(linear: Callable[..., nn.Module], images: Callable[..., torch.Tensor]) -> None:
    """Unknown members are refused with the nearest name; empty lists too."""
    model, pictures = linear(5, (3, 6, 6), scale=0.02), images(4, (3, 6, 6))
    labels = model(pictures).argmax(dim=1)
    with pytest.raises(UnknownName, match="did you mean 'square'"):
        run_attack(model, pictures, labels, "worst_of", attacks="pgd,sqare", eps=1e-3)
    with pytest.raises(UnknownName, match="unknown attack ''"):
        run_attack(model, pictures, labels, "autoattack", version="custom", attacks=" , ", eps=1e-3)
    both = run_attack(model, pictures, labels, "worst_of", attacks="fgsm, pgd", eps=0.5)
    assert not both.robust.any()
