"""Robust accuracy over eps as SVG: one panel a norm, curves as steps with their intervals, single radii as marks.

Text in, text out: no plotting library. The same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.curves import GridValue
from harness.plots import in_words, percent
from harness.robustness import BoardRobustness, RobustnessCurve, Threat, Union
from harness.spec import eps_text
from harness.svg import INK, PAPER, RULE, SERIES, SOFT, Attributes, document, element, escape, moved, number, text
from harness.types import Norm

PANEL_WIDTH, GAP = 366, 24
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 44, 30, 306, 200
_KEY, _KEY_STEP = _TOP + _PLOT_HEIGHT + 58, 18
_LONGEST = 52
"""Characters of a line of the key that fit in the panel."""


def norm_svg(board: BoardRobustness, norm: Norm) -> str:
    """One panel, without title and background, for a page.

    Raises:
        KeyError: the model was not attacked in this norm.
    """
    if norm not in board.norms:
        raise KeyError(norm)
    return document(_panel(board, norm), PANEL_WIDTH, _panel_height(board, norm), _label(board, norm), paper=False)


def robustness_svg(boards: Sequence[BoardRobustness]) -> str:
    """All panels of each board side by side, one board below the other, with the unions in words.

    Args:
        boards: at least one, all of one model.
    """
    parts, at, width = [], 0.0, 2 * PANEL_WIDTH
    for board in boards:
        panels = [moved(place * (PANEL_WIDTH + GAP), 0, _panel(board, norm)) for place, norm in enumerate(board.norms)]
        lines = _headline(board)
        head = 28 + 18 * len(lines)
        parts.append(moved(0, at, _title(board, lines) + moved(0, head, "".join(panels))))
        at += head + max(_panel_height(board, norm) for norm in board.norms) + GAP
        width = max(width, len(board.norms) * (PANEL_WIDTH + GAP) - GAP)
    label = f"Robust accuracy of {boards[0].model}: " + "; ".join(
        _label(board, norm, of_model=False) for board in boards for norm in board.norms
    )
    return document(moved(16, 16, "".join(parts)), width + 32, at + 16, label)


def shown(value: GridValue, bound: str) -> str:
    """A robust accuracy for people, in percent: "<= 41.2 (37.0 to 45.6)"."""
    led = "<= " if bound == "upper" else ""
    return f"{led}{percent(value.value)} ({percent(value.low)} to {percent(value.high)})"


def union_line(item: Union) -> str:
    """A union in one line."""
    images = f"{item.robust.n:,} images"
    if item.robust.n < item.images:
        images = f"{item.robust.n:,} of {item.images:,} images"
    return f"right under all of {', '.join(item.members)}: {shown(item.robust, item.bound)} % of {images}"


def _headline(board: BoardRobustness) -> list[str]:
    clean = f", clean {percent(board.clean.value)} %" if board.clean else ""
    return [f"{board.benchmark} on {board.dataset}{clean}", *(union_line(item) for item in board.unions)]


def _title(board: BoardRobustness, lines: Sequence[str]) -> str:
    model = board.model if len(board.model) <= 64 else f"{board.model[:40]}…{board.model[-20:]}"
    full = element("title", escape(board.model))
    name = element("text", escape(model) + full, x=0, y=14, class_="p-ink", fill=INK, font_size=16, font_weight="600")
    told = (text(0, 34 + 18 * at, line, class_="p-soft", fill=SOFT) for at, line in enumerate(lines))
    return name + "".join(told)


def _label(board: BoardRobustness, norm: Norm, *, of_model: bool = True) -> str:
    """What a panel shows, in words."""
    curves, singles = _of_norm(board, norm)
    told = [
        f"{curve.attack} {shown(curve.points[-1][1], curve.bound)} % at eps {eps_text(curve.eps)}" for curve in curves
    ]
    told += [f"{item.attack} {shown(item.robust, item.bound)} % at eps {eps_text(item.eps)}" for item in singles]
    where = f"{norm} on {board.dataset} ({board.benchmark}): " + ", ".join(told)
    return f"Robust accuracy of {board.model} over eps in {where}" if of_model else where


def _of_norm(board: BoardRobustness, norm: Norm) -> tuple[list[RobustnessCurve], list[Threat]]:
    """Curves in a norm, and the threats that no curve goes through."""
    curves = [curve for curve in board.curves if curve.norm == norm]
    drawn = {curve.evaluation for curve in curves}
    return curves, [item for item in board.threats if item.norm == norm and item.evaluation not in drawn]


def _panel_height(board: BoardRobustness, norm: Norm) -> float:
    curves, singles = _of_norm(board, norm)
    return _KEY + _KEY_STEP * (len(curves) + len(singles))


def _panel(board: BoardRobustness, norm: Norm) -> str:
    curves, singles = _of_norm(board, norm)
    widest = max([curve.eps for curve in curves] + [item.eps for item in singles])
    parts = [text(_LEFT, 14, norm, font_size=14, font_weight="600"), _axes(norm, widest)]
    parts += [_steps(curve, series % len(SERIES), widest) for series, curve in enumerate(curves)]
    if board.clean is not None and not curves:
        label = element("title", escape(in_words("clean", board.clean)))
        place: Attributes = {"cx": _x(0.0, widest), "cy": _y(board.clean.value), "r": 3.5}
        parts.append(element("circle", label, **place, class_="p-clean", fill=PAPER, stroke=INK, stroke_width=1.5))
    parts += [
        _mark(item, (len(curves) + at) % len(SERIES), widest, _aside(singles, at)) for at, item in enumerate(singles)
    ]
    told = [(curve.attack, curve.eps, curve.points[-1][1], curve.bound, True) for curve in curves]
    told += [(item.attack, item.eps, item.robust, item.bound, False) for item in singles]
    for at, (attack, eps, value, bound, line) in enumerate(told):
        words = f"{attack} at {eps_text(eps)}: {shown(value, bound)}"
        parts.append(_key(at, words, bound, line=line))
    return "".join(parts)


def _axes(norm: Norm, widest: float) -> str:
    """Lines at quarters of the accuracy, marks at even steps of eps, both named."""
    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _y(share)
        place: Attributes = {"x1": _LEFT, "x2": _LEFT + _PLOT_WIDTH, "y1": y, "y2": y}
        parts.append(element("line", **place, class_="p-rule", stroke=RULE))
        if share in (0.0, 0.5, 1.0):
            parts.append(_small(_LEFT - 6, y + 4, f"{100 * share:.0f}" + (" %" if share == 1 else ""), "end"))
    parts += [_small(_x(eps, widest), _y(0) + 17, label, "middle") for eps, label in _ticks(norm, widest)]
    return "".join(parts) + _small(_LEFT + _PLOT_WIDTH / 2, _y(0) + 36, f"eps ({norm})", "middle")


def _ticks(norm: Norm, widest: float) -> list[tuple[float, str]]:
    """Even steps from 0 to the largest radius, as many as give short names: 255ths in Linf, decimals elsewhere."""

    def name(eps: float) -> str:
        exact = eps_text(eps)
        return exact if norm == "Linf" and "/" in exact else f"{eps:.3g}"

    def named(parts: int) -> list[tuple[float, str]]:
        return [(0.0, "0"), *((widest * (at / parts), name(widest * (at / parts))) for at in range(1, parts + 1))]

    def awkward(parts: int) -> tuple[int, int]:
        names = [label for _, label in named(parts)[1:]]
        return sum("/" not in label for label in names if norm == "Linf"), max(map(len, names))

    return named(min((4, 5, 3, 2), key=awkward))


def _steps(curve: RobustnessCurve, series: int, widest: float) -> str:
    """A curve as steps with its band: up to the next radius no more is known than at the last one."""
    colour, points = SERIES[series], curve.points
    line = _stairs([(eps, value.value) for eps, value in points], widest)
    upper = _stairs([(eps, value.high) for eps, value in points], widest)
    lower = _stairs([(eps, value.low) for eps, value in points], widest)
    look: Attributes = {"fill": "none", "stroke": colour, "stroke_width": 1.8, "stroke_linejoin": "round"}
    parts = [
        element(
            "polygon", points=" ".join(upper + lower[::-1]), class_=f"p-band s{series}", fill=colour, fill_opacity=0.14
        ),
        element("polyline", points=" ".join(line), class_=f"p-line s{series}", **look),
    ]
    for eps, value in points:
        label = element("title", escape(_told(curve.attack, eps, value, curve.bound)))
        place: Attributes = {"cx": _x(eps, widest), "cy": _y(value.value), "r": 2.2}
        parts.append(element("circle", label, **place, class_=f"p-dot s{series}", fill=colour))
    return "".join(parts)


def _stairs(points: Sequence[tuple[float, float]], widest: float) -> list[str]:
    """Corners of a step function."""
    corners, last = [], None
    for eps, share in points:
        x, y = number(_x(eps, widest)), number(_y(share))
        corners += [f"{x},{y}"] if last is None else [f"{x},{last}", f"{x},{y}"]
        last = y
    return corners


def _mark(item: Threat, series: int, widest: float, aside: float) -> str:
    """One radius: its interval as a line, its value as a dot, or a triangle that points down for an upper bound."""
    colour, x, y = SERIES[series], _x(item.eps, widest) + aside, _y(item.robust.value)
    ends: Attributes = {"x1": x, "x2": x, "y1": _y(item.robust.high), "y2": _y(item.robust.low)}
    label = element("title", escape(_told(item.attack, item.eps, item.robust, item.bound)))
    stem = element("line", **ends, class_=f"p-thread s{series}", stroke=colour, stroke_width=1.6)
    return element("g", label + stem + _sign(x, y, series, item.bound))


def _sign(x: float, y: float, series: int, bound: str) -> str:
    colour: Attributes = {"class_": f"p-dot s{series}", "fill": SERIES[series]}
    if bound != "upper":
        return element("circle", cx=x, cy=y, r=3.6, **colour)
    corners = ((x - 4.6, y - 3.6), (x + 4.6, y - 3.6), (x, y + 4.6))
    return element("polygon", points=" ".join(f"{number(a)},{number(b)}" for a, b in corners), **colour)


def _aside(singles: Sequence[Threat], at: int) -> float:
    """How far marks of the same radius are moved apart, to the left of it."""
    return -9.0 * sum(other.eps == singles[at].eps for other in singles[at + 1 :])


def _key(at: int, words: str, bound: str, *, line: bool) -> str:
    """A line under the panel: the sign of a curve or mark, and what it is."""
    series, y = at % len(SERIES), _KEY + _KEY_STEP * at
    if line:
        ends: Attributes = {"x1": _LEFT - 8, "x2": _LEFT + 8, "y1": y - 4, "y2": y - 4}
        sign = element("line", **ends, class_=f"p-line s{series}", stroke=SERIES[series], stroke_width=1.8)
    else:
        sign = _sign(_LEFT, y - 4, series, bound)
    short = words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
    label = element("title", escape(words))
    line_of_text = text(_LEFT + 16, y, short, font_size=11.5)
    return element("g", label + sign + line_of_text)


def _told(attack: str, eps: float, value: GridValue, bound: str) -> str:
    """A value in words, for tooltips."""
    told = in_words(f"{attack}, eps {eps_text(eps)}" if eps else "clean", value)
    return f"{told}; an upper bound: a stronger attack may lower it" if eps and bound == "upper" else told


def _small(x: float, y: float, label: str, anchor: str) -> str:
    return text(x, y, label, class_="p-soft", fill=SOFT, font_size=11, text_anchor=anchor)


def _x(eps: float, widest: float) -> float:
    return _LEFT + 8 + eps / widest * (_PLOT_WIDTH - 20)


def _y(share: float) -> float:
    return _TOP + (1 - share) * _PLOT_HEIGHT
