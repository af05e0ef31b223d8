"""Speed against pyautoattack in one run, same threads: `python tests/bench/attack_speed.py`; prints a Markdown table.

CPU seconds, the reference at its best batch size of 32, 128 and n. Cases: an undefended model at an eps where it falls
(at least 15x), a robust one that pays the full budget (at least 1.15x in float32, 1.8x with a bfloat16 search), and the
`fast` ensemble (at most an eighth of the passes).
"""

from __future__ import annotations

import argparse
import sys

import torch
from attack_parity import ours, pictures, reference

from harness.attacks import Numerics, run_attack
from harness.spec import parse_eps
from models_zoo import load_model

UNDEFENDED, ROBUST = "small_cnn.supervised.digits.s0", "small_cnn.adversarial-linf8.digits.s0"


def main(arguments: list[str]) -> int:
    """Measure and print; exit code 1 if a ratio falls short."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    images, labels = pictures(given.images)
    out, short = sys.stdout, False
    out.write("| model | threat model | search | robust (reference, ours) | s | s | ratio | wanted |\n")
    out.write("|---|---|---|---|---|---|---|---|\n")
    cases = [
        (UNDEFENDED, "12/255", "float32", 15.0),
        (ROBUST, "8/255", "float32", 1.15),
        (ROBUST, "8/255", "bfloat16", 1.8),
    ]
    known: dict[str, tuple[int, float]] = {}
    for name, text, precision, wanted in cases:
        eps = parse_eps(text)
        if name not in known:
            runs = [
                reference(
                    load_model(name).eval(),
                    images,
                    labels,
                    norm="Linf",
                    eps=eps,
                    attack="standard",
                    seed=0,
                    batch=batch,
                )
                for batch in sorted({32, 128, given.images})
            ]
            known[name] = min(runs, key=lambda run: run[1])
        count, seconds = known[name]
        numerics = Numerics(precision="bfloat16" if precision == "bfloat16" else "float32")
        model = load_model(name).eval()
        mine = ours(model, images, labels, norm="Linf", eps=eps, attack="standard", numerics=numerics)
        ratio = seconds / mine[1]
        short |= ratio < wanted
        out.write(
            f"| {name} | Linf {text} | {precision} | {count}, {mine[0]} | {seconds:.1f} | {mine[1]:.1f} | {ratio:.2f} "
            f"| {wanted} |\n"
        )
        out.flush()
    eps = parse_eps("8/255")
    full = run_attack(load_model(ROBUST).eval(), images, labels, "autoattack", eps=eps)
    fast = run_attack(load_model(ROBUST).eval(), images, labels, "fast", eps=eps)
    out.write(
        f"\n`fast` on {ROBUST}, Linf 8/255: {int(fast.robust.sum())} robust against {int(full.robust.sum())}; "
        f"{fast.forwards} forwards (1/{full.forwards / fast.forwards:.1f}), "
        f"{fast.backwards} backwards (1/{full.backwards / fast.backwards:.1f})\n"
    )
    return int(short or 8 * fast.forwards > full.forwards or 8 * fast.backwards > full.backwards)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
