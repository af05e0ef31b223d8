"""What the page of a model shows of attacks: pictures, and the same numbers as tables."""

from __future__ import annotations

from dataclasses import dataclass

from api.pages import ModelPage, robustness_href
from harness.curves import GridValue
from harness.plots import in_words, percent
from harness.robustness import BoardRobustness, RobustnessCurve
from harness.robustness_plot import norm_svg
from harness.spec import eps_text


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreatRow:
    """One threat model, or the union of several, as a line of a table."""

    threat: str
    attack: str
    value: str
    raw: str
    interval: str
    images: str
    union: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One radius of a curve."""

    eps: str
    value: str
    raw: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveView:
    """A curve in numbers."""

    title: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessView:
    """One board's attacks on a model: pictures are whole escaped SVG documents."""

    benchmark: str
    dataset: str
    href: str
    panels: tuple[tuple[str, str], ...]
    """(norm, picture)."""
    threats: tuple[ThreatRow, ...]
    curves: tuple[CurveView, ...]


def robustness_views(page: ModelPage, root: str) -> tuple[RobustnessView, ...]:
    """A model under attack, board by board."""
    return tuple(
        RobustnessView(
            benchmark=board.benchmark,
            dataset=board.dataset,
            href=robustness_href(root, board),
            panels=tuple((norm, norm_svg(board, norm)) for norm in board.norms),
            threats=_threats(board),
            curves=tuple(_curve(curve) for curve in board.curves),
        )
        for board in page.robustness
    )


def _threats(board: BoardRobustness) -> tuple[ThreatRow, ...]:
    rows = [
        _row(f"{item.norm} {eps_text(item.eps)}", item.attack, item.robust, item.bound, item.images)
        for item in board.threats
    ]
    unions = [
        _row("all at once", ", ".join(item.members), item.robust, item.bound, item.images, union=True)
        for item in board.unions
    ]
    return (*rows, *unions)


def _row(threat: str, attack: str, robust: GridValue, bound: str, images: int, *, union: bool = False) -> ThreatRow:
    return ThreatRow(
        threat=threat,
        attack=attack,
        value=_at_most(bound) + percent(robust.value),
        raw=repr(robust.value),
        interval=f"{percent(robust.low)} to {percent(robust.high)}",
        images=f"{robust.n:,}" if robust.n == images else f"{robust.n:,} of {images:,}",
        union=union,
    )


def _curve(curve: RobustnessCurve) -> CurveView:
    return CurveView(
        title=f"{curve.norm}, {curve.attack}, {curve.points[0][1].n:,} images",
        points=tuple(
            CurvePoint(
                eps=eps_text(eps) if eps else "0",
                value=(_at_most(curve.bound) if eps else "") + percent(value.value),
                raw=repr(value.value),
                words=in_words("", value),
            )
            for eps, value in curve.points
        ),
    )


def _at_most(bound: str) -> str:
    return "<= " if bound == "upper" else ""
