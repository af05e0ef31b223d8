"""Verdict parity with pyautoattack: `python tests/bench/attack_parity.py --images 200`; prints a Markdown table.

One-sided: our robust count may be at most the reference's plus max(1, its own spread over seeds).
"""

from __future__ import annotations

import argparse
import sys
import time

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


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `count` test digits: float NCHW images and labels."""
    data = open_digits("test")
    images = torch.from_numpy(np.array(data.images(0, count))).permute(0, 3, 1, 2).float().contiguous() / 255
    return images, torch.from_numpy(np.array(data.labels[:count]))


def reference(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: str,
    eps: float,
    attack: str,
    seed: int,
    batch: int,
) -> tuple[int, float]:
    """Robust count and CPU seconds of the package, called directly."""
    package = AutoAttack(model, norm=norm, eps=eps, version="standard", seed=seed)
    if attack != "standard":
        package.attacks_to_run = [attack]
    started = time.process_time()
    found, _ = package.run_standard_evaluation(images, labels, batch_size=batch)
    seconds = time.process_time() - started
    with torch.no_grad():
        return int((model(found).argmax(dim=1) == labels).sum()), seconds


def ours(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    norm: str,
    eps: float,
    attack: str,
    numerics: Numerics,
) -> tuple[int, float, int, int]:
    """Robust count, CPU seconds, forward and backward passes of the engine; every break is re-verified."""
    options: dict[str, int] = {}
    if norm == "L1":
        options = {"apgd-ce": {"restarts": 5}, "apgd-t": {"targets": 5}}.get(attack, {})
    started = time.process_time()
    name = "autoattack" if attack == "standard" else attack
    found = run_attack(model, images, labels, name, norm=norm, eps=eps, numerics=numerics, **options)
    seconds = time.process_time() - started
    with torch.no_grad():
        again = (model(found.adversarial).argmax(dim=1) == labels).numpy()
    if not np.array_equal(again, found.robust) or not bool((found.norm <= eps).all()):
        raise SystemExit("a break did not hold when it was predicted again")
    return int(found.robust.sum()), seconds, found.forwards, found.backwards


def main(arguments: list[str]) -> int:
    """Run the comparison; exit code 1 if parity fails anywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--models", nargs="+", default=list(CASES))
    parser.add_argument("--norms", nargs="+", default=["Linf", "L2"])
    parser.add_argument("--attacks", nargs="+", default=["apgd-ce", "apgd-t", "fab-t", "square", "standard"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args(arguments)
    numerics = Numerics(precision=given.precision)
    torch.set_num_threads(1)
    images, labels = pictures(given.images)
    out, failed = sys.stdout, False
    out.write("| model | threat model | attack | reference | ours | s | s | forwards | backwards | |\n")
    out.write("|---|---|---|---|---|---|---|---|---|---|\n")
    for name in given.models:
        for norm in given.norms:
            for text in CASES[name][norm]:
                for attack in given.attacks:
                    model, eps = load_model(name).eval(), parse_eps(text)
                    runs = [
                        reference(
                            model, images, labels, norm=norm, eps=eps, attack=attack, seed=seed, batch=given.images
                        )
                        for seed in range(given.seeds)
                    ]
                    counts = [count for count, _ in runs]
                    mine = ours(model, images, labels, norm=norm, eps=eps, attack=attack, numerics=numerics)
                    allowed = min(counts) + max(1, max(counts) - min(counts))
                    failed |= mine[0] > allowed
                    out.write(
                        f"| {name} | {norm} {eps_text(eps)} | {attack} | {', '.join(map(str, counts))} | {mine[0]} "
                        f"| {min(seconds for _, seconds in runs):.1f} | {mine[1]:.1f} | {mine[2]} | {mine[3]} "
                        f"| {'ok' if mine[0] <= allowed else 'FAILS'} |\n"
                    )
                    out.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
