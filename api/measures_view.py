"""What the page of a model shows of its representation: pictures by layer, and the same numbers as tables."""

from __future__ import annotations

from dataclasses import dataclass

from api.pages import ModelPage
from harness.measure_plot import facts, panel_svg, panels
from harness.measure_view import MeasureTable, Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberView:
    """One number: as text, exact, and the distribution behind it in words."""

    text: str
    raw: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerView:
    """One layer, or the network."""

    name: str
    cells: tuple[NumberView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """One measure in numbers."""

    measure: str
    about: str
    quantities: tuple[str, ...]
    rows: tuple[LayerView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuresView:
    """A model's measures: pictures are whole escaped SVG documents."""

    panels: tuple[tuple[str, str], ...]
    """(key, picture)."""
    tables: tuple[TableView, ...]


def measures_view(page: ModelPage) -> MeasuresView:
    """All that was measured of a model."""
    return MeasuresView(
        panels=tuple((panel.key, panel_svg(panel, page.detail.summary.name)) for panel in panels(page.measures)),
        tables=tuple(_table(table) for table in page.measures),
    )


def _table(table: MeasureTable) -> TableView:
    rows = [LayerView(name="network", cells=tuple(_cell(table.network[name], table) for name in table.quantities))]
    for layer, values in table.layers.items():
        rows.append(LayerView(name=layer, cells=tuple(_cell(values[name], table) for name in table.quantities)))
    return TableView(
        measure=table.measure,
        about="; ".join(f"{name} {value}" for name, value in facts(table).items()),
        quantities=table.quantities,
        rows=tuple(rows),
    )


def _cell(value: Quantity, table: MeasureTable) -> NumberView:
    words = ""
    if value.spread is not None:
        spread = value.spread
        words = (
            f"{spread.n:,} {table.parts}: median {spread.p50:.4g}, half of them in {spread.p25:.4g} to {spread.p75:.4g}"
        )
    return NumberView(text=f"{value.mean:.4g}", raw=repr(value.mean), words=words)
