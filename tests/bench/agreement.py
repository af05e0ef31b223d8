"""Cheaper searches against `standard`, image by image: `python -m tests.bench.agreement run --log FILE`, then `table`.

Both sides are ours. `fast` may leave at most .5 points more standing than `standard` in float32; a search in bfloat16
decides like one in float32 (promise B: all but few images), which the counts of differing images show either way.

`run` appends a line of JSON for each comparison to the log and skips what is in it, so it may be stopped at any time.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Literal

import torch

from harness.attacks import AttackResult, Numerics, run_attack
from harness.spec import parse_eps
from tests.bench.attack_cases import SUBJECTS, Subject, load, pictures
from tests.bench.attack_parity import read

POINTS = 0.005
"""`fast` may stand above `standard` by this share of the images."""


def compare(subject: Subject, images: int, norm: str, eps: str) -> dict[str, Any]:
    """`standard` in float32, `fast` in float32 and `standard` in bfloat16 on the same images."""
    pixels, labels = pictures(images, photographs=subject.photographs)

    def attack(name: str, precision: Literal["float32", "bfloat16"]) -> AttackResult:
        numerics = Numerics(precision=precision)
        model = load(subject.model)
        return run_attack(model, pixels, labels, name, norm=norm, eps=parse_eps(eps), numerics=numerics)

    exact = attack("autoattack", "float32")
    found: dict[str, Any] = {"standard": int(exact.robust.sum())}
    found["passes"] = {"standard": [exact.forwards, exact.backwards]}
    for title, result in (("fast", attack("fast", "float32")), ("bfloat16", attack("autoattack", "bfloat16"))):
        found[title] = int(result.robust.sum())
        found["passes"][title] = [result.forwards, result.backwards]
        found[f"only_{title}"] = (result.robust & ~exact.robust).nonzero()[0].tolist()
        found[f"not_{title}"] = (exact.robust & ~result.robust).nonzero()[0].tolist()
    found["good"] = found["fast"] - found["standard"] <= POINTS * images
    return found


def run(given: argparse.Namespace) -> int:
    """Make the comparisons that the log lacks; 1 if `fast` is too far above `standard`."""
    done = [(row["model"], row["images"], row["norm"], row["eps"]) for row in read(given.log)]
    good = True
    for subject in SUBJECTS:
        if subject.model not in given.models:
            continue
        for norm in given.norms:
            for eps in given.eps or subject.radii[norm][1:2]:
                key = (subject.model, given.images, norm, eps)
                if key in done:
                    continue
                found = compare(subject, given.images, norm, eps)
                good &= found["good"]
                with given.log.open("a", encoding="utf-8") as file:
                    file.write(
                        json.dumps(dict(zip(("model", "images", "norm", "eps"), key, strict=True)) | found) + "\n"
                    )
    return int(not good)


def table(given: argparse.Namespace) -> int:
    """The log as a Markdown table; 1 if a comparison falls short."""
    out, rows = sys.stdout, read(given.log)
    out.write(
        "| model | images | threat model | stand: standard, fast, bfloat16 | verdicts that differ: fast, bfloat16 "
    )
    out.write("| passes of standard over those of fast: forward, backward | |\n|---|---|---|---|---|---|---|\n")
    for row in rows:
        differ = [len(row[f"only_{title}"]) + len(row[f"not_{title}"]) for title in ("fast", "bfloat16")]
        ratio = [a / b for a, b in zip(row["passes"]["standard"], row["passes"]["fast"], strict=True)]
        out.write(
            f"| {row['model']} | {row['images']} | {row['norm']} {row['eps']} "
            f"| {row['standard']}, {row['fast']}, {row['bfloat16']} | {differ[0]}, {differ[1]} "
            f"| {ratio[0]:.1f}, {ratio[1]:.1f} | {'ok' if row['good'] else 'SHORT'} |\n"
        )
    return int(not rows or not all(row["good"] for row in rows))


def main(arguments: list[str]) -> int:
    """Run comparisons or print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--log", type=Path, required=True, help="file of results, a line of JSON each")
    parser.add_argument("--models", nargs="+", default=[subject.model for subject in SUBJECTS[:2]])
    parser.add_argument("--norms", nargs="+", default=["Linf"])
    parser.add_argument("--eps", nargs="+", help="other radii than the model's middle one")
    parser.add_argument("--images", type=int, default=500)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    return run(given) if given.what == "run" else table(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
