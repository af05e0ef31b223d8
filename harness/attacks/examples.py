"""Adversarial images as files: how ours are written, and how somebody else's are checked before a model sees them.

One compressed .npz: `adversarial`, `indices`, `labels`, and what they were made for (`norm`, `eps`, and the digests
`model` and `data`). The same images give the same bytes. Files come from strangers; see `harness.archive`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.archive import MAX_BYTES, Field, load
from harness.errors import ExamplesError
from harness.outcome import Examples
from harness.spec import eps_text
from harness.types import Norm

if TYPE_CHECKING:
    from harness.attacks.base import AttackResult
    from harness.data import Dataset
    from harness.types import ImagesU8

MAX_KEPT = 1000
"""Images that a store keeps of one evaluation."""

MAX_KEPT_BYTES = 64 << 20
"""Bytes of them, uncompressed."""

RELATIVE = 1e-6
"""Share of eps by which a perturbation may be larger."""

ROUNDING = 2.0**-24
"""Largest error of a difference of two float32 values in [0, 1], each rounded once from the exact one."""

_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_FIELDS = {
    "adversarial": Field(("f4", "f8", "u1"), 4, required=True),
    "indices": Field(_INTEGERS, 1),
    "labels": Field(_INTEGERS, 1),
    "norm": Field(("U",), 0),
    "eps": Field(("f8",), 0),
    "model": Field(("U",), 0),
    "data": Field(("U",), 0),
}
_CHUNK = 256  # images whose float64 differences are in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Somebody's adversarial images after all checks that need no model.

    Attributes:
        examples: the images as they will be judged, float32, in the file's order.
        radius: m, float64: the smallest eps at which the check of the norm takes each image.
    """

    examples: Examples
    radius: NDArray[np.float64]


def most_kept(wanted: int, image: tuple[int, ...]) -> int:
    """How many images of C x H x W values are kept of an evaluation where `wanted` were asked for."""
    return min(wanted, MAX_KEPT, MAX_KEPT_BYTES // (4 * math.prod(image)))


def first_broken(result: AttackResult, start: int, labels: NDArray[np.int64], most: int | None = None) -> Examples:
    """The images that the attack broke, in their order; those that are wrong clean have nothing to show.

    Args:
        result: of n images.
        start: position of the first in the data set.
        labels: n, of the data set.
        most: at most this many; None for all.
    """
    rows = np.array([row for row, name in enumerate(result.broken_by) if name not in ("", "clean")], dtype=np.int64)
    rows = rows[:most]
    return Examples(
        adversarial=result.adversarial[rows].cpu().numpy(), indices=rows + start, labels=np.asarray(labels)[rows]
    )


def encode(examples: Examples, *, norm: Norm, eps: float, model: str, data: str) -> bytes:
    """A file of adversarial images: the same images give the same bytes."""
    out = io.BytesIO()
    np.savez_compressed(
        out,
        adversarial=examples.adversarial,
        indices=examples.indices,
        labels=examples.labels,
        norm=np.array(norm),
        eps=np.array(eps, dtype=np.float64),
        model=np.array(model),
        data=np.array(data),
    )
    return out.getvalue()


def decode(content: bytes) -> Examples:
    """The images of a file that `encode` wrote.

    Raises:
        ExamplesError: it is something else.
    """
    found = load(content, _FIELDS)
    if "indices" not in found or "labels" not in found or found["adversarial"].dtype != np.float32:
        raise ExamplesError("not a file of kept adversarial images")
    return Examples(adversarial=found["adversarial"], indices=found["indices"], labels=found["labels"])


def slack(norm: Norm, values: int) -> float:
    """What float32 rounding can add to the size of a difference of images of `values` numbers."""
    if norm == "Linf":
        return ROUNDING
    return ROUNDING * (math.sqrt(values) if norm == "L2" else values)


def check(content: bytes, data: Dataset, norm: Norm, eps: float) -> Claim:
    """Check somebody's adversarial images against the clean ones.

    The size of a perturbation is measured in float64, between the tensor that will be judged and the clean images as
    the model sees them, both float32. It may exceed eps by 1e-6 of eps and by what rounding can add (`slack`).

    Args:
        content: of the file: `adversarial` (m x C x H x W float32 or float64 in [0, 1], or m x H x W x C uint8),
            `indices` (m different positions in the data set; without them all images in order), optionally `labels`.
        data: the clean images.
        norm: of the threat model.
        eps: its radius.

    Raises:
        ExamplesError: with every reason, the first offending image of each.
    """
    image = 4 * 2 * 3 * data.image_size[0] * data.image_size[1]
    found = load(content, _FIELDS, max_bytes=min(MAX_BYTES, len(data) * image))
    pixels = found["adversarial"]
    reasons, indices = _positions(found, data)
    shaped = _shape(pixels, data)
    reasons += shaped
    if "data" in found and str(found["data"]) != data.digest:
        reasons.append(
            f"data: made for a data set {str(found['data'])[:12]!r}, expected {data.digest[:12]!r} ({data.name})"
        )
    if "labels" in found and indices is not None:
        reasons += _labels(found["labels"], indices, data)
    radius = np.zeros(len(pixels))
    judged = np.zeros((0, 3, *data.image_size), dtype=np.float32)
    if not shaped:
        judged, wrong = _as_judged(pixels, indices)
        reasons += wrong
        if not wrong and indices is not None:
            radius, wrong = _radii(judged, indices, data, norm, eps)
            reasons += wrong
    if reasons or indices is None:
        raise ExamplesError(*reasons)
    labels = np.asarray(data.labels)[indices]
    return Claim(examples=Examples(adversarial=judged, indices=indices, labels=labels), radius=radius)


def _positions(found: dict[str, NDArray[Any]], data: Dataset) -> tuple[list[str], NDArray[np.int64] | None]:
    """Where the images belong; None if that cannot be said."""
    count, n = len(found["adversarial"]), len(data)
    given = found.get("indices")
    if given is None:
        if count == n:
            return [], np.arange(n, dtype=np.int64)
        return [f"indices: missing for {count} images, expected their positions, or all {n} images in order"], None
    if len(given) != count:
        return [f"indices: got {len(given)} for {count} images, expected one an image"], None
    outside = np.flatnonzero((given < 0) | (given >= n))
    if len(outside):
        row = outside[0]
        return [f"indices: row {row} has {given[row]}, expected positions from 0 to {n - 1}"], None
    indices = given.astype(np.int64)
    _, first = np.unique(indices, return_index=True)
    again = np.setdiff1d(np.arange(count), first)
    if len(again):
        return [f"indices: row {again[0]} has image {indices[again[0]]} a second time, expected each once"], None
    return [], indices


def _shape(pixels: NDArray[Any], data: Dataset) -> list[str]:
    height, width = data.image_size
    rest = (height, width, 3) if pixels.dtype == np.uint8 else (3, height, width)
    if len(pixels) == 0:
        return ["adversarial: got no image, expected at least one"]
    if pixels.shape[1:] != rest:
        wanted = " x ".join(map(str, ("m", *rest)))
        return [f"adversarial: got shape {pixels.shape}, expected {wanted} for {pixels.dtype}"]
    return []


def _labels(given: NDArray[Any], indices: NDArray[np.int64], data: Dataset) -> list[str]:
    if len(given) != len(indices):
        return [f"labels: got {len(given)} for {len(indices)} images, expected one an image"]
    truth = np.asarray(data.labels)[indices]
    other = np.flatnonzero(given != truth)
    if not len(other):
        return []
    row = other[0]
    return [f"labels: image {indices[row]} has {given[row]}, expected {truth[row]}, the data set's"]


def _as_judged(pixels: NDArray[Any], indices: NDArray[np.int64] | None) -> tuple[NDArray[np.float32], list[str]]:
    """The images as float32 NCHW, and what is wrong with their values."""
    if pixels.dtype == np.uint8:
        return as_float(pixels), []
    for start in range(0, len(pixels), _CHUNK):
        part = pixels[start : start + _CHUNK]
        inside = (part >= 0) & (part <= 1)  # false for NaN
        wrong = np.flatnonzero(~inside.reshape(len(part), -1).all(axis=1))
        if len(wrong):
            row = int(wrong[0])
            value = part[row][~inside[row]][0]
            name = f"row {start + row}" if indices is None else f"image {indices[start + row]}"
            return pixels.astype(np.float32), [f"adversarial: {name} has {value:g}, expected values in [0, 1]"]
    return np.ascontiguousarray(pixels, dtype=np.float32), []


def _radii(
    judged: NDArray[np.float32], indices: NDArray[np.int64], data: Dataset, norm: Norm, eps: float
) -> tuple[NDArray[np.float64], list[str]]:
    """Smallest eps at which each image is taken, and the first that is outside the ball."""
    sizes = np.empty(len(judged))
    for start in range(0, len(judged), _CHUNK):
        part = slice(start, start + _CHUNK)
        clean = as_float(gather(data, indices[part])).astype(np.float64)
        sizes[part] = distances(judged[part].astype(np.float64) - clean, norm)
    values = judged[0].size
    radius = np.maximum(sizes - slack(norm, values), 0.0) / (1 + RELATIVE)
    far = np.flatnonzero(~(radius <= eps))
    if not len(far):
        return radius, []
    row = far[0]
    more = eps * RELATIVE + slack(norm, values)
    expected = f"at most {eps_text(eps)} = {eps:.9g} (plus {more:.2g} for rounding)"
    message = f"norm: image {indices[row]} is {sizes[row]:.9g} away in {norm}, expected {expected}"
    return radius, [f"{message}; {len(far)} of {len(judged)} images are too far"]


def distances(difference: NDArray[np.float64], norm: Norm) -> NDArray[np.float64]:
    """Size of each of m differences, m x C x H x W, in a norm; float64."""
    flat = np.abs(difference.reshape(len(difference), -1))
    if norm == "Linf":
        largest: NDArray[np.float64] = flat.max(axis=1)
        return largest
    summed: NDArray[np.float64] = flat.sum(axis=1) if norm == "L1" else np.sqrt((flat * flat).sum(axis=1))
    return summed


def as_float(images: ImagesU8) -> NDArray[np.float32]:
    """uint8 NHWC to float32 NCHW in [0, 1], the same bits as the model is given."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)


def gather(data: Dataset, indices: NDArray[np.int64]) -> ImagesU8:
    """The images at any positions, m x height x width x 3, uint8."""
    starts = np.flatnonzero(np.diff(indices, prepend=indices[0] - 2) != 1)
    runs = np.split(indices, starts[1:])
    return np.concatenate([data.images(int(run[0]), int(run[-1]) + 1) for run in runs])
