"""The kernel: runs a task and yields its outcomes. Reads images and weights, writes nothing.

Outcomes depend on specs alone: not on batch size, order, bundling or the number of workers (promise A).
"""

from __future__ import annotations

import functools
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.attacks import AttackResult, Numerics, attack_blocks
from harness.attacks.checks import examine
from harness.attacks.examples import as_float, first_broken, most_kept
from harness.attacks.physical import predict, probe
from harness.data import Dataset
from harness.device import check_device, device_name, machine
from harness.errors import ModelError, NonFinite, RobustboardError, WorkError
from harness.jobs.context import Context, ModelSource, load
from harness.jobs.measuring import run_measure
from harness.jobs.plan import Piece, Task
from harness.jobs.present import among
from harness.outcome import DETAIL_DTYPE, BlockOutcome, Cost, Detail, Failure, MeasureValue
from harness.spec import AttackSpec, ChecksSpec, CorruptionSpec, EvaluationSpec, MeasureSpec

if TYPE_CHECKING:
    from harness.types import Bits, FeatureModel, ImagesU8

MODEL_BYTES = 4 << 30
"""Loaded models that a worker keeps, the least recently used one going first: a task may go through all of a run's."""

DATASETS_KEPT = 4
"""Opened data sets that a worker keeps: one and, of corrupted files, the cells at hand."""

PROBED = 64
"""Images that a model is probed on, the first of the clean set."""

BATCH_DEPENDENT = "batch_dependent"
"""Flag of models whose logits change with the batch they are in; they run at one fixed batch size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A model in memory, and how it must be run.

    Attributes:
        model: in eval mode, on its device.
        fixed_batch: exact rows of every batch; None where outcomes do not depend on the batch.
        flags: flag -> evidence.
    """

    model: FeatureModel
    fixed_batch: int | None
    flags: dict[str, str]


class Kernel:
    """Runs tasks in this process.

    Args:
        context: models, data and settings.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self._models: OrderedDict[str, Loaded] = OrderedDict()
        self._data: OrderedDict[str, Dataset] = OrderedDict()
        self._first: ImagesU8 | None = None  # of the clean set, which all tasks of a run share
        self._device = check_device(context.settings.device)

    def run(self, task: Task) -> Iterator[BlockOutcome | Failure]:
        """Yield an outcome for each piece as soon as it is done; an error is a value, and the other pieces go on."""
        with machine(threads=self.context.settings.threads, device=self._device, strict=False):
            yield from self._run(task)

    def _run(self, task: Task) -> Iterator[BlockOutcome | Failure]:
        started = time.perf_counter()
        try:
            data = self._dataset(task)
            images = self._images(task, data)
        except Exception as error:  # noqa: BLE001 - an error is a value here; the runner stores it with its traceback
            for piece in task.pieces:
                yield failure(piece, error)
            return
        shared = (time.perf_counter() - started) / len(task.pieces)
        if isinstance(task.pieces[0].spec.perturbation, AttackSpec):
            for spec in dict.fromkeys(piece.spec for piece in task.pieces):
                pool = [piece for piece in task.pieces if piece.spec == spec]
                yield from self._attack(task, pool, images, data, shared)
            return
        for piece in task.pieces:
            try:
                outcome = self._piece(piece, images[piece.start - task.start : piece.stop - task.start], data, shared)
            except Exception as error:  # noqa: BLE001 - as above
                outcome = failure(piece, error)
            yield outcome

    def _images(self, task: Task, data: Dataset) -> ImagesU8:
        """The task's images, corrupted once for all of its models; none for a measure, which reads its own."""
        perturbation = task.pieces[0].spec.perturbation
        if isinstance(perturbation, MeasureSpec):
            return data.images(task.start, task.start)
        images = data.images(task.start, task.stop)
        if isinstance(perturbation, CorruptionSpec):
            from harness.corruptions import corrupt

            return corrupt(
                images,
                perturbation.name,
                perturbation.severity,
                suite=maker(perturbation),
                seed=perturbation.seed,
                indices=np.arange(task.start, task.stop),
            )
        return images

    def _piece(self, piece: Piece, images: ImagesU8, data: Dataset, shared: float) -> BlockOutcome | Failure:
        started, spec = time.perf_counter(), piece.spec.perturbation
        loaded = self._subject(piece)
        labels = data.labels[piece.start : piece.stop]
        correct, measures, flags = np.zeros(0, dtype=np.bool_), tuple[MeasureValue, ...](), dict[str, str]()
        forwards, backwards = len(images), 0
        if isinstance(spec, MeasureSpec):
            convert = functools.partial(to_float, device=self._device)
            measures, (forwards, backwards) = run_measure(loaded.model, spec, data, convert)
        elif isinstance(spec, ChecksSpec):
            model, labels = among(loaded.model, data, labels)
            truth = torch.from_numpy(np.array(labels)).to(self._device)
            pixels, fixed = to_float(images, self._device), loaded.fixed_batch
            found = examine(model, pixels, truth, norm=spec.norm, eps=spec.eps, seed=spec.seed, fixed_batch=fixed)
            flags, forwards, backwards = found.flags, found.forwards, found.backwards
        else:
            correct = self._correct(loaded, images, labels, data)
        cost = Cost(
            seconds=shared + time.perf_counter() - started,
            forwards=forwards,
            backwards=backwards,
            device=device_name(self._device),
            batch_size=loaded.fixed_batch or self.context.settings.batch_size,
        )
        return BlockOutcome(
            evaluation=piece.spec.digest,
            block=piece.block,
            start=piece.start,
            stop=piece.stop,
            correct=correct,
            cost=cost,
            measures=measures,
            flags={**loaded.flags, **flags},
        )

    def _correct(self, loaded: Loaded, images: ImagesU8, labels: NDArray[np.int64], data: Dataset) -> Bits:
        model, labels = among(loaded.model, data, labels)
        logits = predict(
            model,
            to_float(images, self._device),
            batch_size=self.context.settings.batch_size,
            fixed_batch=loaded.fixed_batch,
        )
        right: Bits = logits.argmax(dim=1).cpu().numpy() == labels
        return right

    def _attack(
        self, task: Task, pool: Sequence[Piece], images: ImagesU8, data: Dataset, shared: float
    ) -> Iterator[BlockOutcome | Failure]:
        """The pieces of one evaluation in one pool; each comes out when its last image is done."""
        left = list(pool)
        started = time.perf_counter()
        try:
            loaded = self._model(left[0].spec)
            for piece, result in self._attacked(loaded, task, pool, images, data):
                left.remove(piece)
                yield self._attack_outcome(piece, loaded, result, data, shared + time.perf_counter() - started)
                started = time.perf_counter()
        except Exception as error:  # noqa: BLE001 - an error is a value; finished blocks stand
            for piece in left:
                yield failure(piece, error)

    def _attacked(
        self, loaded: Loaded, task: Task, pool: Sequence[Piece], images: ImagesU8, data: Dataset
    ) -> Iterator[tuple[Piece, AttackResult]]:
        pieces = sorted(pool, key=lambda piece: piece.start)
        spec = pieces[0].spec.perturbation
        if not isinstance(spec, AttackSpec):
            raise TypeError(f"{task.label} is no attack")
        indices = np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces])
        model, labels = among(loaded.model, data, data.labels[indices])
        results = attack_blocks(
            model,
            to_float(images[indices - task.start], self._device),
            torch.from_numpy(np.array(labels)).to(self._device),
            [piece.stop - piece.start for piece in pieces],
            spec.attack,
            norm=spec.norm,
            eps=spec.eps,
            seed=spec.seed,
            indices=indices,
            batch_size=spec.scope.batch if spec.scope is not None else self.context.settings.batch_size,
            fixed_batch=loaded.fixed_batch,
            numerics=Numerics(precision=spec.search_precision),
            **dict[str, Any](spec.options),
        )
        for number, result in results:
            yield pieces[number], result

    def _attack_outcome(
        self, piece: Piece, loaded: Loaded, result: AttackResult, data: Dataset, seconds: float
    ) -> BlockOutcome:
        cost = Cost(
            seconds=seconds,
            forwards=result.forwards,
            backwards=result.backwards,
            device=device_name(self._device),
            batch_size=loaded.fixed_batch or self.context.settings.batch_size,
        )
        keep, examples = self.context.settings.keep_examples, None
        if keep:
            keep = most_kept(keep, tuple(result.adversarial.shape[1:]))
            examples = first_broken(result, piece.start, data.labels[piece.start : piece.stop], keep)
        return BlockOutcome(
            evaluation=piece.spec.digest,
            block=piece.block,
            start=piece.start,
            stop=piece.stop,
            correct=result.robust,
            cost=cost,
            detail=pack_detail(result),
            flags={**loaded.flags, **result.evidence},
            examples=examples,
            keep=keep,
        )

    def _dataset(self, task: Task) -> Dataset:
        digest = task.data.digest
        if digest in self._data:
            self._data.move_to_end(digest)
            return self._data[digest]
        self._data[digest] = self.context.data[digest].open()
        if len(self._data) > DATASETS_KEPT:
            self._data.popitem(last=False)
        return self._data[digest]

    def _subject(self, piece: Piece) -> Loaded:
        """The piece's model; for checks also one without finite numbers, since they say what is wrong with it."""
        try:
            return self._model(piece.spec)
        except NonFinite:
            if not isinstance(piece.spec.perturbation, ChecksSpec):
                raise
            source = self.context.models[piece.spec.model.digest]
            return Loaded(model=on_device(source, self._device), fixed_batch=None, flags={})

    def _model(self, spec: EvaluationSpec) -> Loaded:
        digest = spec.model.digest
        if digest in self._models:
            self._models.move_to_end(digest)
            return self._models[digest]
        if self._first is None:
            source = self.context.data[spec.data.digest]
            clean = self._data[spec.data.digest] if source.cell is None else source.clean()
            self._first = np.array(clean.images(0, min(PROBED, len(clean))))
        self._models[digest] = prepare(self.context.models[digest], self._first, self._device)
        while len(self._models) > 1 and sum(map(_size, self._models.values())) > MODEL_BYTES:
            self._models.popitem(last=False)
        return self._models[digest]


def on_device(source: ModelSource, device: torch.device) -> FeatureModel:
    """Load a model."""
    model = load(source)
    if isinstance(model, torch.nn.Module):
        model.to(device)
    return model


def prepare(source: ModelSource, images: ImagesU8, device: torch.device) -> Loaded:
    """Load a model and probe whether its outcomes depend on the batch.

    Args:
        source: the model.
        images: the first 64 of the clean set, or all if it has fewer: not those of a task, so that no worker finds
            otherwise than another.
        device: where it will run.

    Raises:
        ModelError: another number of logits than the card says, or no logits.
        NonFinite: logits that are not finite.
    """
    model = on_device(source, device)
    result = probe(model, to_float(images, device))
    if result.classes != source.card["classes"]:
        expected = f"expected {source.card['classes']}, as its card says"
        raise ModelError(f"model {source.name!r}: returned {result.classes} logits an image, {expected}")
    flags = {}
    if not result.identical:
        evidence = f"logits differ by {result.logits_difference:.2g} between batches of 16 and 64"
        flags[BATCH_DEPENDENT] = f"{evidence}, input gradients by {result.gradient_difference:.2g}"
    return Loaded(model=model, fixed_batch=result.fixed_batch, flags=flags)


def _size(loaded: Loaded) -> int:
    """Bytes of a model's parameters."""
    if not isinstance(loaded.model, torch.nn.Module):
        return 0
    return sum(parameter.numel() * parameter.element_size() for parameter in loaded.model.parameters())


def maker(spec: CorruptionSpec) -> str:
    """The suite, engine's or reference's, whose component has the version that the spec asks for.

    Raises:
        WorkError: none has it: the spec is of another version of robustboard.
    """
    from harness.corruptions.suites import SUITES

    for name in (spec.suite, f"{spec.suite}-reference"):
        if name in SUITES and SUITES.get(name).version(spec.name) == spec.version:
            return name
    raise WorkError(f"corruption {spec.label}: no component of version {spec.version!r} is installed")


def to_float(images: ImagesU8, device: torch.device) -> torch.Tensor:
    """uint8 NHWC to float32 NCHW in [0, 1], contiguous: the quotients by 255 rounded once, on every device.

    They are made on the host: a device may multiply by the reciprocal instead, which is a bit off for some levels.
    """
    return torch.from_numpy(as_float(images)).to(device)


def pack_detail(result: AttackResult) -> Detail:
    """Per-image record of an attack for the store."""
    names = tuple(dict.fromkeys(result.broken_by))
    records = np.zeros(len(result.robust), dtype=DETAIL_DTYPE)
    records["broken_by"] = [names.index(name) for name in result.broken_by]
    records["step"] = result.steps
    records["margin"] = result.margin
    records["norm"] = result.norm
    records["forwards"] = result.forwards_per_image
    records["backwards"] = result.backwards_per_image
    return Detail(names=names, records=records)


def failure(piece: Piece, error: Exception) -> Failure:
    """An error as a value."""
    expected = isinstance(error, RobustboardError)
    message = str(error) if expected else f"{type(error).__name__}: {error}"
    lines = traceback.format_exception(error)
    return Failure(
        evaluation=piece.spec.digest,
        block=piece.block,
        start=piece.start,
        stop=piece.stop,
        message=" ".join(message.split())[:1000],
        traceback="".join(lines)[-20_000:],
    )
