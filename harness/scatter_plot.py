"""Points of a board as SVG: intervals as thin bars, a third score as colour with its legend, families as shapes.

Text in, text out: no plotting library. The same board gives the same bytes. Names come from strangers and are escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from harness.formats import ScoreCell
from harness.leaderboard import Column
from harness.scatter import Dot, Scatter
from harness.svg import INK, RULE, SOFT, Attributes, document, element, escape, heat, moved, number, text

WIDTH, HEIGHT = 700, 470
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 62, 52, 470, 350
_KEY = _LEFT + _PLOT_WIDTH + 28
_BAR, _BAR_HEIGHT, _STEPS = 14, 150, 50
_UNMEASURED: Final = "#9aa0a6"
_SHAPES: Final = 5
_NAMED = 10
"""Up to so many models are named beside their dots; of more, hovering tells the name."""
_CHARACTER = 6.0
"""Width of a character of a name, about."""


def scatter_svg(found: Scatter, *, paper: bool = True) -> str:
    """The picture.

    Args:
        found: what to show; may hold no dot.
        paper: with a background of its own; without, for a page.
    """
    horizontal, vertical = _Axis(found.x, [dot.x for dot in found.dots]), _Axis(found.y, [dot.y for dot in found.dots])
    families = sorted({dot.family for dot in found.dots})
    colours = _Colours([dot.colour for dot in found.dots if dot.colour is not None])
    parts = [_head(found), _grid(horizontal, vertical, found)]
    places = [
        (
            horizontal.place(dot.x.value, _LEFT, _LEFT + _PLOT_WIDTH),
            vertical.place(dot.y.value, _TOP + _PLOT_HEIGHT, _TOP),
        )
        for dot in found.dots
    ]
    parts += [_bars(dot, at, horizontal, vertical) for dot, at in zip(found.dots, places, strict=True)]
    parts += [
        _mark(found, dot, at, families.index(dot.family) % _SHAPES, colours)
        for dot, at in zip(found.dots, places, strict=True)
    ]
    if len(found.dots) <= _NAMED:
        parts.append(_names(found.dots, places))
    parts.append(_key(found, families, colours))
    return document("".join(parts), WIDTH, HEIGHT, description(found), paper=paper)


def description(found: Scatter) -> str:
    """The picture in words."""
    by = f", coloured by {found.colour.title}" if found.colour is not None else ""
    told = (
        f"{found.y.title} against {found.x.title} of {len(found.dots)} models{by}, {found.benchmark} on {found.dataset}"
    )
    return told + (f"; {len(found.left_out)} models without both scores left out" if found.left_out else "")


def dot_title(found: Scatter, dot: Dot) -> str:
    """A dot in words: the model and its scores with their intervals."""
    pairs = [(found.x, dot.x), (found.y, dot.y)]
    if found.colour is not None and dot.colour is not None:
        pairs.append((found.colour, dot.colour))
    told = (f"{column.title} {cell.text()}{_unit(column)}" for column, cell in pairs)
    return f"{dot.model} ({dot.family}): " + ", ".join(told)


class _Axis:
    """A score column laid along a line: its range holds all values and intervals, ends at ticks."""

    def __init__(self, column: Column, cells: Sequence[ScoreCell]) -> None:
        self.column = column
        ends = [end for cell in cells for end in (cell.value, cell.low, cell.high) if end is not None]
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        if high - low < 1e-9:
            room = 0.05 if column.kind == "fraction" else max(abs(high) * 0.1, 1e-3)
            low, high = low - room, high + room
        self.step = nice_step((high - low) / 5)
        self.low, self.high = math.floor(low / self.step + 1e-9), math.ceil(high / self.step - 1e-9)
        if column.kind == "fraction":
            self.low, self.high = max(self.low, 0), min(self.high, round(1 / self.step))

    @property
    def ticks(self) -> list[float]:
        """Places of the lines across."""
        return [at * self.step for at in range(self.low, self.high + 1)]

    def label(self, tick: float) -> str:
        """A tick as text, percent for fractions."""
        scale = 100.0 if self.column.kind == "fraction" else 1.0
        shares = (self.step * scale * 10**digits for digits in range(7))
        digits = next((at for at, share in enumerate(shares) if abs(share - round(share)) < 1e-6), 7)
        return f"{tick * scale:.{digits}f}" if abs(tick) < 1e5 and digits < 7 else f"{tick * scale:.3g}"

    def place(self, value: float | None, start: float, end: float) -> float:
        """Where a value lies between the coordinates of the axis' ends."""
        share = ((value or 0.0) - self.low * self.step) / ((self.high - self.low) * self.step)
        return start + min(max(share, 0.0), 1.0) * (end - start)


class _Colours:
    """Values to colours, from the smallest to the largest; dark is low."""

    def __init__(self, cells: Sequence[ScoreCell]) -> None:
        self.values = [cell.value for cell in cells if cell.value is not None]
        self.low, self.high = (min(self.values), max(self.values)) if self.values else (0.0, 1.0)

    def of(self, value: float | None) -> str:
        """The colour of a value, grey without one."""
        if value is None:
            return _UNMEASURED
        return heat((value - self.low) / (self.high - self.low) if self.high > self.low else 0.5)


def nice_step(least: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= least * (1 - 1e-9))


def _head(found: Scatter) -> str:
    title = f"{found.y.title} against {found.x.title}"
    about = f"{found.benchmark} on {found.dataset}, {len(found.dots)} models, bars are 95 % intervals"
    if found.left_out:
        about += f"; {len(found.left_out)} without both scores left out"
    return text(16, 22, title, font_size=15, font_weight="600") + text(16, 40, about, class_="p-soft", fill=SOFT)


def _grid(horizontal: _Axis, vertical: _Axis, found: Scatter) -> str:
    parts, bottom, right = [], _TOP + _PLOT_HEIGHT, _LEFT + _PLOT_WIDTH
    for tick in horizontal.ticks:
        x = horizontal.place(tick, _LEFT, right)
        parts.append(element("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="p-rule", stroke=RULE))
        parts.append(_small(x, bottom + 18, horizontal.label(tick), "middle"))
    for tick in vertical.ticks:
        y = vertical.place(tick, bottom, _TOP)
        parts.append(element("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="p-rule", stroke=RULE))
        parts.append(_small(_LEFT - 8, y + 4, vertical.label(tick), "end"))
    middle = _TOP + _PLOT_HEIGHT / 2
    parts.append(
        text(
            _LEFT + _PLOT_WIDTH / 2,
            bottom + 42,
            _axis_title(found.x, [dot.x for dot in found.dots]),
            text_anchor="middle",
        )
    )
    turned = element(
        "g",
        text(0, 0, _axis_title(found.y, [dot.y for dot in found.dots]), text_anchor="middle"),
        transform=f"translate(16 {number(middle)}) rotate(-90)",
    )
    return "".join(parts) + turned


def _bars(dot: Dot, at: tuple[float, float], horizontal: _Axis, vertical: _Axis) -> str:
    """Thin bars from the low to the high end of both intervals."""
    (x, y), parts = at, []
    look: Attributes = {"class_": "p-bar", "stroke": SOFT, "stroke_width": 0.8, "stroke_opacity": 0.6}
    if dot.x.low is not None and dot.x.high is not None:
        ends = [horizontal.place(end, _LEFT, _LEFT + _PLOT_WIDTH) for end in (dot.x.low, dot.x.high)]
        parts.append(element("line", x1=ends[0], x2=ends[1], y1=y, y2=y, **look))
    if dot.y.low is not None and dot.y.high is not None:
        ends = [vertical.place(end, _TOP + _PLOT_HEIGHT, _TOP) for end in (dot.y.low, dot.y.high)]
        parts.append(element("line", x1=x, x2=x, y1=ends[0], y2=ends[1], **look))
    return "".join(parts)


def _mark(found: Scatter, dot: Dot, at: tuple[float, float], shape: int, colours: _Colours) -> str:
    value = None if dot.colour is None else dot.colour.value
    title = element("title", escape(dot_title(found, dot)))
    return element("g", title + _shape(*at, shape, colours.of(value)))


def _shape(x: float, y: float, shape: int, fill: str) -> str:
    """A circle, square, diamond, triangle or pentagon of about the same area, outlined so that light fills show."""
    look: Attributes = {"class_": "p-mark", "fill": fill, "stroke": INK, "stroke_width": 0.9}
    if shape == 0:
        return element("circle", cx=x, cy=y, r=5.5, **look)
    corners, turn, radius = {1: (4, 45.0, 6.9), 2: (4, 0.0, 7.2), 3: (3, -90.0, 8.0), 4: (5, -90.0, 6.6)}[shape]
    angles = [math.radians(turn + 360.0 * corner / corners) for corner in range(corners)]
    points = " ".join(f"{number(x + radius * math.cos(a))},{number(y + radius * math.sin(a))}" for a in angles)
    return element("polygon", points=points, **look)


def _names(dots: Sequence[Dot], places: Sequence[tuple[float, float]]) -> str:
    """Names beside the dots, where they cover neither a dot nor another name."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    parts = []
    for dot, (x, y) in zip(dots, places, strict=True):
        name = dot.model if len(dot.model) <= 36 else f"{dot.model[:20]}…{dot.model[-15:]}"
        wide = _CHARACTER * len(name)
        spots = [(x + 8, y - 7), (x + 8, y + 14), (x - 8 - wide, y - 7), (x - 8 - wide, y + 14)]
        for left, base in spots:
            box = (left, base - 9, left + wide, base + 3)
            inside = box[0] > _LEFT and box[2] < _LEFT + _PLOT_WIDTH and box[1] > _TOP and box[3] < _TOP + _PLOT_HEIGHT
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                parts.append(_small(left, base, name, "start"))
                break
    return "".join(parts)


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]


def _key(found: Scatter, families: Sequence[str], colours: _Colours) -> str:
    """The colour scale with its ends, the grey of models without the measure, and the shapes of families."""
    parts, y = [], float(_TOP + 10)
    if found.colour is not None:
        parts.append(text(0, y, _short(found.colour.title), font_weight="600"))
        if colours.values:
            parts.append(moved(0, y + 12, _scale(found.colour, colours)))
            y += 12 + _BAR_HEIGHT + 24
        if len(colours.values) < len(found.dots):
            parts.append(_shape(7, y - 4 + 8, 0, _UNMEASURED) + _small(20, y + 8, "not measured", "start"))
            y += 26
    parts.append(text(0, y + 10, "Family", font_weight="600"))
    for at, family in enumerate(families):
        line = y + 32 + 19 * at
        full = element("title", escape(family))
        parts.append(
            element("g", full + _shape(7, line - 4, at % _SHAPES, "none") + _small(20, line, _short(family), "start"))
        )
    return moved(_KEY, 0, "".join(parts))


def _scale(column: Column, colours: _Colours) -> str:
    step = _BAR_HEIGHT / _STEPS
    bar = [
        element("rect", x=0, y=step * at, width=_BAR, height=step + 0.5, fill=heat(1 - (at + 0.5) / _STEPS))
        for at in range(_STEPS)
    ]
    frame = element(
        "rect", x=0, y=0, width=_BAR, height=_BAR_HEIGHT, fill="none", stroke=INK, stroke_width=0.6, class_="p-frame"
    )
    marks = []
    for share in (0.0, 0.5, 1.0):
        value = colours.low + share * (colours.high - colours.low)
        cell = ScoreCell(column=column, value=value, low=None, high=None, images=None, bound=None)
        marks.append(_small(_BAR + 7, (1 - share) * _BAR_HEIGHT + 4, cell.number(value) + _unit(column), "start"))
    return "".join([*bar, frame, *marks])


def _axis_title(column: Column, cells: Sequence[ScoreCell]) -> str:
    """The column's title with its threat model, its unit, and whether its values are upper bounds."""
    threat = f", {column.norm} {column.eps}" if column.norm and column.eps and column.eps not in column.title else ""
    aside = ["%"] if column.kind == "fraction" else []
    aside += ["upper bounds"] if any(cell.upper for cell in cells) else []
    return f"{column.title}{threat}" + (f" ({', '.join(aside)})" if aside else "")


def _unit(column: Column) -> str:
    return " %" if column.kind == "fraction" else ""


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"


def _small(x: float, y: float, label: str, anchor: str) -> str:
    return text(x, y, label, class_="p-soft", fill=SOFT, font_size=11, text_anchor=anchor)
