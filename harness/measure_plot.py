"""Pictures of measures layer by layer as SVG: distributions over units as boxes, and dimensionality as lines.

Text in, text out: no plotting library. The same tables give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.measure_view import MeasureTable, Spread
from harness.svg import INK, PAPER, RULE, SERIES, SOFT, Attributes, document, element, escape, moved, number, text

_LEFT, _TOP, _HEIGHT, _NAMES = 52, 40, 170, 84
_STEP, _LEAST, _MOST = 30, 420, 1000
GAP = 20
PANEL_HEIGHT = _TOP + _HEIGHT + _NAMES
_LABELS = 40
"""Names of layers that have room; of more, every second or third is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series over layers."""

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture: boxes and lines over the layers of a network."""

    key: str
    """Short name, unique among a model's panels."""
    title: str
    about: str
    layers: tuple[str, ...]
    boxes: tuple[Spread | None, ...] = ()
    means: tuple[float, ...] = ()
    """Means of the boxes."""
    lines: tuple[Line, ...] = ()


def panels(tables: Sequence[MeasureTable]) -> tuple[Panel, ...]:
    """The pictures that a model's measures give, in the order of the tables: those of layers."""
    found: list[Panel] = []
    for dataset in dict.fromkeys((table.dataset, table.dataset_digest) for table in tables):
        own = [table for table in tables if (table.dataset, table.dataset_digest) == dataset and table.layers]
        found += _selectivity(own) + _dimensionality(own) + _gradients(own)
    return tuple(found)


def measures_svg(tables: Sequence[MeasureTable]) -> str:
    """All pictures of a model, one below the other, with its name above.

    Args:
        tables: at least one, all of one model.
    """
    shown = panels(tables)
    width = max([_width(panel) for panel in shown], default=_LEAST)
    name = tables[0].model
    short = name if len(name) <= 64 else f"{name[:40]}…{name[-20:]}"
    full = element("title", escape(name))
    head = element("text", escape(short) + full, x=0, y=14, class_="p-ink", fill=INK, font_size=16, font_weight="600")
    parts = [head]
    y = 30.0
    for panel in shown:
        parts.append(moved(0, y, _panel(panel)))
        y += PANEL_HEIGHT + GAP
    if not shown:
        parts.append(text(0, 44, "nothing was measured layer by layer", class_="p-soft", fill=SOFT))
        y += 30
    label = f"Measures of {name}: " + ("; ".join(panel.title for panel in shown) or "none by layer")
    return document(moved(16, 16, "".join(parts)), width + 32, y + 24, label)


def panel_svg(panel: Panel, model: str) -> str:
    """One picture without background, for a page."""
    label = f"{panel.title} of {model} by layer, {panel.about}"
    return document(_panel(panel), _width(panel), PANEL_HEIGHT, label, paper=False)


# -- what is shown -----------------------------------------------------------------------------------------------------


def _about(table: MeasureTable) -> str:
    return f"{table.dataset}, {table.images:,} images"


def _selectivity(tables: Sequence[MeasureTable]) -> list[Panel]:
    """Index of the units by layer; the floor as a line, of a measurement on as many images."""
    found = []
    for table in (table for table in tables if table.measure == "selectivity"):
        floors = [item for item in tables if item.measure == "selectivity_floor" and item.images == table.images]
        lines = tuple(
            Line(name="floor (labels shuffled)", values=item.over_layers("floor"))
            for item in floors[-1:]
            if tuple(item.layers) == tuple(table.layers) and "floor" in item.quantities
        )
        if "selectivity_index" in table.quantities:
            found.append(_boxes(table, "selectivity_index", "Class selectivity of units", lines))
    return found


def _gradients(tables: Sequence[MeasureTable]) -> list[Panel]:
    return [
        _boxes(
            table,
            "cv_samples",
            "Variation of input gradients over samples, unit by unit",
            (Line(name="over units", values=table.over_layers("cv_units")),),
        )
        for table in tables
        if table.measure == "unit_gradients" and {"cv_samples", "cv_units"} <= set(table.quantities)
    ]


def _boxes(table: MeasureTable, quantity: str, title: str, lines: tuple[Line, ...]) -> Panel:
    return Panel(
        key=f"{quantity}-{table.evaluation[:8]}",
        title=title,
        about=_about(table),
        layers=tuple(table.layers),
        boxes=tuple(values[quantity].spread for values in table.layers.values()),
        means=table.over_layers(quantity),
        lines=lines,
    )


def _dimensionality(tables: Sequence[MeasureTable]) -> list[Panel]:
    """Fraction of components for 95 %: clean, and of the change under whatever perturbed; one panel a range of images.

    A measure of the change also holds the clean fraction on its own images.
    """
    by_range: dict[tuple[int, tuple[str, ...]], list[Line]] = {}
    about: dict[tuple[int, tuple[str, ...]], MeasureTable] = {}
    for table in tables:
        key = (table.images, tuple(table.layers))
        lines = by_range.setdefault(key, [])
        if table.measure == "dimensionality":
            _add_line(lines, table, "clean", "fraction_95")
        elif table.measure in ("dimensionality_corruptions", "dimensionality_attack"):
            if not any(line.name == "clean" for line in lines):
                _add_line(lines, table, "clean", "clean_fraction_95")
            _add_line(lines, table, f"change, {_perturbation(table)}", "change_fraction_95")
        else:
            continue
        about[key] = table
    return [
        Panel(
            key=f"dimensionality-{about[key].evaluation[:8]}",
            title="Components for 95 % of the variance, share of units",
            about=_about(about[key]),
            layers=key[1],
            lines=tuple(lines),
        )
        for key, lines in by_range.items()
        if lines
    ]


def _add_line(lines: list[Line], table: MeasureTable, name: str, quantity: str) -> None:
    if quantity in table.quantities:
        lines.append(Line(name=name, values=table.over_layers(quantity)))


def _perturbation(table: MeasureTable) -> str:
    options = table.options
    if table.measure == "dimensionality_attack":
        return f"PGD-{options['steps']} {options['norm']} {options['eps']}"
    names = str(options["corruptions"]).split(",")
    return f"{len(names)} corruptions" if len(names) > 1 else names[0].replace("_", " ")


# -- drawing -----------------------------------------------------------------------------------------------------------


def _width(panel: Panel) -> float:
    return _LEFT + min(max(_STEP * len(panel.layers), _LEAST), _MOST) + 12


def _panel(panel: Panel) -> str:
    top = _top(panel)
    head = text(0, 14, panel.title, font_size=14, font_weight="600")
    head += text(_width(panel), 14, panel.about, class_="p-soft", fill=SOFT, font_size=11.5, text_anchor="end")
    boxes = "".join(_box(panel, place, top) for place in range(len(panel.boxes)))
    first = 1 if panel.boxes else 0
    lines = "".join(_line(panel, line, (first + at) % len(SERIES), top) for at, line in enumerate(panel.lines))
    return head + _axes(panel, top) + boxes + lines + _legend(panel, first)


def _top(panel: Panel) -> float:
    """Upper end of the scale: 1, 2 or 5 times a power of ten above all that is shown."""
    values = [spread.p95 for spread in panel.boxes if spread] + list(panel.means)
    values += [value for line in panel.lines for value in line.values]
    largest = max([value for value in values if math.isfinite(value)], default=0.0)
    if largest <= 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= largest * (1 - 1e-9))


def _x(panel: Panel, place: float) -> float:
    return _LEFT + (place + 0.5) * (_width(panel) - _LEFT - 12) / max(len(panel.layers), 1)


def _y(value: float, top: float) -> float:
    return _TOP + (1 - min(max(value / top, 0.0), 1.0)) * _HEIGHT


def _axes(panel: Panel, top: float) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share * top, top)
        place: Attributes = {"x1": _LEFT, "x2": _width(panel) - 12, "y1": y, "y2": y}
        parts.append(element("line", **place, class_="p-rule", stroke=RULE))
        parts.append(_mark(_LEFT - 8, y + 4, f"{share * top:g}"))
    every = -(-len(panel.layers) // _LABELS)
    for place_of, name in enumerate(panel.layers):
        if place_of % every == 0:
            x, y = _x(panel, place_of) + 4, _TOP + _HEIGHT + 14
            short = name if len(name) <= 16 else f"{name[:7]}…{name[-8:]}"
            turn: Attributes = {"transform": f"rotate(-45 {number(x)} {number(float(y))})"}
            parts.append(_mark(x, y, short, **turn))
    return "".join(parts)


def _mark(x: float, y: float, label: str, **attributes: str | float | None) -> str:
    return text(x, y, label, class_="p-soft", fill=SOFT, font_size=10.5, text_anchor="end", **attributes)


def _box(panel: Panel, place: int, top: float) -> str:
    """A layer's units: whiskers from 5 to 95 %, box from 25 to 75 %, median as a bar and mean as a dot."""
    spread = panel.boxes[place]
    if spread is None:
        return ""
    x = _x(panel, place)
    half = min(9.0, 0.32 * (_width(panel) - _LEFT) / len(panel.layers))
    colour = SERIES[0]
    told = (
        f"{panel.layers[place]}: mean {panel.means[place]:.4g}, median {spread.p50:.4g}, half in {spread.p25:.4g} to "
        f"{spread.p75:.4g}, 5 to 95 % {spread.p05:.4g} to {spread.p95:.4g}, {spread.n} units"
    )
    thread: Attributes = {"class_": "p-thread s0", "stroke": colour, "stroke_width": 1.2}
    whisker = element("line", x1=x, x2=x, y1=_y(spread.p95, top), y2=_y(spread.p05, top), **thread)
    upper, lower = _y(spread.p75, top), _y(spread.p25, top)
    body: Attributes = {"x": x - half, "y": upper, "width": 2 * half, "height": max(lower - upper, 1.0), "rx": 2}
    paper = element("rect", **body, class_="p-clean", fill=PAPER, stroke=colour)
    band = element("rect", **body, class_="p-band s0", fill=colour, fill_opacity=0.25)
    middle = _y(spread.p50, top)
    median = element("line", x1=x - half, x2=x + half, y1=middle, y2=middle, **{**thread, "stroke_width": 2})
    dot = element("circle", cx=x, cy=_y(panel.means[place], top), r=2.6, class_="p-dot s0", fill=colour)
    return element("g", element("title", escape(told)) + whisker + paper + band + median + dot)


def _line(panel: Panel, line: Line, series: int, top: float) -> str:
    colour = SERIES[series]
    points = [(_x(panel, place), _y(value, top)) for place, value in enumerate(line.values)]
    path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    look: Attributes = {"fill": "none", "stroke": colour, "stroke_width": 1.8, "stroke_linejoin": "round"}
    drawn = element("polyline", points=path, class_=f"p-line s{series}", **look)
    for (x, y), layer, value in zip(points, panel.layers, line.values, strict=True):
        label = element("title", escape(f"{layer}, {line.name}: {value:.4g}"))
        drawn += element("circle", label, cx=x, cy=y, r=2.6, class_=f"p-dot s{series}", fill=colour)
    return drawn


def _legend(panel: Panel, first: int) -> str:
    """Names of the lines above the plot, in their colours."""
    parts, x = [], float(_LEFT)
    for at, line in enumerate(panel.lines):
        series = (first + at) % len(SERIES)
        parts.append(element("circle", cx=x + 4, cy=26, r=3.2, class_=f"p-dot s{series}", fill=SERIES[series]))
        label: Attributes = {"class_": f"p-name s{series}", "fill": SERIES[series], "font_size": 11}
        parts.append(text(x + 12, 30, line.name, **label))
        x += 26 + 6.1 * len(line.name)
    return "".join(parts)


def facts(table: MeasureTable) -> Mapping[str, str]:
    """What a table rests on, in words: images, version and options that say something."""
    images = f"{table.images:,} images"
    if table.images != table.dataset_images:
        images = f"{table.images:,} of {table.dataset_images:,} images"
    options = ", ".join(f"{name} {value}" for name, value in table.options.items())
    version = table.version if table.current else f"{table.version} (outdated)"
    return {
        "data set": table.dataset,
        "images": images,
        "version": version,
        **({"options": options} if options else {}),
    }
