"""Promise A as a property: any cut, order, bundling and batch size gives the same bits on every path of the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.benchmarks import Request, parse_benchmark
from harness.data import open_dataset
from harness.jobs.context import Settings, find_models
from harness.jobs.kernel import Kernel
from harness.jobs.plan import Piece, Task
from harness.jobs.runner import Job, context_of
from harness.outcome import BlockOutcome
from tests.harness.jobs.conftest import MODELS, TINY

if TYPE_CHECKING:
    from harness.types import Bits

IMAGES = 40
Verdicts = dict[str, tuple[bytes, bytes]]
Run = Callable[[list[Task], int], Verdicts]


@pytest.fixture(scope="module")
def requests() -> tuple[Request, ...]:
    """Clean, four corruptions and PGD of two models."""
    job = Job(benchmark=parse_benchmark(TINY), models=find_models(None, MODELS), data=open_dataset("digits"))
    return tuple(request for request in job.requests() if request.group != "selectivity")


@pytest.fixture(scope="module")
def run() -> Run:
    """Tasks and a batch size to verdicts and attack records by evaluation, images in order."""
    job = Job(benchmark=parse_benchmark(TINY), models=find_models(None, MODELS), data=open_dataset("digits"))
    kernels = {size: Kernel(context_of(job, Settings(batch_size=size))) for size in (1, 16, 23, 128)}

    def call(tasks: list[Task], batch_size: int) -> Verdicts:
        found: dict[str, dict[int, tuple[Bits, NDArray[Any]]]] = {}
        for task in tasks:
            for outcome in kernels[batch_size].run(task):
                assert isinstance(outcome, BlockOutcome), outcome
                found.setdefault(outcome.evaluation, {})[outcome.start] = (outcome.correct, _records(outcome))
        return {digest: _joined(parts) for digest, parts in found.items()}

    return call


@pytest.fixture(scope="module")
def expected(requests: tuple[Request, ...], run: Run) -> Verdicts:
    """Each evaluation in one piece."""
    return run([_task(number, [request], 0, IMAGES) for number, request in enumerate(requests)], 128)


def _records(outcome: BlockOutcome) -> NDArray[Any]:
    """Attack records with codes that mean the same in every outcome."""
    if outcome.detail is None:
        return np.zeros(0)
    records = outcome.detail.records.copy()
    names = [outcome.detail.names[code] for code in records["broken_by"]]
    records["broken_by"] = np.array([("", "clean", "pgd").index(name) for name in names], dtype=np.uint8)
    return records


def _joined(parts: dict[int, tuple[Bits, NDArray[Any]]]) -> tuple[bytes, bytes]:
    ordered = [parts[start] for start in sorted(parts)]
    return np.concatenate([bits for bits, _ in ordered]).tobytes(), np.concatenate(
        [rec for _, rec in ordered]
    ).tobytes()


def _task(number: int, bundle: list[Request], start: int, stop: int) -> Task:
    pieces = tuple(Piece(spec=request.spec, block=0, start=start, stop=stop) for request in bundle)
    return Task(id=number, start=start, stop=stop, pieces=pieces)


@settings(max_examples=12)
@given(data=st.data())
def test_outcomes_are_bit_identical(
    data: st.DataObject, requests: tuple[Request, ...], run: Run, expected: Verdicts
) -> None:
    """Ranges are cut anywhere, models bundled or not, tasks shuffled, batches of 1 to 128 rows."""
    cuts = sorted(data.draw(st.sets(st.integers(1, IMAGES - 1), max_size=3)))
    bundled = data.draw(st.booleans())
    size = data.draw(st.sampled_from([1, 16, 23, 128]))
    bundles: dict[object, list[Request]] = {}
    for number, request in enumerate(requests):
        bundles.setdefault(request.spec.perturbation.label if bundled else number, []).append(request)
    tasks = [
        _task(0, bundle, start, stop)
        for bundle in bundles.values()
        for start, stop in zip([0, *cuts], [*cuts, IMAGES], strict=True)
    ]
    assert run(data.draw(st.permutations(tasks)), size) == expected
