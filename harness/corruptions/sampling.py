"""Images sampled at fractional positions, in two forms with one meaning, as in `filters`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor

from harness.corruptions.filters import mirrored, on_host, packed, split


def bilinear(values: Tensor, rows: Tensor, columns: Tensor, *, half_sample: bool) -> Tensor:
    """Sample a batch at fractional positions, linearly between the four pixels around each.

    Args:
        values: uint8 images, n x h x w x 3, or float32 planes, 3 x n x h x w.
        rows: n x h x w, float32 row coordinates.
        columns: n x h x w, float32 column coordinates.
        half_sample: reflect about the outer edge of the border pixels (SciPy's "reflect") or else about their centres
            (OpenCV's BORDER_REFLECT_101).

    Returns:
        Planes, 3 x n x h x w, float32.
    """
    images = not values.is_floating_point()
    spots = _spots(rows, columns) if on_host(values) else None
    if spots is None:
        planes = split(values).to(torch.float32) if images else values
        return bilinear_torch(planes, rows, columns, half_sample=half_sample)
    out = torch.empty(3, *rows.shape)
    if images:
        corners = _corners_of_images(values, spots, half_sample)
    else:
        corners = _corners_of_planes(values, spots, half_sample)
    for target, (a, b, c, d) in zip(out, corners, strict=True):
        _blend(a, b, c, d, spots.below, spots.right, target)
    return out


def _blend(a: Tensor, b: Tensor, c: Tensor, d: Tensor, below: Tensor, right: Tensor, out: Tensor) -> None:
    """Between a (above left), b (above right), c (below left) and d; overwrites them."""
    upper = b.sub_(a).mul_(right).add_(a)
    lower = d.sub_(c).mul_(right).add_(c)
    torch.add(upper, lower.sub_(upper).mul_(below), out=out)


@dataclass(frozen=True, slots=True)
class _Spots:
    """Positions in a batch whose images are padded, so that a pixel and its neighbours are a fixed step apart.

    Attributes:
        index: flat positions of the pixels above left, int32.
        below: share of the row below, n x h x w.
        right: share of the column to the right, n x h x w.
        margins: rows above and below, columns left and right that the padding adds.
    """

    index: Tensor
    below: Tensor
    right: Tensor
    margins: tuple[int, int, int, int]


def _spots(rows: Tensor, columns: Tensor) -> _Spots | None:
    """The positions, or None where one lies further outside than the image is large."""
    n, height, width = rows.shape
    top, left = torch.floor(rows), torch.floor(columns)
    first_row, last_row, first_column, last_column = (
        int(edge) for floor in (top, left) for edge in torch.aminmax(floor)
    )
    margins = max(-first_row, 0), max(last_row + 2 - height, 0), max(-first_column, 0), max(last_column + 2 - width, 0)
    if max(margins[:2]) > height or max(margins[2:]) > width:
        return None
    tall, wide = height + margins[0] + margins[1], width + margins[2] + margins[3]
    index = top.to(torch.int32).mul_(wide).add_(left.to(torch.int32))
    start = torch.arange(n, dtype=torch.int32).mul_(tall * wide).add_(margins[0] * wide + margins[2])
    index.add_(start[:, None, None])
    return _Spots(index.reshape(-1), rows - top, columns - left, margins)


def _corners_of_images(images: Tensor, spots: _Spots, half_sample: bool) -> Iterator[tuple[Tensor, ...]]:
    """The four pixels around each spot, channel by channel; whole pixels are gathered, then split."""
    table = _padded(packed(images).reshape(images.shape[:3]), spots.margins, half_sample)
    shape = spots.below.shape
    found = [split(pixels.view(torch.uint8).reshape(*shape, 4)) for pixels in _gathered(table, spots)]
    for channel in range(3):
        yield tuple(planes[channel].to(torch.float32) for planes in found)


def _corners_of_planes(planes: Tensor, spots: _Spots, half_sample: bool) -> Iterator[tuple[Tensor, ...]]:
    """The same for planes."""
    for plane in planes:
        table = _padded(plane, spots.margins, half_sample)
        yield tuple(values.reshape(plane.shape) for values in _gathered(table, spots))


def _gathered(table: Tensor, spots: _Spots) -> Iterator[Tensor]:
    """Cells of padded tables, n x h x w: above left, above right, below left, below right; flat."""
    wide, flat = table.shape[2], table.reshape(-1)
    for step in (0, 1, wide, wide + 1):
        yield flat[step:].index_select(0, spots.index)


def _padded(table: Tensor, margins: tuple[int, int, int, int], half_sample: bool) -> Tensor:
    """A table n x h x w with reflected margins."""
    n, height, width = table.shape
    out = torch.empty(n, height + margins[0] + margins[1], width + margins[2] + margins[3], dtype=table.dtype)
    border = cv2.BORDER_REFLECT if half_sample else cv2.BORDER_REFLECT_101
    for source, target in zip(table.numpy(), out.numpy(), strict=True):
        cv2.copyMakeBorder(source, *margins, border, dst=target)
    return out


def bilinear_torch(planes: Tensor, rows: Tensor, columns: Tensor, *, half_sample: bool) -> Tensor:
    """`bilinear` of planes, 3 x n x h x w, float32, by steps that every device has; positions may be anywhere."""
    _, n, height, width = planes.shape
    top, left = torch.floor(rows), torch.floor(columns)
    below, right = rows - top, columns - left
    start = (torch.arange(n, device=planes.device, dtype=torch.int32) * (height * width))[:, None, None]
    up, down = (line.mul_(width).add_(start) for line in _neighbours(top, height, half_sample))
    before, after = _neighbours(left, width, half_sample)
    corners = [(line + column).reshape(-1) for line in (up, down) for column in (before, after)]
    out = torch.empty_like(planes)
    for plane, target in zip(planes, out, strict=True):
        a, b, c, d = (plane.reshape(-1).index_select(0, corner).reshape(rows.shape) for corner in corners)
        _blend(a, b, c, d, below, right, target)
    return out


def _neighbours(floor: Tensor, size: int, half_sample: bool) -> tuple[Tensor, Tensor]:
    """The pixels below and above whole-numbered coordinates, int32, folded back into 0..size-1."""
    index = floor.to(torch.int32)
    low, high = (int(edge) for edge in torch.aminmax(index))
    if low >= -size and high < 2 * size - 1:  # nearly always: a table is faster than arithmetic
        table = _folded(size, half_sample).to(index.device)
        index += size
        first, second = table.index_select(0, index.reshape(-1)), table[1:].index_select(0, index.reshape(-1))
        return first.reshape(index.shape), second.reshape(index.shape)
    return mirrored(index, size, half_sample), mirrored(index + 1, size, half_sample)


@functools.lru_cache(maxsize=64)
def _folded(size: int, half_sample: bool) -> Tensor:
    """`mirrored` of the indices -size..2 size - 1, int32."""
    return mirrored(torch.arange(-size, 2 * size), size, half_sample).to(torch.int32)
