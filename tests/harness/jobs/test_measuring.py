"""Measures through a run: options from file to store, columns, cost, batches read anew, sets with few classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness.benchmarks import Benchmark, load_benchmark, parse_benchmark
from harness.data import Dataset, open_dataset
from harness.errors import InvalidArgument, RobustboardError, UnknownName
from harness.jobs.context import find_models, load
from harness.jobs.executors.local import SerialExecutor
from harness.jobs.kernel import to_float
from harness.jobs.measuring import Batches, run_measure
from harness.jobs.plan import make_plan
from harness.jobs.runner import Job, run_job
from harness.measures import MEASURES
from harness.spec import EvaluationSpec, MeasureSpec, ModelRef
from harness.storage.store import Store
from tests.harness.jobs.conftest import TINY

GROUPS = """
[[evaluations]]
id = "change"
kind = "measure"
measure = "dimensionality_corruptions"
images = 40
options = { corruptions = "weather", severities = "3" }

[[evaluations]]
id = "margin"
kind = "measure"
measure = "margin"
images = 40
"""
COLUMNS = """
[[columns]]
name = "change"
title = "Change"
help = "change"
score = "measure"
quantity = "change_fraction_95"
evaluations = ["change"]

[[columns]]
name = "margin_median"
title = "Margin"
help = "margin"
score = "measure"
quantity = "margin_p50"
evaluations = ["margin"]
"""


def benchmark(groups: str = GROUPS, columns: str = COLUMNS) -> Benchmark:
    """The tiny benchmark with more measures and without its attack."""
    head, rest = TINY.split('[[evaluations]]\nid = "pgd_linf"')
    _, rest = rest.split('[[evaluations]]\nid = "selectivity"')
    rest = rest.split("[[columns]]")[0]
    columns = '[[columns]]\nname = "corruption_accuracy"\ntitle = "C"\nhelp = "c"\nscore = "mean_accuracy"\n' + (
        'evaluations = ["corruptions"]\n' + columns
    )
    return parse_benchmark(f'{head}[[evaluations]]\nid = "selectivity"{rest}{groups}{columns}')


def test_measures_run_and_become_columns(store: Store) -> None:
    """A run stores every layer with its arrays, and the board's cells are the numbers of the measure called by hand."""
    models = find_models(store, ["small_cnn.supervised.digits.s0"])
    job = Job(benchmark=benchmark(), models=models, data=open_dataset("digits"))
    assert not run_job(store, job, SerialExecutor()).failures
    images = to_float(open_dataset("digits").images(0, 40), torch.device("cpu"))
    labels = open_dataset("digits").labels[:40]
    by_hand = MEASURES.get("dimensionality_corruptions").run(
        load(models[0]), [images], labels, options={"corruptions": "weather", "severities": "3"}
    )
    cells = {score.column: score for score in store.scores()}
    assert cells["change"].value == by_hand.value("change_fraction_95")
    assert (cells["change"].n, cells["change"].images) == (40, 40)
    assert cells["change"].metric_version.startswith("dimensionality_corruptions/1+")
    margin = MEASURES.get("margin").run(load(models[0]), [images], labels)
    assert cells["margin_median"].value == pytest.approx(margin.value("margin_p50"))
    stored = {item.label: item for item in store.evaluations(model=models[0].name) if item.kind == "measure"}
    change = stored["dimensionality_corruptions[0:40]"]
    assert change.perturbation["options"]["corruptions"] == "snow,frost,fog,brightness"
    assert sum(run["forwards"] for run in change.executions) == 40 * 5
    values = store.measures([change.digest])[change.digest]
    assert len(values) == len(by_hand.entries)
    arrays = [value.units for value in values if value.units is not None]
    assert {array.shape for array in arrays} == {(4,)}


class Counted(Dataset):
    """Digits that count what is read at once."""

    def __init__(self, base: Dataset) -> None:
        super().__init__(
            name="counted", split="test", classes=base.classes, labels=base.labels, image_size=base.image_size
        )
        self.base = base
        self.read: list[tuple[int, int]] = []

    def _read(self, start: int, stop: int) -> NDArray[np.uint8]:
        self.read.append((start, stop))
        return self.base.images(start, stop)

    def _fingerprint(self) -> str:
        return "c" * 64


def test_images_are_read_batch_by_batch_each_time() -> None:
    """No more than 128 images are asked for at once, and a second pass reads them again."""
    data = Counted(open_dataset("digits"))
    batches = Batches(data, 100, 400, lambda images: to_float(images, torch.device("cpu")))
    first = [batch.shape[0] for batch in batches]
    again = torch.cat(list(batches))
    assert first == [128, 128, 44]
    assert data.read == [(100, 228), (228, 356), (356, 400)] * 2
    assert torch.equal(again, to_float(open_dataset("digits").images(100, 400), torch.device("cpu")))


def test_sets_with_few_classes_are_measured_among_those() -> None:
    """Where a set lacks classes, their logits count for nothing: the margin is that among the classes it has."""
    data = open_dataset("digits")
    (source,) = find_models(None, ["small_cnn.supervised.digits.s0"])
    model = load(source)
    few = Counted(data)
    few.present = (0, 1, 2, 3, 4)
    where = np.flatnonzero(data.labels < 5)[:30]
    few.labels = data.labels[where]
    images = np.concatenate([data.images(int(at), int(at) + 1) for at in where])
    few.images = lambda start=0, stop=None: images[start:stop]  # type: ignore[method-assign]
    spec = MeasureSpec(measure="margin", version="1", start=0, stop=30)
    values, rows = run_measure(model, spec, few, lambda part: to_float(part, torch.device("cpu")))
    with torch.no_grad():
        logits = model(to_float(images, torch.device("cpu"))).numpy()[:, :5]
    expected = [row[label] - np.delete(row, label).max() for row, label in zip(logits, few.labels, strict=True)]
    assert values[0].units is not None
    np.testing.assert_allclose(values[0].units, expected, rtol=1e-4)
    assert rows == (30, 0)


def test_the_plan_knows_what_measures_cost() -> None:
    """Rows by the measure's own count; a dear measure is scheduled with the attacks, before single passes."""
    model = ModelRef(name="m", digest="a" * 64)
    target = Job(benchmark=benchmark(), models=(), data=open_dataset("digits")).goal
    plan = make_plan(benchmark().requests(model, target), {})
    by_label = {task.label: cost for task, cost in zip(plan.tasks, plan.costs, strict=True)}
    change = by_label["dimensionality_corruptions[0:40]"]
    assert (change.corrupted, change.forwards, change.backwards) == (160, 200, 0)
    assert by_label["selectivity[0:60]"].forwards == 60
    assert plan.tasks[0].label == "dimensionality_corruptions[0:40]"


def test_released_benchmarks_keep_their_selectivity() -> None:
    """The identity of what is stored does not move: version 1, no options."""
    for label in ("digits@1", "digits@2", "cifar10@2"):
        released = load_benchmark(label)
        model = ModelRef(name="m", digest="a" * 64)
        target = Job(benchmark=benchmark(), models=(), data=open_dataset("digits")).goal
        (spec,) = [
            request.spec
            for request in released.requests(model, target)
            if isinstance(request.spec.perturbation, MeasureSpec)
        ]
        plain = MeasureSpec(measure="selectivity", version="1", start=0, stop=spec.perturbation.stop)  # type: ignore[union-attr]
        assert spec == EvaluationSpec(model=model, data=target.clean, perturbation=replace(plain))


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('severities = "3"', 'severity = "3"', UnknownName, "did you mean 'severities'"),
        ('corruptions = "weather"', 'corruptions = "smog"', UnknownName, "'smog'"),
        ('severities = "3"', 'severities = "0"', InvalidArgument, "severities: got '0'"),
        ('measure = "margin"', 'measure = "margins"', UnknownName, "measure 'margins'; did you mean 'margin'"),
        ('"change_fraction_95"', '"change_fraction_96"', UnknownName, "quantity of measure dimensionality_corruptions"),
        ('["margin"]', '["clean"]', UnknownName, "measure"),
    ],
)
def test_wrong_files_are_refused(old: str, new: str, error: type[RobustboardError], message: str) -> None:
    """Options, names and quantities are checked when the file is read."""
    with pytest.raises(error, match=message):
        benchmark(GROUPS.replace(old, new), COLUMNS.replace(old, new))
