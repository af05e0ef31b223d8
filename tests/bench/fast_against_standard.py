"""`fast` against `standard`, image by image, on what a store holds.

`python -m tests.bench.fast_against_standard --db FILE` reads the board `digits@3` that `make quickstart` fills; it
computes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from harness.benchmarks import load_benchmark
from harness.storage import open_store


def main(arguments: list[str]) -> int:
    """Print a line a model; 1 if a verdict differs or there is nothing to compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", default="results.db", help="the store")
    given = parser.parse_args(arguments)
    benchmark, compared, differing = load_benchmark("digits@3"), 0, 0
    with contextlib.closing(open_store(given.db, read_only=True)) as store:
        boards = store.scores(benchmark=benchmark.name, version=benchmark.version, dataset=benchmark.dataset)
        for model in {score.model_name for score in boards}:
            target = store.target(boards[0].data)
            wanted = {item.group: item.spec.digest for item in benchmark.requests(store.find_ref(model), target)}
            pair = [wanted["fast_linf"], wanted["standard_linf"]]
            verdicts = store.verdicts(pair)
            n = min(verdicts[digest].size if digest in verdicts else 0 for digest in pair)
            if n == 0:
                continue
            fast, standard = (verdicts[digest][:n] for digest in pair)
            differ = int((fast != standard).sum())
            sys.stdout.write(f"{model}: {n} images, {fast.sum()} and {standard.sum()} stand, {differ} differ\n")
            compared, differing = compared + n, differing + differ
    sys.stdout.write(f"{compared} verdicts compared, {differing} differ\n")
    return int(compared == 0 or differing > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
