"""How one suite makes one corruption at one severity: a row of its table and the traits that no number tells."""

from __future__ import annotations

from dataclasses import dataclass

from harness.corruptions.parameters import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What distinguishes the published scripts from the package, beside the numbers.

    Attributes:
        published: follow the published scripts (centred zoom, ImageMagick's rounding, affine part of the elastic
            transform); otherwise the package imagecorruptions.
        frost_scale: factor by which the frost textures are resized (bilinear); None: the package's rule (1.1, cubic).
    """

    published: bool
    frost_scale: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Parameters of one corruption at one severity, in the order of `parameters.FIELDS`, and the suite's style."""

    row: Row
    style: Style
