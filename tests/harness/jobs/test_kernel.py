"""The kernel against the packages called by hand: same images, same cut, same seed, same numbers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import rng
from harness.attacks import run_attack
from harness.attacks.physical import ProbeResult
from harness.benchmarks import Benchmark, parse_benchmark
from harness.data import open_dataset
from harness.data.declared import Declaration, file_target
from harness.errors import DataError
from harness.jobs import kernel as kernel_module
from harness.jobs.context import ModelSource, Settings, load
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.kernel import Kernel, to_float
from harness.jobs.runner import Job, context_of, plan_job, run_job
from harness.outcome import BlockOutcome, Failure
from harness.spec import AttackSpec, CleanSpec, CorruptionSpec, MeasureSpec
from harness.storage.store import Store
from models_zoo.registry import load_model
from tests.harness.jobs.conftest import MODELS, TINY, limited

REFERENCE = """
name = "reference"
version = 1
title = "Reference"
description = "AutoAttack and one corruption through the reference packages."
dataset = "digits"
classes = 10
image_size = [32, 32]
seed = 3
ranked_by = "robust_accuracy_linf"

[[evaluations]]
id = "aa"
kind = "attack"
attack = "autoattack:reference"
norm = "Linf"
eps = "8/255"
images = 12
batch = 8

[[evaluations]]
id = "fog"
kind = "corruptions"
suite = "imagecorruptions"
backend = "reference"
corruptions = ["fog", "impulse_noise", "glass_blur"]
severities = [4]
images = 12

[[columns]]
name = "robust_accuracy_linf"
title = "AutoAttack"
help = "robust"
score = "accuracy"
evaluations = ["aa"]
higher_is_better = true

[[columns]]
name = "corruption_accuracy"
title = "Fog"
help = "corrupted"
score = "mean_accuracy"
evaluations = ["fog"]
higher_is_better = true
"""


@pytest.fixture
def reference() -> Benchmark:
    """Twelve images through the reference packages, in batches of eight."""
    return parse_benchmark(REFERENCE)


def test_scores_equal_the_packages_called_by_hand(
    store: Store, reference: Benchmark, models: tuple[ModelSource, ...]
) -> None:
    """Robust accuracy is pyautoattack's own; corrupted accuracy is a plain loop over imagecorruptions."""
    import pyautoattack

    from harness.corruptions import reference as adapter

    job = Job(benchmark=reference, models=models[:1], data=open_dataset("digits"))
    assert not run_job(store, job, SerialExecutor()).failures
    scores = {score.column: score for score in store.scores(benchmark="reference")}

    model = load_model(MODELS[0])
    data = open_dataset("digits")
    pixels, labels = data.images(0, 12), torch.from_numpy(np.array(data.labels[:12]))
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float().div(255).contiguous()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    state = torch.get_rng_state()
    attack = pyautoattack.AutoAttack(model, norm="Linf", eps=8 / 255, seed=3, version="standard", device="cpu")
    adversarial, _ = attack.run_standard_evaluation(images, labels, batch_size=8)
    robust = [
        bool(verdict) for at in (0, 8) for verdict in (model(adversarial[at : at + 8]).argmax(1) == labels[at : at + 8])
    ]
    torch.set_rng_state(state)
    torch.set_num_threads(threads)
    assert scores["robust_accuracy_linf"].value == np.mean(robust)
    assert scores["robust_accuracy_linf"].n == 12

    right = []
    for name in ("fog", "impulse_noise", "glass_blur"):
        for index in range(12):
            seed = rng.child_seed(3, f"corruption/imagecorruptions/{name}/4/{index}")
            with adapter.draws(seed) as package:
                from PIL import Image

                made = np.uint8(getattr(package, name)(Image.fromarray(pixels[index]), 4))
            logits = model(torch.from_numpy(made.copy()).permute(2, 0, 1)[None].float() / 255)
            right.append(bool(logits.argmax(1)[0] == labels[index]))
    assert scores["corruption_accuracy"].value == pytest.approx(np.mean(right), abs=1e-12)


def test_a_block_is_corrupted_once_for_all_models(store: Store, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models, four corrupted blocks: four calls."""
    import harness.corruptions

    calls: list[tuple[str, object, list[int]]] = []
    original = harness.corruptions.corrupt

    def counting(images: object, name: str, *arguments: object, **options: Any) -> object:
        calls.append((name, options["seed"], list(options["indices"])))
        return original(images, name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(harness.corruptions, "corrupt", counting)
    run_job(store, limited(job, 20), SerialExecutor())
    run_job(store, job, SerialExecutor())
    parts = (list(range(20)), list(range(20, 60)))
    names = ("brightness", "brightness", "gaussian_noise", "gaussian_noise")
    assert sorted(calls) == sorted((name, job.benchmark.seed, part) for name in names for part in parts)


def test_an_attack_in_the_runner_is_the_attack_called_by_hand(store: Store, job: Job) -> None:
    """Same images, labels, draws (keyed by position in the data set) and options; from the middle of a block, too."""
    run_job(store, limited(job, 9), SerialExecutor())
    run_job(store, limited(job, 25), SerialExecutor())
    data = open_dataset("digits")
    model = load_model(MODELS[0])
    images = torch.from_numpy(data.images(0, 25).copy()).permute(0, 3, 1, 2).float().div(255).contiguous()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    labels = torch.from_numpy(data.labels[:25].copy())
    by_hand = run_attack(model, images, labels, "pgd", norm="Linf", eps="4/255", seed=0, steps=3)
    torch.set_num_threads(threads)
    (spec,) = [
        request.spec
        for request in job.requests()
        if request.group == "pgd_linf" and request.spec.model.name == MODELS[0]
    ]
    stored = store.details(spec.digest)
    assert stored is not None
    assert np.array_equal(store.verdicts([spec.digest])[spec.digest], by_hand.robust)
    assert np.array_equal(stored.records["margin"], by_hand.margin)
    assert np.array_equal(stored.records["step"], by_hand.steps)


def test_floats_are_exact_quotients() -> None:
    """uint8 NHWC to float32 NCHW in [0, 1]: at each of the 256 levels, the nearest float32 there is."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    found = to_float(images, torch.device("cpu"))
    assert found.shape == (1, 3, 16, 16)
    values = found[0, 1].reshape(-1)
    assert torch.equal(values, torch.arange(256, dtype=torch.float32) / 255)
    for level, value in enumerate(values.tolist()):  # the nearest float32, so the quotient rounded once
        off = abs(Fraction(value) - Fraction(level, 255))
        for direction in (0.0, 2.0):
            other = float(np.nextafter(np.float32(value), np.float32(direction)))
            assert off <= abs(Fraction(other) - Fraction(level, 255))
    assert found.is_contiguous()


def test_a_data_set_that_changed_since_the_plan_is_an_error(store: Store, job: Job) -> None:
    """The worker checks the content it opens; outcomes never land under another fingerprint."""
    context = context_of(job, Settings())
    plan = plan_job(store, job)
    task = plan.tasks[0]
    lying = replace(task.pieces[0].spec.data, digest="0" * 64)
    source = replace(context.data[job.data.digest], digest=lying.digest)
    context = replace(context, data={lying.digest: source})
    pieces = tuple(replace(piece, spec=replace(piece.spec, data=lying)) for piece in task.pieces)
    (outcome, *_) = Kernel(context).run(replace(task, pieces=pieces))
    assert isinstance(outcome, Failure)
    assert "changed since the run was planned" in outcome.message
    assert DataError.__name__ in outcome.traceback


def test_models_with_batch_dependent_logits_are_flagged_and_run_at_a_fixed_batch(
    store: Store, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm left in train mode: promise A fails, the board says so, and the batch no longer matters."""

    def in_train_mode(source: ModelSource) -> torch.nn.Module:
        model = load(source)
        assert isinstance(model, torch.nn.Module)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.train()
                part.momentum = 0.0
        return model

    monkeypatch.setattr(kernel_module, "load", in_train_mode)
    run_job(store, job, SerialExecutor())
    assert all("batch_dependent" in flags for flags in store.flags().values())
    assert len(store.flags()) == 2


def test_models_are_probed_on_the_clean_set_whatever_comes_first(
    store: Store, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each task in a worker of its own, in memory and from corrupted files: the first 64 clean images every time."""
    seen: list[torch.Tensor] = []

    def watched(model: Any, images: torch.Tensor) -> ProbeResult:
        seen.append(images)
        return ProbeResult(identical=True, logits_difference=0.0, gradient_difference=0.0, classes=10)

    monkeypatch.setattr(kernel_module, "probe", watched)
    base = open_dataset("digits")
    np.save(tmp_path / "brightness.npy", np.tile(255 - base.images(0, 70), (5, 1, 1, 1)))
    np.save(tmp_path / "labels.npy", base.labels[:70].astype(np.uint8))
    declared = Declaration(name="digits-c", layout="cifar-c", path=tmp_path, of="digits")
    files = parse_benchmark(TINY.replace('"gaussian_noise", "brightness"', '"brightness"'))
    target = replace(file_target(declared, base), suite="imagecorruptions")
    jobs = (job, Job(benchmark=files, models=job.models, data=base, target=target, declarations={"digits-c": declared}))
    kinds = set()
    for each in jobs:
        run_job(store, limited(each, 5), SerialExecutor())
        for task in plan_job(store, each).tasks:
            outcome = next(Kernel(context_of(each, Settings())).run(task))
            assert isinstance(outcome, BlockOutcome)
            kinds.add((type(task.pieces[0].spec.perturbation), task.data == base.ref()))
    assert kinds == {(kind, True) for kind in (CleanSpec, CorruptionSpec, AttackSpec, MeasureSpec)} | {
        (CleanSpec, False)
    }
    assert seen
    assert all(torch.equal(images, to_float(base.images(0, 64), torch.device("cpu"))) for images in seen)
