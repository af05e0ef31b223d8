"""Attacks that leave the size of the smallest perturbation behind: `bisect` and `fab-distance`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from harness.attacks import ATTACKS, AttackResult, attack_blocks, distances, losses, run_attack
from harness.attacks.catalogue import attack_bound, attack_version
from harness.attacks.curves import bisect, radii
from harness.attacks.examples import as_float
from harness.attacks.physical import predict
from harness.benchmarks.loader import Group, perturbations
from harness.data import open_dataset
from harness.errors import InvalidArgument
from harness.spec import AttackSpec
from harness.types import Norm
from models_zoo import load_model
from tests.harness.attacks.support import same
from tests.harness.attacks.test_linear import radii as closed_form

Make = Callable[..., nn.Module]
Images = Callable[..., torch.Tensor]
Labels = Callable[[nn.Module, torch.Tensor], torch.Tensor]
NORMS: tuple[Norm, ...] = ("Linf", "L2", "L1")
EPS: dict[Norm, float] = {"Linf": 0.02, "L2": 0.4, "L1": 6.0}
TOP: dict[Norm, float] = {"Linf": 0.006, "L2": 0.1, "L1": 1.2}


def broken_at(found: AttackResult) -> NDArray[np.float64]:
    """Size of the smallest break, infinite where there is none."""
    return np.where(found.robust, np.inf, found.norm)


@pytest.mark.parametrize("norm", NORMS)
def test_bisection_on_two_classes_is_the_closed_form(norm: Norm, linear: Make, images: Images) -> None:
    """With a linear model of two classes, far from the box, verdicts at all radii follow from the margin alone.

    PGD that moves one coordinate a step is exact in L1, too; APGD moves several, so that its L1 balls are not used up:
    there its sizes are held from below by the closed form, and from above by 12 % and a step of the grid.
    """
    model, pictures = linear(2, (3, 4, 4), scale=0.05), images(32, (3, 4, 4), low=0.45, high=0.55)
    labels = model(pictures).argmax(dim=1)
    exact = closed_form(model, pictures, labels, norm)
    labels[0] = 1 - labels[0]
    exact[0] = 0.0
    grid = radii(float(np.quantile(exact, 0.8)), 6)
    curve = bisect(model, pictures, labels, grid, attack="pgd", norm=norm, top=1)
    for radius, robust in zip(grid, curve.robust, strict=True):
        clear = np.abs(exact / radius - 1) > 2e-3
        assert bool((robust == (exact > radius))[clear].all())
        assert 0.1 < robust.mean() < 1
    found = run_attack(model, pictures, labels, "bisect", norm=norm, eps=grid[-1], inner="apgd-ce", levels=6)
    size = broken_at(found)
    assert size[0] == 0
    assert found.broken_by[0] == "clean"
    assert bool((size >= exact * (1 - 1e-4)).all())
    slack = 1.12 if norm == "L1" else 1.002
    near = exact * slack < grid[-1]
    assert near.sum() >= 8
    assert bool((size[near] <= exact[near] * slack + grid[0]).all())


@pytest.mark.parametrize("norm", NORMS)
def test_distances_on_a_linear_model_are_the_closed_form(norm: Norm, linear: Make, images: Images) -> None:
    """Sizes within 2 % of the distance to the nearest of five classes; images beyond eps count as standing."""
    model, pictures = linear(5, (3, 4, 4), scale=0.05, centred=True), images(40, (3, 4, 4), low=0.45, high=0.55)
    labels = model(pictures).argmax(dim=1)
    exact = closed_form(model, pictures, labels, norm)
    eps = float(np.quantile(exact, 0.7))
    found = run_attack(model, pictures, labels, "fab-distance", norm=norm, eps=eps)
    clear = np.abs(exact / eps - 1) > 0.02
    assert bool((found.robust == (exact > eps))[clear].all())
    inside = clear & (exact < eps)
    assert inside.sum() >= 20
    assert np.all(found.norm[inside] >= exact[inside] * (1 - 1e-4))
    assert np.all(found.norm[inside] <= exact[inside] * 1.02)
    assert {name for name, held in zip(found.broken_by, found.robust, strict=True) if not held} == {"fab-t"}


@pytest.mark.parametrize(("norm", "inner"), [("Linf", "pgd"), ("L2", "pgd"), ("L1", "pgd"), ("Linf", "fast")])
def test_bisection_is_that_of_separate_runs(
    norm: Norm, inner: str, small_conv: Make, images: Images, own_labels: Labels
) -> None:
    """Against the same attack run at each radius by itself: what is stored is one of its finds, to the bit.

    The radius below the smallest break was looked at and stood. At all other radii the two may differ only where the
    attack fails in a larger ball than one in which it succeeded.
    """
    model, pictures = small_conv(), images(40)
    labels = own_labels(model, pictures)
    labels[3] = (labels[3] + 1) % 10
    levels, grid = 6, radii(TOP[norm], 6)
    found = run_attack(model, pictures, labels, "bisect", norm=norm, eps=TOP[norm], inner=inner, levels=levels, seed=4)
    direct = [run_attack(model, pictures, labels, inner, norm=norm, eps=eps, seed=4) for eps in grid]
    robust = np.stack([run.robust for run in direct])
    size = broken_at(found)
    curve = size[None, :] > np.asarray(grid)[:, None]
    assert 0.1 < curve[-1].mean() < curve[0].mean() < 1
    assert (curve != robust).mean() <= 0.02
    for place in range(40):
        level = int(np.searchsorted(grid, size[place], side="left"))
        if place == 3:
            assert (size[place], found.broken_by[place]) == (0.0, "clean")
            continue
        if level > 0:
            assert robust[level - 1, place]
        if level < levels:
            made = [run for run in direct if torch.equal(run.adversarial[place], found.adversarial[place])]
            assert made
            assert (made[0].norm[place], made[0].steps[place]) == (size[place], found.steps[place])
    most = ATTACKS.get("bisect").budget({"inner": inner, "levels": levels}, 10)
    assert found.forwards_per_image.max() <= most[0]
    assert found.backwards_per_image.max() <= most[1]
    assert most[1] == 3 * ATTACKS.get(inner).budget(ATTACKS.get(inner).complete({}), 10)[1]


@pytest.mark.parametrize(("attack", "options"), [("bisect", {"inner": "pgd", "levels": 3}), ("fab-distance", {})])
@pytest.mark.parametrize("norm", NORMS)
def test_outcomes_do_not_depend_on_batches_order_or_company(
    attack: str, options: dict[str, Any], norm: Norm, small_conv: Make, images: Images, own_labels: Labels
) -> None:
    """Promise A: batch sizes, a permutation and a cut into blocks give the same bits and costs."""
    if attack == "fab-distance":
        options = {"steps": 8, "targets": 3}
    model, pictures = small_conv(), images(24)
    labels = own_labels(model, pictures)
    labels[::7] = (labels[::7] + 1) % 10

    def run(rows: torch.Tensor, batch: int) -> AttackResult:
        return run_attack(
            model, pictures[rows], labels[rows], attack, norm=norm, eps=EPS[norm], indices=rows, batch_size=batch,
            **options,
        )  # fmt: skip

    everything = torch.arange(24)
    base = run(everything, 64)
    assert 0 < base.norm.max() <= EPS[norm]
    same(base, run(everything, 1))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    same(base, run(order, 17), order)
    blocks = dict(
        attack_blocks(model, pictures, labels, [16, 8], attack, norm=norm, eps=EPS[norm], indices=everything, **options)
    )
    same(base, blocks[0], slice(0, 16))
    same(base, blocks[1], slice(16, 24))


def test_blocks_come_out_as_they_are_done(small_conv: Make, images: Images, own_labels: Labels) -> None:
    """A block that is wrong clean is settled before the search of the other one begins."""
    model, pictures = small_conv(), images(32)
    labels = own_labels(model, pictures)
    labels[16:] = (labels[16:] + 1) % 10
    found = attack_blocks(model, pictures, labels, [16, 16], "bisect", eps=0.01, inner="fgsm", levels=3)
    number, result = next(found)
    assert number == 1
    assert not result.robust.any()
    assert result.forwards == 16
    assert [number for number, _ in found] == [0]


def test_what_runs_inside_enters_version_and_bound() -> None:
    """Another attack inside is another version; `fast` inside makes the curve an upper bound."""
    versions = {name: attack_version("bisect", {"inner": name, "levels": 3}) for name in ("fast", "pgd", "apgd-t")}
    assert versions["fast"] == f"1+fast-{ATTACKS.get('fast').version}"
    assert versions["pgd"].startswith(f"1+pgd-{ATTACKS.get('pgd').version}-")
    assert len(set(versions.values())) == 3
    assert attack_version("pgd", {}) == ATTACKS.get("pgd").version
    assert [attack_bound("bisect", {"inner": name}) for name in ("fast", "pgd")] == ["upper", "exact"]
    assert [attack_bound(name, {}) for name in ("fast", "fab-distance")] == ["upper", "exact"]
    group = Group(id="curve", kind="attack", images=8, attack="bisect", norm="L2", eps="1.5")
    (spec,) = perturbations(group, 0, 8, 8)
    assert isinstance(spec, AttackSpec)
    assert (spec.version, dict(spec.options)) == (versions["fast"], {"inner": "fast", "levels": 15})


def test_bad_options_are_refused(linear: Make, images: Images) -> None:
    """No radii, an attack that cannot be run inside, and itself."""
    model, pictures = linear(3, (3, 4, 4)), images(4, (3, 4, 4))
    labels = model(pictures).argmax(dim=1)
    bad: tuple[dict[str, Any], ...] = ({"levels": 0}, {"inner": "bisect"}, {"inner": "autoattack:reference"})
    for options in bad:
        with pytest.raises(InvalidArgument, match=r"levels|inner"):
            run_attack(model, pictures, labels, "bisect", **options)


def test_the_grid_ends_at_eps() -> None:
    """Equal steps; the last is the radius itself, to the bit."""
    for eps in (8 / 255, 0.1, 12.0, 0.30000000000000004):
        for levels in (1, 3, 7, 49):
            grid = radii(eps, levels)
            assert len(grid) == levels
            assert grid[-1] == eps
            assert np.allclose(np.diff((0.0, *grid)), eps / levels)


def test_each_radius_starts_from_the_clean_image(
    small_conv: Make, images: Images, own_labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a larger ball found is no start for a smaller one: margin and logits are the clean image's again."""
    model, pictures = small_conv(), images(24, (3, 10, 10))
    labels = own_labels(model, pictures)
    seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    make = distances._ball

    def recorded(*given: Any) -> Any:
        ball = make(*given)
        seen.append((given[1].clone(), ball.verdicts.margin.clone(), ball.verdicts.scale.clone()))
        return ball

    monkeypatch.setattr(distances, "_ball", recorded)
    run_attack(model, pictures, labels, "bisect", eps=0.02, inner="pgd", levels=15)
    logits = predict(model, pictures)
    margin, scale = losses.margin(logits, labels), logits.abs().amax(dim=1)
    assert len({int(row) for rows, _, _ in seen for row in rows}) == 24
    assert sum(len(rows) for rows, _, _ in seen) > 48
    for rows, started, size in seen:
        assert torch.equal(started, margin[rows])
        assert torch.equal(size, scale[rows])


def test_low_precision_of_a_single_attack_is_no_benchmark() -> None:
    """Refused when the benchmark is read, not when it runs."""
    group = Group(id="low", kind="attack", images=8, attack="pgd", norm="L2", eps="1.5", search_precision="bfloat16")
    with pytest.raises(InvalidArgument, match="search_precision: got 'bfloat16', expected float32 for pgd"):
        perturbations(group, 0, 8, 8)
    (spec,) = perturbations(replace(group, attack="fast"), 0, 8, 8)
    assert isinstance(spec, AttackSpec)
    assert spec.search_precision == "bfloat16"


def test_the_shortest_find_is_across_whatever_the_kernels() -> None:
    """Only one point of an image is judged: its margin is not one that folding or another kernel turns round."""
    data = open_dataset("digits")
    pictures = torch.from_numpy(as_float(data.images(0, 100)))
    model, labels = load_model("small_cnn.supervised.digits.s0"), torch.from_numpy(data.labels[:100].copy())
    found = run_attack(model, pictures, labels, "fab-distance", norm="L2", eps=3.0, steps=20, targets=3)
    moved = ~found.robust & (found.norm > 0)
    assert moved.sum() > 90
    assert (found.margin[moved] < -5e-6 * found.scale[moved]).all()
