"""A small world for the runner: a few images, an untrained model, a benchmark that runs in seconds."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.benchmarks import Benchmark, parse_benchmark
from harness.data import open_dataset
from harness.jobs.context import ModelSource, find_models
from harness.jobs.runner import Job
from harness.storage import open_store
from harness.storage.store import Store

TINY = """
name = "tiny"
version = 1
title = "Tiny"
description = "A benchmark for tests."
dataset = "digits"
classes = 10
image_size = [32, 32]
seed = 0
ranked_by = "corruption_accuracy"

[[evaluations]]
id = "clean"
kind = "clean"
images = 60

[[evaluations]]
id = "corruptions"
kind = "corruptions"
suite = "imagecorruptions"
corruptions = ["gaussian_noise", "brightness"]
severities = [1, 5]
images = 60

[[evaluations]]
id = "pgd_linf"
kind = "attack"
attack = "pgd"
norm = "Linf"
eps = "4/255"
images = 140
options = { steps = 3 }

[[evaluations]]
id = "selectivity"
kind = "measure"
measure = "selectivity"
images = 60

[[columns]]
name = "clean_accuracy"
title = "Clean"
help = "clean"
score = "accuracy"
evaluations = ["clean"]
higher_is_better = true

[[columns]]
name = "corruption_accuracy"
title = "Corruptions"
help = "corruptions"
score = "mean_accuracy"
evaluations = ["corruptions"]
higher_is_better = true

[[columns]]
name = "pgd_accuracy_linf"
title = "PGD"
help = "pgd"
score = "accuracy"
evaluations = ["pgd_linf"]
higher_is_better = true

[[columns]]
name = "selectivity"
title = "Selectivity"
help = "selectivity"
score = "measure"
quantity = "selectivity_index"
evaluations = ["selectivity"]
"""

MODELS = ("small_cnn.supervised.digits.s0", "small_cnn.adversarial-linf8.digits.s0")


@pytest.fixture
def tiny() -> Benchmark:
    """A benchmark of seven evaluations on 60 to 140 digits."""
    return parse_benchmark(TINY)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    opened = open_store(str(tmp_path / "results.db"))
    yield opened
    opened.close()


@pytest.fixture
def models(store: Store) -> tuple[ModelSource, ...]:
    """Two bundled models, registered."""
    return find_models(store, MODELS)


@pytest.fixture
def job(tiny: Benchmark, models: tuple[ModelSource, ...]) -> Job:
    """Both models on the tiny benchmark."""
    return Job(benchmark=tiny, models=models, data=open_dataset("digits"))


def board_state(store: Store) -> list[tuple[object, ...]]:
    """Everything on the boards, for comparison between stores."""
    return [
        (score.model_name, score.column, score.value, score.low, score.high, score.n, score.rank, score.rank_low)
        for score in store.scores()
    ]


def outcome_state(store: Store, job: Job) -> dict[str, bytes]:
    """All verdicts and attack details by evaluation."""
    digests = [request.spec.digest for request in job.requests()]
    verdicts = store.verdicts(digests)
    state = {digest: np.packbits(bits).tobytes() + bytes([bits.size % 251]) for digest, bits in verdicts.items()}
    for digest in digests:
        detail = store.details(digest)
        if detail is not None:
            state[f"{digest}/detail"] = repr(detail.names).encode() + detail.records.tobytes()
    return state


def stored_verdicts(db: Path) -> int:
    """Verdicts in a SQLite store that another process may be writing; 0 before it has tables."""
    if not db.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            return int(connection.execute("SELECT coalesce(sum(n), 0) FROM outcome").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def limited(job: Job, limit: int | None) -> Job:
    """The same job on fewer images."""
    return replace(job, limit=limit)
