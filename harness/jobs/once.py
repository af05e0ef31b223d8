"""One attack on one model, outside the store: the verdict, its cost and the doubts about it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.attacks import ATTACKS, AttackResult, Numerics, attack_blocks
from harness.attacks.base import CLEAN
from harness.attacks.catalogue import attack_bound, ends_with_square
from harness.attacks.checks import examine
from harness.attacks.examples import first_broken
from harness.attacks.flags import square_suspicion
from harness.errors import InvalidArgument
from harness.metrics.intervals import wilson
from harness.outcome import Examples
from harness.spec import ATTACK_BLOCK, Precision, Scalar, as_norm, parse_eps
from harness.types import Json

if TYPE_CHECKING:
    from harness.jobs.subject import Subject

POOL = 8
"""Blocks that are attacked together: they bound the memory, and blocks that end are seen to end."""

Done = Callable[[int, int], None]
"""(images done, all images)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An attack with its budget on the first `images` images.

    Attributes:
        attack: a name in `ATTACKS`.
        norm: of the threat model.
        eps: its radius, a number or text such as "8/255".
        images: how many of the data set.
        options: of the attack.
        seed: of all draws.
        batch_size: rows of a physical batch.
        precision: of the search's passes.
        collect: hand back the images that it breaks.
    """

    attack: str
    norm: str
    eps: float | str
    images: int
    options: Mapping[str, Scalar]
    seed: int = 0
    batch_size: int = 128
    precision: Precision = "float32"
    collect: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one attack found on n images.

    Attributes:
        images: n.
        robust: right clean and not broken.
        clean: right clean.
        bound: "exact", or "upper" where robust accuracy is an upper bound by design.
        broken_by: attack, or "clean" -> images; the largest first.
        forwards: mean rows passed forward an image.
        backwards: mean rows passed backward an image.
        borderline: images whose margin float32 kernels may see either way.
        flags: flag -> evidence.
        seconds: wall time.
        examples: the broken images, where they were asked for.
    """

    images: int
    robust: int
    clean: int
    bound: str
    broken_by: Mapping[str, int]
    forwards: float
    backwards: float
    borderline: int
    flags: Mapping[str, str]
    seconds: float
    examples: Examples | None

    def to_dict(self) -> Json:
        """Plain data, with 95 % intervals of both accuracies."""
        return {
            "images": self.images,
            "robust": _share(self.robust, self.images) | {"bound": self.bound},
            "clean": _share(self.clean, self.images),
            "broken_by": dict(self.broken_by),
            "forwards_per_image": self.forwards,
            "backwards_per_image": self.backwards,
            "borderline": self.borderline,
            "flags": dict(self.flags),
            "seconds": round(self.seconds, 3),
        }


class _Tally:
    """Sums over blocks, in whatever order they end."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.images = self.robust = self.forwards = self.backwards = self.borderline = 0
        self.flags: dict[str, str] = {}
        self.broken: dict[int, Examples] = {}

    def add(self, result: AttackResult) -> None:
        """One block more."""
        self.names.update(name for name in result.broken_by if name)
        self.images += len(result.robust)
        self.robust += int(result.robust.sum())
        self.forwards += result.forwards
        self.backwards += result.backwards
        self.borderline += int(result.borderline.sum())
        for flag, evidence in result.evidence.items():
            self.flags.setdefault(flag, evidence)

    def joined(self) -> Examples:
        """The broken images of all blocks, in order."""
        first, *rest = [self.broken[start] for start in sorted(self.broken)]
        for more in rest:
            first = first.merge(more, len(first) + len(more))
        return first


def attack_once(subject: Subject, request: Request, done: Done | None = None) -> Verdict:
    """Attack a model once; nothing is stored.

    Args:
        subject: the model and its data.
        request: what to do.
        done: told after every block.

    Raises:
        InvalidArgument: a value outside its domain.
        UnknownName: unknown attack or option.
        ModelError: the model misbehaves.
    """
    attack = ATTACKS.get(request.attack)
    attack.check_norm(request.norm)
    parse_eps(request.eps)
    if not 1 <= request.images <= len(subject.data):
        raise InvalidArgument("limit", request.images, f"1 to {len(subject.data)}")
    complete = attack.complete(request.options)
    started = time.perf_counter()
    with subject.machine():  # as a worker of a run has it: the same verdicts, bit for bit
        tally, doubts = _attacked(subject, request, ATTACK_BLOCK if attack.per_image else request.batch_size, done)
    if ends_with_square(request.attack, complete):
        doubts |= square_suspicion(tally.names["square"], tally.images)
    return Verdict(
        images=tally.images,
        robust=tally.robust,
        clean=tally.images - tally.names[CLEAN],
        bound=attack_bound(request.attack, complete),
        broken_by=dict(tally.names.most_common()),
        forwards=tally.forwards / tally.images,
        backwards=tally.backwards / tally.images,
        borderline=tally.borderline,
        flags={**subject.flags, **doubts, **tally.flags},
        seconds=time.perf_counter() - started,
        examples=tally.joined() if request.collect else None,
    )


def _attacked(subject: Subject, request: Request, block: int, done: Done | None) -> tuple[_Tally, dict[str, str]]:
    """All blocks, and the quick checks."""
    tally = _Tally()
    for start in range(0, request.images, POOL * block):
        stop = min(start + POOL * block, request.images)
        for number, result in _pool(subject, request, start, stop, block):
            tally.add(result)
            if request.collect:
                at = start + number * block
                labels = np.asarray(subject.data.labels)[at : at + len(result.robust)]
                tally.broken[at] = first_broken(result, at, labels)
            if done is not None:
                done(tally.images, request.images)
    sample = min(64, request.images)
    examined = examine(
        subject.model,
        subject.images(0, sample),
        torch.from_numpy(np.array(subject.labels[:sample])).to(subject.device),
        norm=as_norm(request.norm),
        eps=parse_eps(request.eps),
        fixed_batch=subject.fixed_batch,
        thorough=False,
    )
    return tally, examined.flags


def _pool(subject: Subject, request: Request, start: int, stop: int, block: int) -> Iterator[tuple[int, AttackResult]]:
    """Results of the blocks of images [start, stop), as they are done."""
    return attack_blocks(
        subject.model,
        subject.images(start, stop),
        torch.from_numpy(np.array(subject.labels[start:stop])).to(subject.device),
        [min(block, stop - at) for at in range(start, stop, block)],
        request.attack,
        norm=request.norm,
        eps=request.eps,
        seed=request.seed,
        indices=np.arange(start, stop),
        batch_size=request.batch_size,
        fixed_batch=subject.fixed_batch,
        numerics=Numerics(precision=request.precision),
        **dict[str, Any](request.options),
    )


def _share(right: int, images: int) -> Json:
    low, high = wilson(right, images)
    return {"value": right / images, "low": low, "high": high, "right": right}
