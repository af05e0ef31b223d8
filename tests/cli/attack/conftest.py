"""An attack called by hand, and a store with kept images."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.attacks import run_attack
from harness.attacks.examples import as_float
from harness.benchmarks import parse_benchmark
from harness.data import open_dataset
from harness.jobs.context import Settings, find_models, load
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.runner import Job, run_job
from harness.storage import open_store
from tests.cli.attack.support import LIMIT, MODEL
from tests.harness.jobs.test_keep import ATTACK


@pytest.fixture(scope="module")
def direct() -> Any:
    """PGD on the first images, called by hand."""
    data = open_dataset("digits")
    model = load(find_models(None, [MODEL])[0])
    images, labels = torch.from_numpy(as_float(data.images(0, LIMIT))), torch.from_numpy(data.labels[:LIMIT].copy())
    return run_attack(model, images, labels, "pgd", eps=4 / 255, steps=3)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A store with one attack evaluation of which 5 broken images are kept."""
    path = tmp_path / "results.db"
    job = Job(benchmark=parse_benchmark(ATTACK), models=find_models(None, [MODEL]), data=open_dataset("digits"))
    store = open_store(str(path))
    run_job(store, replace(job, limit=LIMIT), SerialExecutor(), settings=Settings(keep_examples=5))
    store.close()
    connection = sqlite3.connect(path)
    with connection:  # no page can be made of the board of a benchmark that only this test knows
        connection.execute("DELETE FROM score")
    connection.close()
    return path
