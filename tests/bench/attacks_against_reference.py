"""The attack engine against pyautoattack, in one run and on the same threads; prints Markdown tables.

`python tests/bench/attacks_against_reference.py parity --images 200`: verdicts. One-sided: our robust count may be at
most the reference's plus max(1, its own spread over seeds), and every break has to hold when it is predicted again.

`python tests/bench/attacks_against_reference.py speed --images 200`: CPU seconds, the reference at its best batch size
of 32, 128 and n, for an undefended model at an eps where it falls (at least 15x), a robust one that pays the full
budget (at least 1.15x in float32, 1.8x with a bfloat16 search), and the passes of `fast` (at most an eighth).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pyautoattack import AutoAttack

from harness.attacks import Numerics, run_attack
from harness.data.digits import open_digits
from harness.spec import eps_text, parse_eps
from models_zoo import load_model

CASES: dict[str, dict[str, tuple[str, ...]]] = {
    "small_cnn.supervised.digits.s0": {
        "Linf": ("2/255", "4/255", "8/255"),
        "L2": ("0.3", "0.6", "1.2"),
        "L1": ("4", "8", "16"),
    },
    "small_cnn.adversarial-linf8.digits.s0": {
        "Linf": ("8/255", "16/255", "24/255"),
        "L2": ("1", "2", "3"),
        "L1": ("10", "20", "30"),
    },
}
"""Model -> norm -> an easy, a middle and a hard eps."""


UNDEFENDED, ROBUST = CASES
SPEED: tuple[tuple[str, str, dict[str, float]], ...] = (
    (UNDEFENDED, "12/255", {"float32": 15.0}),
    (ROBUST, "8/255", {"float32": 1.15, "bfloat16": 1.8}),
)
"""Model, eps, and the ratio wanted for each precision of the search."""


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `count` test digits: float NCHW images and labels."""
    data = open_digits("test")
    images = torch.from_numpy(np.array(data.images(0, count))).permute(0, 3, 1, 2).float().contiguous() / 255
    return images, torch.from_numpy(np.array(data.labels[:count]))


@dataclass(frozen=True)
class Case:
    """What is attacked, and with what."""

    model: torch.nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    norm: str
    eps: float
    attack: str


@dataclass(frozen=True)
class Measured:
    """What the engine found and spent."""

    robust: int
    seconds: float
    forwards: int
    backwards: int


def reference(case: Case, *, seed: int, batch: int) -> tuple[int, float]:
    """Robust count and CPU seconds of the package, called directly."""
    package = AutoAttack(case.model, norm=case.norm, eps=case.eps, version="standard", seed=seed)
    if case.attack != "standard":
        package.attacks_to_run = [case.attack]
    started = time.process_time()
    found, _ = package.run_standard_evaluation(case.images, case.labels, batch_size=batch)
    seconds = time.process_time() - started
    with torch.no_grad():
        return int((case.model(found).argmax(dim=1) == case.labels).sum()), seconds


def ours(case: Case, numerics: Numerics) -> Measured:
    """The engine on the same case; every break is predicted again."""
    options: dict[str, Any] = {}
    if case.norm == "L1":
        options = {"apgd-ce": {"restarts": 5}, "apgd-t": {"targets": 5}}.get(case.attack, {})
    name = "autoattack" if case.attack == "standard" else case.attack
    started = time.process_time()
    found = run_attack(
        case.model, case.images, case.labels, name, norm=case.norm, eps=case.eps, numerics=numerics, **options
    )
    seconds = time.process_time() - started
    with torch.no_grad():
        again = (case.model(found.adversarial).argmax(dim=1) == case.labels).numpy()
    if not np.array_equal(again, found.robust) or not bool((found.norm <= case.eps).all()):
        raise SystemExit("a break did not hold when it was predicted again")
    return Measured(int(found.robust.sum()), seconds, found.forwards, found.backwards)


def parity(given: argparse.Namespace) -> bool:
    """Compare verdicts attack by attack; true if all are within what is allowed."""
    numerics = Numerics(precision=given.precision)
    images, labels = pictures(given.images)
    out, good = sys.stdout, True
    out.write("| model | threat model | attack | reference, by seed | ours | s | s | forwards | backwards | |\n")
    out.write("|---|---|---|---|---|---|---|---|---|---|\n")
    cases = [(name, norm, text) for name in given.models for norm in given.norms for text in CASES[name][norm]]
    for name, norm, text in cases:
        model, eps = load_model(name).eval(), parse_eps(text)
        for attack in given.attacks:
            case = Case(model, images, labels, norm, eps, attack)
            runs = [reference(case, seed=seed, batch=given.images) for seed in range(given.seeds)]
            counts = [count for count, _ in runs]
            mine = ours(case, numerics)
            allowed = min(counts) + max(1, max(counts) - min(counts))
            good &= mine.robust <= allowed
            out.write(
                f"| {name} | {norm} {eps_text(eps)} | {attack} | {', '.join(map(str, counts))} | {mine.robust} "
                f"| {min(run[1] for run in runs):.1f} | {mine.seconds:.1f} | {mine.forwards} | {mine.backwards} "
                f"| {'ok' if mine.robust <= allowed else 'FAILS'} |\n"
            )
            out.flush()
    return good


def speed(given: argparse.Namespace) -> bool:
    """Compare times and the passes of `fast`; true if all ratios are reached."""
    images, labels = pictures(given.images)
    out, good = sys.stdout, True
    out.write("| model | threat model | search | robust (reference, ours) | s | s | ratio | wanted |\n")
    out.write("|---|---|---|---|---|---|---|---|\n")
    for name, text, wanted in SPEED:
        case = Case(load_model(name).eval(), images, labels, "Linf", parse_eps(text), "standard")
        runs = [reference(case, seed=0, batch=batch) for batch in sorted({32, 128, given.images})]
        count, seconds = min(runs, key=lambda run: run[1])
        for precision, least in wanted.items():
            numerics = Numerics(precision="bfloat16" if precision == "bfloat16" else "float32")
            # a fresh model: the reference is timed on one whose parameters require gradients, as users load it
            mine = ours(replace(case, model=load_model(name).eval()), numerics)
            good &= seconds / mine.seconds >= least
            out.write(
                f"| {name} | Linf {text} | {precision} | {count}, {mine.robust} | {seconds:.1f} | {mine.seconds:.1f} "
                f"| {seconds / mine.seconds:.2f} | {least} |\n"
            )
            out.flush()
    full, fast = (
        ours(Case(load_model(ROBUST).eval(), images, labels, "Linf", 8 / 255, attack), Numerics())
        for attack in ("standard", "fast")
    )
    out.write(
        f"\n`fast` on {ROBUST}, Linf 8/255: {fast.robust} robust against {full.robust}; "
        f"{fast.forwards} forwards (1/{full.forwards / fast.forwards:.1f}), "
        f"{fast.backwards} backwards (1/{full.backwards / fast.backwards:.1f})\n"
    )
    return good and 8 * fast.forwards <= full.forwards and 8 * fast.backwards <= full.backwards


def main(arguments: list[str]) -> int:
    """Run a comparison; exit code 1 if it falls short anywhere."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("parity", "speed"))
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", default=list(CASES))
    parser.add_argument("--norms", nargs="+", default=["Linf", "L2"])
    parser.add_argument("--attacks", nargs="+", default=["apgd-ce", "apgd-t", "fab-t", "square", "standard"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    return int(not (parity(given) if given.what == "parity" else speed(given)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
