"""Verdict parity with pyautoattack: `python -m tests.bench.attack_parity run --log FILE`, then `table --log FILE`.

One-sided: our robust count may be at most the reference's plus max(1, its own spread over three seeds), and every break
has to hold when it is predicted again. The reference's other seeds run only where the first does not settle it: the
allowance is at least each seed's count, so ours at or below one of them is within it.

`seeds` prints the counts of both sides under `--seeds` seeds each, for a look at what is chance; with `--only`, for
single images, each attacked by itself.

`run` appends a line of JSON for each comparison to the log and skips what is in it, so it may be stopped at any time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harness.attacks import Numerics
from harness.spec import parse_eps
from tests.bench.attack_cases import SUBJECTS, Case, load, ours, pictures, reference

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square", "standard")
SEEDS = 3


def compare(case: Case, numerics: Numerics) -> dict[str, Any]:
    """Both sides on one case, the reference's seeds one by one until the verdict is settled."""
    mine = ours(case, numerics)
    runs = []
    for seed in range(SEEDS):
        runs.append(reference(case, seed=seed, batch=len(case.images)))
        if mine.robust <= runs[-1].robust:
            break
    counts = [run.robust for run in runs]
    best = min(runs, key=lambda run: run.seconds)
    return {
        "reference": counts,
        "ours": mine.robust,
        "seconds": [round(best.seconds, 1), round(mine.seconds, 1)],
        "forwards": [best.forwards, mine.forwards],
        "backwards": [best.backwards, mine.backwards],
        "good": mine.robust <= min(counts) + max(1, max(counts) - min(counts)),
    }


def wanted(given: argparse.Namespace) -> Iterator[tuple[dict[str, Any], Any]]:
    """What the arguments ask for: (key of a comparison, subject)."""
    for subject in SUBJECTS:
        if given.models and subject.model not in given.models:
            continue
        for norm in given.norms:
            for eps in given.eps or subject.radii.get(norm, ()):
                for attack in given.attacks:
                    yield (
                        {
                            "model": subject.model,
                            "images": given.images or subject.images,
                            "norm": norm,
                            "eps": eps,
                            "attack": attack,
                            "precision": given.precision,
                        },
                        subject,
                    )


def run(given: argparse.Namespace) -> int:
    """Make the comparisons that the log lacks; 1 if one falls short."""
    done = [{key: row[key] for key in row if key in _KEY} for row in read(given.log)]
    short = 0
    for key, subject in wanted(given):
        if key in done:
            continue
        images, labels = pictures(key["images"], photographs=subject.photographs)
        case = Case(load(subject.model), images, labels, key["norm"], parse_eps(key["eps"]), key["attack"])
        found = compare(case, Numerics(precision=given.precision))
        short += not found["good"]
        with given.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(key | found) + "\n")
    return int(short > 0)


def seeds(given: argparse.Namespace) -> int:
    """Counts of both sides under several seeds, whether or not the log has the comparison."""
    numerics = Numerics(precision=given.precision)
    for key, subject in wanted(given):
        images, labels = pictures(key["images"], photographs=subject.photographs)
        every = list(range(len(images)))
        for rows in [[row] for row in given.only] or [every]:
            model, eps = load(subject.model), parse_eps(key["eps"])
            case = Case(model, images[rows], labels[rows], key["norm"], eps, key["attack"], rows)
            theirs = [reference(case, seed=seed, batch=len(rows)).robust for seed in range(given.seeds)]
            mine = [ours(case, numerics, seed=seed).robust for seed in range(given.seeds)]
            what = f"{key['model']} {key['norm']} {key['eps']} {key['attack']}"
            if rows == every:
                sys.stdout.write(f"{what}: {theirs} and ours {mine}\n")
            else:
                stood = f"stood in {sum(theirs)} and ours in {sum(mine)} of {given.seeds} seeds"
                sys.stdout.write(f"{what}, image {rows[0]}: {stood}\n")
            sys.stdout.flush()
    return 0


_KEY = ("model", "images", "norm", "eps", "attack", "precision")


def read(log: Path) -> list[dict[str, Any]]:
    """The rows of a log."""
    if not log.exists():
        return []
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def table(given: argparse.Namespace) -> int:
    """The log as a Markdown table, in the order of the subjects; 1 if a comparison falls short."""
    out = sys.stdout
    out.write(
        "| model | images | threat model | search | attack | robust: reference, by seed | ours | s | s | passes | |\n"
    )
    out.write("|---|---|---|---|---|---|---|---|---|---|---|\n")
    rows = sorted(read(given.log), key=_place)
    for row in rows:
        share = row["forwards"][1] / row["forwards"][0]
        out.write(
            f"| {row['model']} | {row['images']} | {row['norm']} {row['eps']} | {row['precision']} | {row['attack']} "
            f"| {', '.join(map(str, row['reference']))} | {row['ours']} | {row['seconds'][0]} | {row['seconds'][1]} "
            f"| {share:.2f} | {'ok' if row['good'] else 'SHORT'} |\n"
        )
    return int(not all(row["good"] for row in rows))


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    """Subject, norm, radius, attack."""
    names = [subject.model for subject in SUBJECTS]
    attack = ATTACKS.index(row["attack"])
    return names.index(row["model"]), row["precision"], -len(row["norm"]), parse_eps(row["eps"]), attack, row["images"]


def main(arguments: list[str]) -> int:
    """Run comparisons or print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table", "seeds"))
    parser.add_argument("--log", type=Path, help="file of results, a line of JSON each")
    parser.add_argument("--models", nargs="+", help="default: all")
    parser.add_argument("--norms", nargs="+", default=["Linf", "L2"])
    parser.add_argument("--eps", nargs="+", help="other radii than the model's own")
    parser.add_argument("--attacks", nargs="+", default=list(ATTACKS))
    parser.add_argument("--images", type=int, help="another number of images")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="for `seeds`: how many on each side")
    parser.add_argument("--only", type=int, nargs="+", default=[], help="for `seeds`: numbers of images")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.log is None and given.what != "seeds":
        parser.error("--log FILE is needed")
    return {"run": run, "table": table, "seeds": seeds}[given.what](given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
