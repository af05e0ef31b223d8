"""`make bench`: attacks against pyautoattack on one thread, passes of `fast`, and what the harness costs beside passes.

Full budgets take minutes on a processor, so images are few here; `python -m tests.bench.attack_parity` compares
verdicts on more. Processor time of the process is taken, both sides in one run, the package at its best batch size.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch

from harness.attacks import Numerics, run_attack
from harness.attacks.physical import Passes, chunks
from harness.spec import parse_eps
from models_zoo import list_models
from tests.bench.attack_cases import (
    PACKAGE_MODEL,
    SUBJECTS,
    Case,
    Measured,
    load,
    ours,
    pictures,
    reference,
)

UNDEFENDED, ROBUST, ROBUST_PHOTOGRAPHS, _ = (subject.model for subject in SUBJECTS)
HAS_BF16 = torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def digits_case(model: str, eps: str, images: int, attack: str = "standard") -> Case:
    """A digits model in Linf."""
    return Case(load(model), *pictures(images), "Linf", parse_eps(eps), attack)


def best_reference(case: Case) -> Measured:
    """The package at its best batch size of 32, 128 and n."""
    n = len(case.images)
    return min(
        (reference(case, seed=0, batch=batch) for batch in sorted({min(size, n) for size in (32, 128, n)})),
        key=lambda found: found.seconds,
    )


def tell(title: str, case: Case, package: Measured, engine: Measured) -> float:
    """Print both sides and give the ratio of times."""
    ratio = package.seconds / engine.seconds
    sys.stdout.write(
        f"\n{title}, {case.norm} {case.eps:.4g}, {len(case.images)} images: {package.robust} and {engine.robust} "
        f"stand; {package.seconds:.1f} s and {engine.seconds:.1f} s, ratio {ratio:.2f}; "
        f"forwards {package.forwards} and {engine.forwards}, backwards {package.backwards} and {engine.backwards}\n"
    )
    return ratio


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.bench
@pytest.mark.parametrize("subject", ["digits", "photographs"])
def test_undefended_models_fall_fifteen_times_as_fast(subject: str) -> None:
    """AutoAttack standard where nothing survives: 200 digits, 24 photographs."""
    if subject == "digits":
        case = digits_case(UNDEFENDED, "12/255", 200)
    else:
        case = Case(load(PACKAGE_MODEL), *pictures(24, photographs=True), "Linf", parse_eps("8/255"), "standard")
    package = best_reference(case)
    engine = ours(Case(*_fresh(case, UNDEFENDED if subject == "digits" else PACKAGE_MODEL)), Numerics())
    ratio = tell(f"standard, undefended, {subject}", case, package, engine)
    assert package.robust == engine.robust == 0
    assert ratio >= 15


def _fresh(case: Case, model: str) -> tuple[Any, ...]:
    """The case with a model as users load it: the package leaves its own without parameter gradients."""
    return load(model), case.images, case.labels, case.norm, case.eps, case.attack


def _full_budget(name: str, make: Callable[[], Case]) -> None:
    package = best_reference(make())
    plain = ours(make(), Numerics())
    assert plain.robust <= package.robust + 1
    assert tell(f"standard, full budget, {name}, float32", make(), package, plain) >= 1.15
    if HAS_BF16:
        low = ours(make(), Numerics(precision="bfloat16"))
        assert low.robust <= package.robust + 1
        assert tell(f"standard, full budget, {name}, bfloat16 search", make(), package, low) >= 1.8


@pytest.mark.bench
def test_full_budget_on_digits() -> None:
    """The adversarially trained digits model, where nearly all images survive."""
    _full_budget(ROBUST, lambda: digits_case(ROBUST, "8/255", 96))


@pytest.mark.bench
def test_full_budget_on_photographs() -> None:
    """The adversarially trained `resnet20` on 24 photographs, of which 16 stand: one full physical batch.

    Batches are filled up to multiples of 16 rows, so that outcomes do not depend on them; where ten images stand, six
    rows of sixteen are filling, and the ratio falls below 1.
    """
    if ROBUST_PHOTOGRAPHS not in list_models():
        pytest.skip(f"{ROBUST_PHOTOGRAPHS} is not bundled")
    _full_budget(
        ROBUST_PHOTOGRAPHS,
        lambda: Case(load(ROBUST_PHOTOGRAPHS), *pictures(24, photographs=True), "Linf", parse_eps("2/255"), "standard"),
    )


@pytest.mark.bench
@pytest.mark.parametrize(("model", "eps"), [(UNDEFENDED, "2/255"), (ROBUST, "8/255")])
def test_fast_takes_an_eighth_of_the_passes(model: str, eps: str) -> None:
    """`fast` against `standard`, both ours: an eighth of the passes at most, and at most one more image stands."""
    full, fast = (ours(digits_case(model, eps, 64, attack), Numerics()) for attack in ("standard", "fast"))
    sys.stdout.write(
        f"\nfast, {model}, Linf {eps}, 64 images: {fast.robust} stand against {full.robust}; forwards "
        f"1/{full.forwards / fast.forwards:.1f}, backwards 1/{full.backwards / fast.backwards:.1f}\n"
    )
    assert 8 * fast.forwards <= full.forwards
    assert 8 * fast.backwards <= full.backwards
    assert full.robust <= fast.robust <= full.robust + 1


@pytest.mark.bench
@pytest.mark.parametrize("attack", ["pgd", "standard"])
def test_the_harness_costs_little_beside_the_passes(attack: str) -> None:
    """ResNet-18: `run_attack` against a bare loop over exactly the same passes of the same networks, at most 1.10."""
    model, (images, labels) = load(PACKAGE_MODEL), pictures(64, photographs=True)
    name = "autoattack" if attack == "standard" else attack
    calls: list[tuple[Any, torch.Tensor, bool]] = []
    logits, gradient = Passes.logits, Passes.gradient

    def seen(passes: Passes, batch: torch.Tensor, differentiate: bool) -> None:
        cut = chunks(len(batch), passes.batch_size, passes.fixed_batch)
        calls.extend((passes.model, chunk.take(batch).detach().clone(), differentiate) for chunk in cut)

    def logits_seen(self: Passes, batch: torch.Tensor) -> torch.Tensor:
        seen(self, batch, False)
        return logits(self, batch)

    def gradient_seen(self: Passes, batch: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
        seen(self, batch, True)
        return gradient(self, batch, *rest)

    with mock.patch.object(Passes, "logits", logits_seen), mock.patch.object(Passes, "gradient", gradient_seen):
        run_attack(model, images, labels, name, eps="8/255")
    ratios = []
    for _ in range(3):
        started = time.process_time()
        run_attack(model, images, labels, name, eps="8/255")
        whole = time.process_time() - started
        started = time.process_time()
        for network, batch, differentiate in calls:
            _bare_pass(network, batch, differentiate)
        ratios.append(whole / (time.process_time() - started))
    ratio = sorted(ratios)[1]
    sys.stdout.write(f"\nharness overhead, {attack}, ResNet-18, 64 images, {len(calls)} batches: {ratio:.3f}\n")
    assert ratio <= 1.10


def _bare_pass(network: Any, batch: torch.Tensor, differentiate: bool) -> None:
    """One forward pass, and one backward pass to the images."""
    if not differentiate:
        with torch.no_grad():
            network(batch)
        return
    batch.requires_grad_()
    value = network(batch).logsumexp(dim=1).sum()
    torch.autograd.grad(value, batch)
