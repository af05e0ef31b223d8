"""How fast a model runs here, and what the benchmarks that fit its data set would therefore take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from harness.attacks.physical import ROWS, Passes
from harness.benchmarks import Benchmark, benchmark_names, load_benchmark
from harness.data import Dataset
from harness.errors import InvalidArgument, ModelError
from harness.jobs.plan import Cost, make_plan
from harness.spec import DataRef, ModelRef
from harness.target import Target
from harness.types import Classifier
from models_zoo.preflight.report import Finding

LEAST_SECONDS = 0.5
MOST_PASSES = 16
SUITES = {
    "clean": "clean",
    "corruptions": "corruptions",
    "attack": "attacks",
    "measure": "measures",
    "checks": "checks",
}
"""Kind of a benchmark's entry -> what people call it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Images a second, of one thread inside operations, as workers run.

    Attributes:
        forward: of a forward pass.
        both: of a forward and a backward pass; None where there is no gradient.
        rows: of the batches that were timed.
    """

    forward: float
    both: float | None
    rows: int

    def seconds(self, cost: Cost) -> float | None:
        """What passes take, a backward one with its forward; None where gradients are needed and there are none."""
        if cost.backwards and self.both is None:
            return None
        with_gradient = cost.backwards / self.both if self.both is not None else 0.0
        return with_gradient + max(0, cost.forwards - cost.backwards) / self.forward


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside operations, as in workers, while it lasts."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def forward_rate(model: Classifier, images: torch.Tensor) -> float:
    """Images a second of a batch of 16 forward, after a pass to warm up.

    Raises:
        ModelError: logits that are not finite or of a wrong shape.
    """
    batch = _rows(images, ROWS)
    passes = Passes(model, batch_size=ROWS)
    passes.logits(batch)
    return _rate(lambda: passes.logits(batch), batch, least=0.0)


def measure_speed(model: Classifier, images: torch.Tensor, rows: int) -> Speed:
    """Time passes for half a second each, after one to warm up.

    Args:
        model: the model.
        images: at least one, n x 3 x h x w, on the model's device.
        rows: of a batch, a multiple of 16.

    Raises:
        ModelError: logits that are not finite or of a wrong shape.
    """
    batch = _rows(images, rows)
    passes = Passes(model, batch_size=rows)
    passes.logits(batch)
    forward = _rate(lambda: passes.logits(batch), batch, LEAST_SECONDS)
    try:
        passes.gradient(batch, _spread)
    except ModelError:
        return Speed(forward=forward, both=None, rows=rows)
    both = _rate(lambda: passes.gradient(batch, _spread), batch, LEAST_SECONDS)
    return Speed(forward=forward, both=both, rows=rows)


def _rows(images: torch.Tensor, rows: int) -> torch.Tensor:
    """Exactly `rows` images, repeated where there are fewer."""
    return images.repeat(-(-rows // len(images)), 1, 1, 1)[:rows]


def _spread(logits: torch.Tensor) -> torch.Tensor:
    """A smooth function of all logits, one value an image."""
    return torch.logsumexp(logits, dim=1)


def _rate(run: Callable[[], object], batch: torch.Tensor, least: float) -> float:
    """Images a second over at least `least` seconds, or 16 passes, or one if a pass takes longer."""
    _wait(batch)
    started = time.perf_counter()
    done = 0
    while True:
        run()
        _wait(batch)
        done += 1
        passed = max(time.perf_counter() - started, 1e-9)
        if passed >= least or done == MOST_PASSES:
            return done * len(batch) / passed


def _wait(batch: torch.Tensor) -> None:
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)


def speed(measured: Speed) -> Finding:
    """The throughput as a finding."""
    facts = {"forward": measured.forward, "forward_and_backward": measured.both, "batch": measured.rows}
    how = f"images a second, one thread, batches of {measured.rows}"
    if measured.both is None:
        return Finding(check="speed", level="ok", found=f"forward {measured.forward:,.0f} {how}", facts=facts)
    found = f"forward {measured.forward:,.0f}, forward and backward {measured.both:,.0f} {how}"
    return Finding(check="speed", level="ok", found=found, facts=facts)


def fitting_benchmarks(data: Dataset) -> tuple[Benchmark, ...]:
    """The newest version of each benchmark that is made for a data set; those of its shape if none names it."""
    newest = dict(benchmark_names())  # oldest version first, so the last one stays
    ref = _ref(data)
    fitting = []
    for name, version in sorted(newest.items()):
        benchmark = load_benchmark(f"{name}@{version}")
        try:
            benchmark.check_data(ref, data.image_size)
        except InvalidArgument:
            continue
        fitting.append(benchmark)
    return tuple(benchmark for benchmark in fitting if benchmark.dataset == data.name) or tuple(fitting)


def _ref(data: Dataset) -> DataRef:
    """A reference without the fingerprint: a plan's size does not depend on it, and it takes a pass over all images."""
    return DataRef(name=data.name, split=data.split, digest="", images=len(data), classes=len(data.classes))


def costs(data: Dataset, measured: Speed) -> Finding:
    """Predicted seconds of each suite of each benchmark that fits, in one worker.

    Passes come from the plan: an upper bound for attacks, since broken images leave early. The time to make corrupted
    images, which all models of a run share, is not in it.
    """
    lines: list[str] = []
    rows: list[dict[str, object]] = []
    for benchmark in fitting_benchmarks(data):
        suites = _by_suite(benchmark, data)
        parts = []
        facts: dict[str, object] = {"benchmark": benchmark.label}
        for suite, cost in suites.items():
            seconds = measured.seconds(cost)
            bound = "at most " if suite in ("attacks", "checks") else ""
            parts.append(f"{suite} {'cannot run' if seconds is None else bound + _duration(seconds)}")
            facts[suite] = {
                "seconds": seconds,
                "forwards": cost.forwards,
                "backwards": cost.backwards,
                "corrupted_images": cost.corrupted,
            }
        lines.append(f"{benchmark.label}: {', '.join(parts)}")
        rows.append(facts)
    if not rows:
        height, width = data.image_size
        found = f"no benchmark is made for {len(data.classes)} classes at {height}x{width}"
        return Finding(check="cost", level="warning", found=found, advice="it can be added, but not run on a board yet")
    found = "predicted for one worker, without the time to make corrupted images"
    return Finding(check="cost", level="ok", found=found, details=tuple(lines), facts={"benchmarks": rows})


def _by_suite(benchmark: Benchmark, data: Dataset) -> dict[str, Cost]:
    requests = benchmark.requests(ModelRef(name="checked", digest=""), Target.plain(_ref(data)))
    found: dict[str, Cost] = {}
    for kind, suite in SUITES.items():
        wanted = [request for request in requests if benchmark.group(request.group).kind == kind]
        if wanted:
            found[suite] = make_plan(wanted, {}).cost
    return found


def _duration(seconds: float) -> str:
    """Two or three digits that a person can use."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
