"""Models that misbehave in a run: the failure is recorded with its reason, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from harness.benchmarks import parse_benchmark
from harness.jobs import kernel
from harness.jobs.context import ModelSource, Settings, load
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.runner import Job, run_job
from harness.storage.store import Store
from harness.types import FeatureModel
from tests.harness.jobs.conftest import MODELS
from tests.harness.jobs.test_keep import ATTACK

CHECKS = """
[[evaluations]]
id = "checks"
kind = "checks"
norm = "Linf"
eps = "4/255"
images = 20
"""
CLEAN = """
[[evaluations]]
id = "clean"
kind = "clean"
images = 20

[[columns]]
name = "clean_accuracy"
title = "Clean"
help = "clean"
score = "accuracy"
evaluations = ["clean"]
higher_is_better = true
"""


class Altered(torch.nn.Module):
    """A model whose output somebody changed."""

    def __init__(self, body: FeatureModel, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.body, self.change = body, change

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The changed output."""
        return self.change(self.body(images))


@pytest.mark.parametrize(
    ("change", "message", "attacks_only", "flag"),
    [
        (lambda logits: logits * torch.nan, "not finite", False, "nan_logits"),
        (lambda logits: logits[:, :9], "returned 9 logits an image, expected 10, as its card says", False, ""),
        (lambda logits: torch.cat([logits, logits], dim=1), "returned 20 logits an image", False, ""),
        (lambda logits: logits[:, 0], "logits of shape", False, ""),
        (lambda logits: logits.detach(), "no gradient", True, "no_gradient"),
        (
            lambda logits: logits + (0 * logits).abs().sqrt(),
            "gradient with respect to the images is not",
            True,
            "nan_gradients",
        ),
    ],
)
def test_a_failed_evaluation_records_the_failure_and_nothing_else(
    store: Store,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[torch.Tensor], torch.Tensor],
    message: str,
    attacks_only: bool,
    flag: str,
) -> None:
    """No verdict, no score, no image of the bad model's failed evaluations; the other model is unharmed.

    The checks say what is wrong where numbers are, and fail as the rest does where there are none to look at.
    """

    def loaded(source: ModelSource) -> object:
        model = load(source)
        return Altered(model, change).eval() if source.name == MODELS[0] else model

    monkeypatch.setattr(kernel, "load", loaded)
    short = replace(job, benchmark=parse_benchmark(ATTACK + CHECKS + CLEAN), limit=20)
    report = run_job(store, short, SerialExecutor(), settings=Settings(keep_examples=3))
    assert {spec.model.name for spec, _ in report.failures} == {MODELS[0]}
    kinds = {spec.perturbation.kind for spec, _ in report.failures}
    assert kinds == ({"attack"} if attacks_only else {"clean", "attack"}) | (set() if flag else {"checks"})
    for name in MODELS:
        flags = [set(item.flags) for item in store.evaluations(model=name) if item.kind == "checks"]
        assert flags == [{flag} if flag and name == MODELS[0] else set()]
    digests = {spec.digest for spec, _ in report.failures}
    assert store.coverage(digests) == {}
    assert store.kept_examples(digests) == ()
    for item in store.evaluations(model=MODELS[0]):
        if item.digest in digests:
            assert item.n == 0
            assert item.flags == {}
            assert {run["status"] for run in item.executions} == {"failed"}
            assert message in item.executions[0]["error"]
    columns = {score.column for score in store.scores(model=MODELS[0])}
    assert "pgd_accuracy_linf" not in columns
    assert ("clean_accuracy" in columns) == attacks_only
    assert {score.column for score in store.scores(model=MODELS[1])} >= {"clean_accuracy", "pgd_accuracy_linf"}
