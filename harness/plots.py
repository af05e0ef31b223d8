"""Pictures of a corruption grid as SVG: the heat map corruptions x severities, and curves over severity by family.

Text in, text out: no plotting library. The same grid gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.corruptions.suites import SEVERITIES
from harness.curves import CorruptionGrid, GridValue
from harness.svg import (
    INK,
    PAPER,
    RULE,
    SERIES,
    SOFT,
    Attributes,
    document,
    element,
    escape,
    heat,
    ink_on,
    moved,
    number,
    text,
)

CELL, ROW, GAP = 46, 26, 8
NAMES = 126
"""Width of the column of names."""
MEAN = NAMES + 5 * CELL + GAP
FAMILY = MEAN + CELL + GAP
FAMILY_WIDTH = 84
HEAT_WIDTH = FAMILY + FAMILY_WIDTH
PANEL_WIDTH, PANEL_HEIGHT = 366, 276
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 44, 34, 190, 212
_LABEL_STEP = 14


def heat_map_svg(grid: CorruptionGrid, *, titled: bool = True) -> str:
    """Corruptions x severities as coloured cells with their values, grouped by family, with all means.

    Args:
        grid: what to show.
        titled: with model, suite, data set and images above and a background of its own; without, for a page that
            says these already.
    """
    body, height = _heat_map(grid)
    label = f"Heat map: accuracy of {grid.model} by corruption and severity, {subtitle(grid)}"
    if not titled:
        return document(body, HEAT_WIDTH, height, label, paper=False)
    return _framed(grid, body, HEAT_WIDTH, height, label)


def severity_curves_svg(grid: CorruptionGrid) -> str:
    """Accuracy over severity, one panel a family, one line a corruption with its 95 % band."""
    body = _panels(grid)
    label = f"Curves: accuracy of {grid.model} over severity by family of corruptions, {subtitle(grid)}"
    return _framed(grid, body, 2 * PANEL_WIDTH + GAP, _panels_height(grid), label)


def family_curves_svg(grid: CorruptionGrid, family: str) -> str:
    """One panel of `severity_curves_svg`, without title and background, for a page.

    Raises:
        KeyError: the grid has no such family.
    """
    label = f"Curves: accuracy of {grid.model} over severity under {family}, {subtitle(grid)}"
    return document(_panel(grid, family), PANEL_WIDTH, PANEL_HEIGHT, label, paper=False)


def corruptions_svg(grids: Sequence[CorruptionGrid]) -> str:
    """Heat map and curves of each grid side by side, one grid below the other.

    Args:
        grids: at least one, all of one model.
    """
    width = HEAT_WIDTH + 4 * GAP + 2 * PANEL_WIDTH
    parts, at = [], 0.0
    for grid in grids:
        body, height = _heat_map(grid)
        parts.append(moved(0, at, _title(grid) + moved(0, 52, body + moved(HEAT_WIDTH + 4 * GAP, 0, _panels(grid)))))
        at += 52 + max(height, _panels_height(grid)) + 4 * GAP
    label = f"Accuracy of {grids[0].model} under corruptions: " + "; ".join(subtitle(grid) for grid in grids)
    return document(moved(16, 16, "".join(parts)), width + 32, at, label)


def subtitle(grid: CorruptionGrid) -> str:
    """Suite, data set and what the grid rests on, in one line."""
    return f"{grid.suite} on {grid.dataset}, {facts(grid)}"


def facts(grid: CorruptionGrid) -> str:
    """Images, versions, clean accuracy and overall mean."""
    images = f"{grid.images:,} images"
    if grid.images != grid.dataset_images:
        images = f"{grid.images:,} of {grid.dataset_images:,} images"
    parts = [images, f"made by {', '.join(grid.versions)}"]
    if not grid.current:
        parts.append("outdated versions")
    if grid.clean is not None:
        parts.append(f"clean {percent(grid.clean.value)}\N{NO-BREAK SPACE}%")
    if grid.overall is not None:
        parts.append(f"mean {percent(grid.overall.value)}\N{NO-BREAK SPACE}%")
    else:
        parts.append("not complete")
    return ", ".join(parts)


def percent(value: float) -> str:
    """A fraction for people."""
    return f"{100 * value:.1f}"


def plain_name(corruption: str) -> str:
    """A corruption's name for people."""
    return corruption.replace("_", " ")


def in_words(what: str, value: GridValue) -> str:
    """A value with its interval and images, for tooltips; led by `what` it is of, if given."""
    interval = f"95 % interval {percent(value.low)} to {percent(value.high)}"
    told = f"{percent(value.value)} % ({interval}, {value.n:,} images)"
    return f"{what}: {told}" if what else told


def _framed(grid: CorruptionGrid, body: str, width: float, height: float, label: str) -> str:
    inner = _title(grid) + moved(0, 52, body)
    return document(moved(16, 16, inner), width + 32, height + 52 + 32, label)


def _title(grid: CorruptionGrid) -> str:
    model = grid.model if len(grid.model) <= 64 else f"{grid.model[:40]}…{grid.model[-20:]}"
    full = element("title", escape(grid.model))
    name = element("text", escape(model) + full, x=0, y=14, class_="p-ink", fill=INK, font_size=16, font_weight="600")
    return name + text(0, 34, subtitle(grid), class_="p-soft", fill=SOFT)


# -- heat map ----------------------------------------------------------------------------------------------------------


def _heat_map(grid: CorruptionGrid) -> tuple[str, float]:
    """The map's elements and height."""
    parts = [_heads()]
    y = float(ROW)
    for family, names in grid.families.items():
        parts += [_row(grid, name, y + at * ROW) for at, name in enumerate(names)]
        parts.append(_family_cell(grid, family, y, len(names) * ROW))
        y += len(names) * ROW + GAP
    parts.append(_mean_row(grid, y))
    y += ROW + 2 * GAP
    if grid.extras_shown:
        line = element("line", x1=0, x2=HEAT_WIDTH, y1=y, y2=y, class_="p-rule", stroke=RULE)
        note = text(HEAT_WIDTH, y + ROW, "in no mean", class_="p-soft", fill=SOFT, font_size=11, text_anchor="end")
        parts += [line, note]
        y += GAP
        for name in grid.extras_shown:
            parts.append(_row(grid, name, y))
            y += ROW
        y += GAP
    parts.append(_legend(y))
    return "".join(parts), y + 34


def _heads() -> str:
    titles = [(NAMES + (at + 0.5) * CELL, str(severity)) for at, severity in enumerate(SEVERITIES)]
    titles += [(MEAN + CELL / 2, "mean"), (FAMILY + FAMILY_WIDTH / 2, "family")]
    heads = [text(x, 16, title, class_="p-soft", fill=SOFT, text_anchor="middle") for x, title in titles]
    return "".join(heads) + text(NAMES - 8, 16, "severity", class_="p-soft", fill=SOFT, text_anchor="end")


def _row(grid: CorruptionGrid, name: str, y: float) -> str:
    parts = [text(NAMES - 8, y + 17, plain_name(name), text_anchor="end", font_size=12.5)]
    for at, cell in enumerate(grid.cells[name]):
        what = f"{plain_name(name)}, severity {SEVERITIES[at]}"
        told = in_words(what, cell) if cell else f"{what}: not evaluated"
        parts.append(_box(NAMES + at * CELL, y, cell.value if cell else None, told))
    mean = grid.means[name]
    parts.append(_box(MEAN, y, mean, f"{plain_name(name)}, mean over severities", weight="600"))
    return "".join(parts)


def _mean_row(grid: CorruptionGrid, y: float) -> str:
    count = sum(len(names) for names in grid.families.values())
    parts = [text(NAMES - 8, y + 17, f"mean of {count}", text_anchor="end", font_size=12.5, font_weight="600")]
    for at, mean in enumerate(grid.severity_means):
        told = f"mean of {count} corruptions, severity {SEVERITIES[at]}"
        parts.append(_box(NAMES + at * CELL, y, mean, told, weight="600"))
    whole = grid.overall
    told = in_words(f"mean of {count} corruptions and all severities", whole) if whole else "not complete"
    parts.append(_box(MEAN, y, whole.value if whole else None, told, weight="700"))
    if whole:
        middle = FAMILY + FAMILY_WIDTH / 2
        parts.append(text(middle, y + 17, _interval(whole), text_anchor="middle", font_size=11.5))
    return "".join(parts)


def _box(x: float, y: float, value: float | None, told: str, *, weight: str | None = None) -> str:
    """One cell: its colour and number, or an empty frame."""
    label = element("title", escape(told))
    place: Attributes = {"x": x + 1, "y": y + 1, "width": CELL - 2, "height": ROW - 2, "rx": 3}
    middle: Attributes = {
        "x": x + CELL / 2,
        "y": y + 17,
        "text_anchor": "middle",
        "font_size": 12,
        "font_weight": weight,
    }
    if value is None:
        frame = element("rect", **place, class_="p-empty", fill="none", stroke=RULE, stroke_dasharray="3 3")
        dash = element("text", "–", **middle, class_="p-soft", fill=SOFT)
        return element("g", label + frame + dash)
    colour = heat(value)
    filled = element("rect", **place, fill=colour)
    return element("g", label + filled + element("text", percent(value), **middle, fill=ink_on(colour)))


def _family_cell(grid: CorruptionGrid, family: str, y: float, height: float) -> str:
    """The tall cell beside a family's rows: name, mean, interval."""
    value = grid.family_values[family]
    place: Attributes = {"x": FAMILY, "y": y + 1, "width": FAMILY_WIDTH, "height": height - 2, "rx": 3}
    middle, centre = FAMILY + FAMILY_WIDTH / 2, y + height / 2
    if value is None:
        frame = element("rect", **place, class_="p-empty", fill="none", stroke=RULE, stroke_dasharray="3 3")
        name = text(middle, centre - 4, family, text_anchor="middle", font_weight="600")
        dash = text(middle, centre + 13, "–", class_="p-soft", fill=SOFT, text_anchor="middle")
        return element("g", element("title", escape(f"{family}: not complete")) + frame + name + dash)
    colour = heat(value.value)
    ink: Attributes = {"class_": None, "fill": ink_on(colour), "text_anchor": "middle"}
    lines = (
        text(middle, centre - 14, family, **ink),
        text(middle, centre + 6, percent(value.value), **{**ink, "font_weight": "700"}),
        text(middle, centre + 23, _interval(value), **{**ink, "font_size": 11}),
    )
    label = element("title", escape(in_words(f"{family}, mean over corruptions and severities", value)))
    return element("g", label + element("rect", **place, fill=colour) + "".join(lines))


def _interval(value: GridValue) -> str:
    return f"{percent(value.low)} to {percent(value.high)}"


def _legend(y: float) -> str:
    """The scale from 0 to 100 %."""
    steps, width = 50, 5 * CELL
    colours = (heat((at + 0.5) / steps) for at in range(steps))
    # A little wider than a step, with crisp edges: no seams where edges fall between pixels.
    crisp: Attributes = {"shape_rendering": "crispEdges"}
    bars = [
        element("rect", x=NAMES + at * width / steps, y=y, width=width / steps + 0.4, height=8, fill=colour, **crisp)
        for at, colour in enumerate(colours)
    ]
    marks = [
        text(NAMES + at * width, y + 22, label, class_="p-soft", fill=SOFT, font_size=11, text_anchor=anchor)
        for at, label, anchor in ((0, "0 %", "start"), (0.5, "50 %", "middle"), (1, "100 %", "end"))
    ]
    title = text(NAMES - 8, y + 9, "accuracy", class_="p-soft", fill=SOFT, font_size=11, text_anchor="end")
    return "".join(bars) + "".join(marks) + title


# -- curves ------------------------------------------------------------------------------------------------------------


def _panels_height(grid: CorruptionGrid) -> float:
    return -(-len(grid.families) // 2) * (PANEL_HEIGHT + 2 * GAP)


def _panels(grid: CorruptionGrid) -> str:
    """All families' panels, two a row."""
    return "".join(
        moved(at % 2 * (PANEL_WIDTH + GAP), at // 2 * (PANEL_HEIGHT + 2 * GAP), _panel(grid, family))
        for at, family in enumerate(grid.families)
    )


def _panel(grid: CorruptionGrid, family: str) -> str:
    names = grid.families[family]
    value = grid.family_values[family]
    head = text(_LEFT, 14, family, font_size=14, font_weight="600")
    if value:
        mean = f"mean {percent(value.value)} % ({_interval(value)})"
        head += text(PANEL_WIDTH - 8, 14, mean, class_="p-soft", fill=SOFT, font_size=11.5, text_anchor="end")
    curves = {name: _points(grid, name) for name in names}
    lines = [_curve(name, points, at % len(SERIES)) for at, (name, points) in enumerate(curves.items())]
    clean = ""
    if grid.clean is not None:
        label = element("title", escape(in_words("clean", grid.clean)))
        place: Attributes = {"cx": _x(0), "cy": _y(grid.clean.value), "r": 3.5}
        clean = element("circle", label, **place, class_="p-clean", fill=PAPER, stroke=INK, stroke_width=1.5)
    return head + _axes(grid) + "".join(lines) + clean + _end_labels(curves)


def _points(grid: CorruptionGrid, name: str) -> tuple[tuple[int, GridValue], ...]:
    """(severity, value) where known; severity 0 is clean."""
    first = ((0, grid.clean),)
    rest = tuple(zip(SEVERITIES, grid.cells[name], strict=True))
    return tuple((severity, cell) for severity, cell in first + rest if cell is not None)


def _axes(grid: CorruptionGrid) -> str:
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        place: Attributes = {"x1": _x(0) - 8, "x2": _x(5) + 4, "y1": y, "y2": y}
        parts.append(element("line", **place, class_="p-rule", stroke=RULE))
        if share in (0.0, 0.5, 1.0):
            mark = f"{share:.0%}".replace("%", " %") if share == 1 else f"{100 * share:.0f}"
            parts.append(_mark(_LEFT - 6, y + 4, mark, "end"))
    ticks = (["clean"] if grid.clean is not None else []) + [str(severity) for severity in SEVERITIES]
    first = 0 if grid.clean is not None else 1
    parts += [_mark(_x(first + at), _y(0) + 17, tick, "middle") for at, tick in enumerate(ticks)]
    return "".join(parts)


def _mark(x: float, y: float, label: str, anchor: str) -> str:
    return text(x, y, label, class_="p-soft", fill=SOFT, font_size=11, text_anchor=anchor)


def _curve(name: str, points: Sequence[tuple[int, GridValue]], series: int) -> str:
    """A line with its band and dots; both break where a severity is missing."""
    colour = SERIES[series]
    parts = []
    for run in _runs(points):
        upper = [f"{number(_x(at))},{number(_y(value.high))}" for at, value in run]
        lower = [f"{number(_x(at))},{number(_y(value.low))}" for at, value in reversed(run)]
        band: Attributes = {"points": " ".join(upper + lower), "fill": colour, "fill_opacity": 0.14}
        parts.append(element("polygon", class_=f"p-band s{series}", **band))
        line = " ".join(f"{number(_x(at))},{number(_y(value.value))}" for at, value in run)
        look: Attributes = {"fill": "none", "stroke": colour, "stroke_width": 1.8, "stroke_linejoin": "round"}
        parts.append(element("polyline", points=line, class_=f"p-line s{series}", **look))
    for at, value in points:
        if at:
            label = element("title", escape(in_words(f"{plain_name(name)}, severity {at}", value)))
            place: Attributes = {"cx": _x(at), "cy": _y(value.value), "r": 2.6}
            parts.append(element("circle", label, **place, class_=f"p-dot s{series}", fill=colour))
    return "".join(parts)


def _runs(points: Sequence[tuple[int, GridValue]]) -> list[list[tuple[int, GridValue]]]:
    """Points cut where a severity is missing."""
    runs: list[list[tuple[int, GridValue]]] = []
    for at, value in points:
        if runs and runs[-1][-1][0] == at - 1:
            runs[-1].append((at, value))
        else:
            runs.append([(at, value)])
    return runs


def _end_labels(curves: Mapping[str, Sequence[tuple[int, GridValue]]]) -> str:
    """Each line's name at its end, moved apart where lines end close together, with a thread to the line."""
    ends = []
    for series, (name, points) in enumerate(curves.items()):
        corrupted = [point for point in points if point[0]]
        if corrupted:
            at, value = corrupted[-1]
            ends.append((_y(value.value), _x(at), name, series % len(SERIES)))
    ends.sort()
    parts = []
    for y, (end_y, end_x, name, series) in zip(_apart([end[0] for end in ends]), ends, strict=True):
        x = _x(5) + 16
        look: Attributes = {
            "class_": f"p-thread s{series}",
            "stroke": SERIES[series],
            "stroke_width": 0.8,
            "opacity": 0.7,
        }
        parts.append(element("line", x1=end_x + 4, y1=end_y, x2=x - 3, y2=y, **look))
        parts.append(text(x, y + 4, plain_name(name), class_=f"p-name s{series}", fill=SERIES[series], font_size=11.5))
    return "".join(parts)


def _apart(wanted: Sequence[float]) -> list[float]:
    """Heights in the same order, at least a line of text apart and inside the panel, near the sorted `wanted` ones."""
    lowest = _y(0) + 4
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y, placed[-1] + _LABEL_STEP) if placed else y)
    for at in range(len(placed) - 1, -1, -1):
        limit = lowest if at == len(placed) - 1 else placed[at + 1] - _LABEL_STEP
        placed[at] = min(placed[at], limit)
    return placed


def _x(severity: float) -> float:
    return _LEFT + 8 + severity * (_PLOT_WIDTH - 12) / 5


def _y(share: float) -> float:
    return _TOP + (1 - share) * _PLOT_HEIGHT
