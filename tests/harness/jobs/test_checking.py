"""Checks as a part of an evaluation: from a benchmark through plan, kernel and store to board and page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup
from torch import nn

from api.app import create_app
from api.settings import ApiSettings
from harness.attacks.checks import examine
from harness.attacks.flags import BACKWARDS, FORWARDS, VERSION
from harness.benchmarks import Benchmark, parse_benchmark
from harness.data import open_dataset
from harness.errors import InvalidArgument, RequestError
from harness.jobs import kernel
from harness.jobs.context import ModelSource, load
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.kernel import to_float
from harness.jobs.runner import Job, plan_job, run_job
from harness.leaderboard import BoardQuery, load_board
from harness.spec import ChecksSpec
from harness.storage.store import Store
from models_zoo.registry import load_model
from tests.api.client import Client
from tests.harness.jobs.conftest import MODELS, limited

TOML = """
name = "digits"
version = 1
title = "T"
description = "A benchmark for tests."
dataset = "digits"
classes = 10
image_size = [32, 32]
seed = 2
ranked_by = "clean_accuracy"

[[evaluations]]
id = "clean"
kind = "clean"
images = 24

[[evaluations]]
id = "checks"
kind = "checks"
norm = "Linf"
eps = "4/255"
images = 24

[[columns]]
name = "clean_accuracy"
title = "Clean"
help = "clean"
score = "accuracy"
evaluations = ["clean"]
"""
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def benchmark() -> Benchmark:
    """Clean images and checks; under the name of a board that pages know."""
    return parse_benchmark(TOML)


@pytest.fixture
def checks(benchmark: Benchmark, models: tuple[ModelSource, ...]) -> Job:
    """One model on it."""
    return Job(benchmark=benchmark, models=models[:1], data=open_dataset("digits"))


class Broken(nn.Module):
    """A model around another, with a fault."""

    def __init__(self, body: nn.Module, fault: str) -> None:
        super().__init__()
        self.body, self.fault = body, fault
        self.register_buffer(EVIL, torch.zeros(1))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits, or what the fault makes of them."""
        if self.fault == "counts":
            self.get_buffer(EVIL).add_(1)
        logits: torch.Tensor = self.body(batch)
        return logits.softmax(1) if self.fault == "softmax" else logits * torch.nan if self.fault == "nan" else logits


def broken(fault: str) -> Callable[[ModelSource], Any]:
    """Loads a model with a fault."""

    def loader(source: ModelSource) -> Any:
        return Broken(load(source), fault).eval()  # type: ignore[arg-type]

    return loader


def checked(store: Store, job: Job) -> Any:
    """The stored row of the checks."""
    (row,) = [item for item in store.evaluations(model=job.models[0].name) if item.kind == "checks"]
    return row


def test_a_sound_model_has_a_row_and_no_flags(store: Store, checks: Job) -> None:
    """It is not computed again, gives neither verdict nor score, and what it cost is on record."""
    plan = plan_job(store, checks)
    assert (plan.evaluations, len(plan.tasks)) == (2, 2)
    assert isinstance(plan.tasks[0].pieces[0].spec.perturbation, ChecksSpec)  # the dearest first
    assert (plan.costs[0].forwards, plan.costs[0].backwards) == (FORWARDS, BACKWARDS)
    assert not run_job(store, checks, SerialExecutor(), command="test").failures
    assert plan_job(store, checks).tasks == ()
    row = checked(store, checks)
    assert (row.flags, row.n, row.label) == ({}, 0, "checks Linf 4/255 [0:24]")
    assert row.perturbation["version"] == VERSION
    assert store.verdicts([row.digest]) == {}
    assert 0 < row.executions[0]["forwards"] <= FORWARDS
    assert 0 < row.executions[0]["backwards"] <= BACKWARDS
    assert row.executions[0]["status"] == "ok"
    assert [score.column for score in store.scores()] == ["clean_accuracy"]
    assert load_board(store, BoardQuery(benchmark="digits@1")).rows[0]["flags"] == ""


def test_flags_are_those_of_the_checks_by_hand(store: Store, checks: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same images, radius and seed: flags and evidence as `examine` gives them; other ranges are other evaluations."""
    monkeypatch.setattr(kernel, "load", broken("softmax"))
    data = open_dataset("digits")
    for limit in (20, None):
        run_job(store, limited(checks, limit), SerialExecutor(), command="test")
    rows = [item for item in store.evaluations(model=MODELS[0]) if item.kind == "checks"]
    assert [row.label for row in rows] == ["checks Linf 4/255 [0:20]", "checks Linf 4/255 [0:24]"]
    model = Broken(load_model(MODELS[0]), "softmax").eval()
    for row, n in zip(rows, (20, 24), strict=True):
        pixels, labels = to_float(data.images(0, n), torch.device("cpu")), torch.from_numpy(data.labels[:n].copy())
        by_hand = examine(model, pixels, labels, norm="Linf", eps=4 / 255, seed=2)
        assert dict(row.flags) == by_hand.flags
        assert (row.executions[0]["forwards"], row.executions[0]["backwards"]) == (by_hand.forwards, by_hand.backwards)
        assert "probabilities" in row.flags


def test_evidence_reaches_board_and_page_as_text(
    store: Store, checks: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buffer that a forward pass changes is named in the evidence; its name is a stranger's and stays text."""
    monkeypatch.setattr(kernel, "load", broken("counts"))
    assert not run_job(store, checks, SerialExecutor(), command="test").failures
    assert checked(store, checks).flags["dynamic"] == f"a forward pass changed {EVIL}"
    assert "dynamic" in str(load_board(store, BoardQuery(benchmark="digits@1")).rows[0]["flags"]).split()
    client = Client(create_app(ApiSettings(db=str(tmp_path / "results.db"))))
    rows = client.get("/api/v1/leaderboard?benchmark=digits@1").json()["rows"]
    assert "dynamic" in rows[0]["flags"].split()
    page = client.get(f"/models/{MODELS[0]}")
    section = BeautifulSoup(page.text, "html.parser").select_one("[aria-labelledby=flags]")
    assert section is not None
    assert f"a forward pass changed {EVIL}" in section.get_text()
    assert "the forward pass changes the model or computes gradients" in str(section)
    assert EVIL not in page.text


def test_a_model_without_numbers_is_flagged_and_fails_elsewhere(
    store: Store, checks: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits that are not finite: no verdict is stored, the failure is, and the checks say why."""
    monkeypatch.setattr(kernel, "load", broken("nan"))
    report = run_job(store, checks, SerialExecutor(), command="test")
    assert [spec.perturbation.label for spec, _ in report.failures] == ["clean"]
    flags = checked(store, checks).flags
    assert set(flags) == {"nan_logits"}
    assert "not finite" in flags["nan_logits"]
    assert store.scores() == ()


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ('norm = "Linf"', 'norm = "L3"', InvalidArgument, "norm: got 'L3'"),
        ('eps = "4/255"', 'eps = "0"', InvalidArgument, "eps: got '0'"),
        ('kind = "checks"', 'kind = "check"', InvalidArgument, "kind: got 'check'"),
        ('evaluations = ["clean"]', 'evaluations = ["checks"]', RequestError, "'checks' gives flags, not verdicts"),
    ],
)
def test_a_benchmark_with_wrong_checks_is_refused(old: str, new: str, error: type[Exception], words: str) -> None:
    """Norm, radius, kind, and a column that wants a score of checks."""
    assert old in TOML
    with pytest.raises(error, match=re.escape(words)):
        parse_benchmark(TOML.replace(old, new))
