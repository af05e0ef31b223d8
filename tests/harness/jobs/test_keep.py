"""Keeping adversarial images in a run: which ones, and that nothing else changes (promise A)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from harness.attacks.examples import check, decode
from harness.benchmarks import parse_benchmark
from harness.data import open_dataset
from harness.errors import InvalidArgument
from harness.jobs.context import Settings, find_models
from harness.jobs.executors.base import Executor
from harness.jobs.executors.local import ProcessExecutor, SerialExecutor
from harness.jobs.runner import Job, run_job
from harness.jobs.subject import open_subject
from harness.storage import open_store
from harness.storage.blobs import EXAMPLES
from harness.storage.store import Store
from tests.harness.jobs.conftest import MODELS, outcome_state

ATTACK = """
name = "broken"
version = 1
title = "Broken"
description = "One attack of three blocks."
dataset = "digits"
classes = 10
image_size = [32, 32]
seed = 0
ranked_by = "pgd_accuracy_linf"

[[evaluations]]
id = "pgd_linf"
kind = "attack"
attack = "pgd"
norm = "Linf"
eps = "4/255"
images = 200
options = { steps = 3 }

[[columns]]
name = "pgd_accuracy_linf"
title = "PGD"
help = "pgd"
score = "accuracy"
evaluations = ["pgd_linf"]
higher_is_better = true
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The undefended model under three steps of PGD."""
    models = find_models(None, MODELS[:1])
    return Job(benchmark=parse_benchmark(ATTACK), models=models, data=open_dataset("digits"))


def ran(path: Path, job: Job, settings: Settings, executor: Executor | None = None) -> Store:
    """A fresh store after one run."""
    store = open_store(str(path))
    report = run_job(store, job, executor or SerialExecutor(), settings=settings)
    assert not report.failures
    return store


def blob(store: Store, job: Job) -> bytes:
    """The kept file of the only evaluation."""
    (found,) = store.kept_examples(request.spec.digest for request in job.requests())
    return store.blobs.checked_path(found.blob, EXAMPLES).read_bytes()


@dataclass(frozen=True)
class Serial:
    """A serial run that keeps 20 images, and the verdicts of one that keeps none."""

    store: Store
    outcomes: dict[str, bytes]
    content: bytes


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory, job: Job) -> Iterator[Serial]:
    """Keeping images changes no verdict and no detail."""
    folder = tmp_path_factory.mktemp("keep")
    plain = ran(folder / "plain.db", job, Settings())
    assert plain.kept_examples(request.spec.digest for request in job.requests()) == ()
    keeping = ran(folder / "keeping.db", job, Settings(keep_examples=20))
    outcomes = outcome_state(plain, job)
    assert outcome_state(keeping, job) == outcomes
    plain.close()
    yield Serial(store=keeping, outcomes=outcomes, content=blob(keeping, job))
    keeping.close()


def test_the_first_broken_images_are_kept_as_they_were_judged(job: Job, serial: Serial) -> None:
    """They are the first that the verdicts call broken; each passes the check and is misclassified when asked again."""
    (request,) = job.requests()
    bits = serial.store.verdicts([request.spec.digest])[request.spec.digest]
    detail = serial.store.details(request.spec.digest)
    assert detail is not None
    clean = np.array([detail.names[code] == "clean" for code in detail.records["broken_by"]])
    examples = decode(serial.content)
    assert examples.indices.tolist() == np.flatnonzero(~bits & ~clean)[:20].tolist()
    assert examples.indices[-1] > 40
    check(serial.content, job.data, "Linf", 4 / 255)
    subject = open_subject(job.models[0], job.data)
    assert not subject.right(examples.adversarial, examples.indices, 7).any()


def test_they_do_not_depend_on_workers_or_batches(job: Job, serial: Serial, tmp_path: Path) -> None:
    """Two processes with another batch size hand their images over the pipe; the file has the same bytes."""
    store = ran(tmp_path / "results.db", job, Settings(keep_examples=20, batch_size=17), ProcessExecutor(2))
    assert blob(store, job) == serial.content
    assert outcome_state(store, job) == serial.outcomes
    store.close()


def test_what_the_store_holds_is_not_computed_again(job: Job, serial: Serial, tmp_path: Path) -> None:
    """A resumed run keeps images of its own blocks only; one in two parts that kept from the start ends the same."""
    store = ran(tmp_path / "late.db", replace(job, limit=128), Settings())
    run_job(store, job, SerialExecutor(), settings=Settings(keep_examples=20))
    assert decode(blob(store, job)).indices.min() >= 128
    assert outcome_state(store, job) == serial.outcomes
    store.close()
    store = ran(tmp_path / "parts.db", replace(job, limit=20), Settings(keep_examples=20))
    run_job(store, job, SerialExecutor(), settings=Settings(keep_examples=20, batch_size=256))
    assert blob(store, job) == serial.content
    store.close()


@pytest.mark.parametrize("number", [-1, 1001])
def test_the_number_is_bounded(number: int) -> None:
    """From nothing to a thousand."""
    with pytest.raises(InvalidArgument, match=r"keep-examples: got .* expected 0 to 1000"):
        Settings(keep_examples=number)
