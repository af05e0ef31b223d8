"""One model on one data set, ready to be attacked or asked outside a run: loaded, probed and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from harness.attacks.physical import predict
from harness.device import check_device, machine
from harness.errors import InvalidArgument
from harness.jobs.context import ModelSource, Settings
from harness.jobs.kernel import PROBED, prepare, to_float
from harness.jobs.present import among

if TYPE_CHECKING:
    from harness.data import Dataset
    from harness.types import Classifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model on a data set, among the classes that the set has.

    Attributes:
        source: where the model comes from.
        data: the clean images.
        model: the classifier on its device.
        labels: n, int64: positions of the true classes among the model's outputs.
        fixed_batch: exact rows of every batch; None where outcomes do not depend on the batch.
        flags: flag -> evidence.
        device: where it runs.
    """

    source: ModelSource
    data: Dataset
    model: Classifier
    labels: NDArray[np.int64]
    fixed_batch: int | None
    flags: dict[str, str]
    device: torch.device

    def machine(self) -> AbstractContextManager[None]:
        """Threads and kernels as a worker of a run has them, so that verdicts are a run's, bit for bit."""
        return worker_machine(self.device)

    def images(self, start: int, stop: int) -> torch.Tensor:
        """Images [start, stop) as the model takes them."""
        return to_float(self.data.images(start, stop), self.device)

    def right(self, images: NDArray[np.float32], indices: NDArray[np.int64], batch_size: int) -> NDArray[np.bool_]:
        """Which of m float32 NCHW images, at these positions of the data set, are classified right.

        The model is run as given: float32, unfolded, in physical batches padded by the rule of
        `harness.attacks.physical`.

        Raises:
            ModelError: non-finite or wrongly shaped logits.
        """
        right = np.zeros(len(images), dtype=np.bool_)
        with self.machine():
            for rows in _spans(len(images), batch_size):
                tensor = torch.from_numpy(images[rows].copy()).to(self.device)  # a copy: files are read-only memory
                logits = predict(self.model, tensor, batch_size=batch_size, fixed_batch=self.fixed_batch)
                right[rows] = logits.argmax(dim=1).cpu().numpy() == self.labels[indices[rows]]
        return right


def open_subject(source: ModelSource, data: Dataset, device: str = "cpu") -> Subject:
    """Load a model and see that it fits the data set.

    Raises:
        InvalidArgument: other classes or another image size than the data set has, or not a device.
        ModelError: another number of logits than its card says, or logits that are not finite.
    """
    classes, size = source.card["classes"], tuple(source.card["input_size"])
    if classes != len(data.classes):
        wanted = f"a model of {len(data.classes)} classes, as data set {data.name!r} has"
        raise InvalidArgument("model", f"{source.name} ({classes} classes)", wanted)
    if size != data.image_size:
        wanted = f"a model for {data.image_size[0]}x{data.image_size[1]} images"
        raise InvalidArgument("model", f"{source.name} ({size[0]}x{size[1]})", wanted)
    where = check_device(device)
    with worker_machine(where):
        loaded = prepare(source, data.images(0, min(PROBED, len(data))), where)
    model, labels = among(loaded.model, data, np.asarray(data.labels))
    return Subject(
        source=source,
        data=data,
        model=model,
        labels=labels,
        fixed_batch=loaded.fixed_batch,
        flags=dict(loaded.flags),
        device=where,
    )


def worker_machine(device: torch.device) -> AbstractContextManager[None]:
    """What a worker of a run asks of the machine by default."""
    return machine(threads=Settings().threads, device=device, strict=False)


def _spans(n: int, batch_size: int) -> Iterator[slice]:
    """Slices that bound what is on the device at a time: whole batches, about a thousand images."""
    step = batch_size * max(1, 1024 // batch_size)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))
