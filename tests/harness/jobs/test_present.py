"""Sets with a part of the classes, or with all of them, through the whole kernel: judged among those that are there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.attacks import run_attack
from harness.attacks.checks import examine
from harness.benchmarks import parse_benchmark
from harness.data import open_dataset
from harness.data.declared import Declaration, open_declared
from harness.errors import DataError
from harness.jobs.context import ModelSource, load
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.kernel import to_float
from harness.jobs.present import Among, among
from harness.jobs.runner import Job, run_job
from harness.jobs.subject import open_subject
from harness.storage.store import Store
from tests.harness.jobs.conftest import MODELS
from tests.harness.jobs.test_checking import TOML

MORE = """
[[evaluations]]
id = "pgd"
kind = "attack"
attack = "pgd"
norm = "Linf"
eps = "2/255"
images = 24
options = { steps = 2 }

[[evaluations]]
id = "margin"
kind = "measure"
measure = "margin"
images = 24

[[columns]]
"""
COUNT = 24


def shifted(folder: Path, classes: tuple[int, ...]) -> Declaration:
    """Some of the digits as a shift set of their own: 24 images of these classes."""
    data = open_dataset("digits")
    for position in np.flatnonzero(np.isin(data.labels, classes))[:COUNT].tolist():
        (folder / str(data.labels[position])).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(data.images(position, position + 1)[0])
        picture.save(folder / str(data.labels[position]) / f"{position:04}.png")
    return Declaration(name="shifted", layout="shift", path=folder, of="digits")


def job_on(folder: Path, classes: tuple[int, ...], models: tuple[ModelSource, ...]) -> Job:
    """One model on it: a clean pass, an attack, a measure and the checks."""
    declaration = shifted(folder, classes)
    data = open_declared(declaration, "test", open_dataset("digits"))
    benchmark = parse_benchmark(TOML.replace("[[columns]]\n", MORE.lstrip("\n"), 1))
    return Job(benchmark=benchmark, models=models[:1], data=data, declarations={"shifted": declaration})


@pytest.mark.parametrize("classes", [(3, 5, 8), tuple(range(10))], ids=["some", "all"])
def test_a_sound_model_has_no_flags_and_the_verdicts_by_hand(
    store: Store, models: tuple[ModelSource, ...], tmp_path: Path, classes: tuple[int, ...]
) -> None:
    """No flag in any evaluation; verdicts and margins are those of the logits of the classes that are there."""
    job = job_on(tmp_path / "set", classes, models)
    assert job.data.present == classes
    assert len(job.data) == COUNT
    assert not run_job(store, job, SerialExecutor(), command="test").failures
    rows = {item.kind: item for item in store.evaluations(model=MODELS[0])}
    assert set(rows) == {"clean", "attack", "measure", "checks"}
    assert {kind: row.flags for kind, row in rows.items()} == {kind: {} for kind in rows}

    model = load(models[0])
    images = to_float(job.data.images(), torch.device("cpu"))
    labels = np.searchsorted(classes, job.data.labels)

    def by_hand(batch: torch.Tensor) -> torch.Tensor:
        return model(batch)[:, list(classes)]

    with torch.no_grad():
        logits = by_hand(images).numpy()
    clean = store.verdicts([rows["clean"].digest])[rows["clean"].digest]
    assert np.array_equal(clean, logits.argmax(axis=1) == labels)
    result = run_attack(by_hand, images, torch.from_numpy(labels), "pgd", eps="2/255", seed=2, steps=2)
    assert np.array_equal(store.verdicts([rows["attack"].digest])[rows["attack"].digest], result.robust)
    (margin,) = [
        value for value in store.measures([rows["measure"].digest])[rows["measure"].digest] if value.units is not None
    ][:1]
    expected = [row[label] - np.delete(row, label).max() for row, label in zip(logits, labels, strict=True)]
    assert margin.units is not None
    np.testing.assert_allclose(margin.units, expected, rtol=1e-4, atol=1e-5)


def test_a_set_without_a_missing_class_gets_the_model_itself(tmp_path: Path, models: tuple[ModelSource, ...]) -> None:
    """Neither model nor labels are touched; with a class less, the model is wrapped and its features handed through."""
    data = open_declared(shifted(tmp_path / "all", tuple(range(10))), "test", open_dataset("digits"))
    model, labels = load(models[0]), np.asarray(data.labels)
    assert among(model, data, labels) == (model, labels)
    assert among(model, open_dataset("digits"), labels) == (model, labels)
    assert open_subject(models[0], data).model is not None
    assert not isinstance(open_subject(models[0], data).model, Among)

    part = open_declared(shifted(tmp_path / "part", (3, 5, 8)), "test", open_dataset("digits"))
    wrapped, positions = among(model, part, np.asarray(part.labels))
    assert set(positions.tolist()) == {0, 1, 2}
    images = to_float(part.images(0, 16), torch.device("cpu"))
    assert torch.equal(wrapped(images), model(images)[:, [3, 5, 8]])
    ours, theirs = wrapped.features(images), model.features(images)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[layer], theirs[layer]) for layer in theirs)


def test_a_wrapped_model_in_training_mode_is_still_seen(tmp_path: Path, models: tuple[ModelSource, ...]) -> None:
    """The wrapper has no mode of its own, and hides none of the model's."""
    data = open_declared(shifted(tmp_path / "part", (3, 5, 8)), "test", open_dataset("digits"))
    model = load(models[0])
    wrapped, labels = among(model, data, np.asarray(data.labels))
    images = to_float(data.images(0, 16), torch.device("cpu"))
    truth = torch.from_numpy(labels[:16])
    assert isinstance(model, torch.nn.Module)
    part = next(module for module in model.modules() if isinstance(module, torch.nn.ReLU | torch.nn.Conv2d))
    part.training = True
    found = examine(wrapped, images, truth, thorough=False).flags
    assert found["train_mode"] == "1 modules are in training mode"


def test_a_shift_set_of_one_class_is_refused(tmp_path: Path) -> None:
    """Every model would be right on all of it."""
    declaration = shifted(tmp_path / "one", (3,))
    with pytest.raises(DataError, match="1 class folders, expected at least two"):
        open_declared(declaration, "test", open_dataset("digits"))
    with pytest.raises(DataError, match="no such folder"):
        open_declared(replace(declaration, path=tmp_path / "none"), "test", open_dataset("digits"))
