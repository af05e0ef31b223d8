"""`robustboard show MODEL --measures`: what was measured, layer by layer, as tables, JSON or a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.cli.output import emit, emit_json, emit_table

if TYPE_CHECKING:
    from harness.measure_view import MeasureTable
    from harness.storage.queries import Reader

_FEW = 8
"""Columns that a terminal has room for; of more, those for 90 and 99 % are left to --json."""


def show_measures(store: Reader, name: str, write: Callable[[str], None] | None, *, as_json: bool) -> None:
    """Print what was measured of a model.

    Args:
        store: where values are.
        name: a registered model.
        write: takes the picture, where one is wanted.
        as_json: print plain data instead of tables.

    Raises:
        UnknownName: no such model, or nothing was measured of it.
    """
    from harness.measure_plot import measures_svg
    from harness.measure_view import choose_tables, model_measures, tables_to_dict

    tables = choose_tables(model_measures(store, name), name)
    if write is not None:
        write(measures_svg(tables))
    if as_json:
        emit_json(tables_to_dict(name, tables))
        return
    for table in tables:
        _print_table(table)


def _print_table(table: MeasureTable) -> None:
    from harness.measure_plot import facts

    emit(f"{table.model}: {table.measure}; " + "; ".join(f"{name} {value}" for name, value in facts(table).items()))
    shown = table.quantities
    if len(shown) > _FEW and table.layers:
        shown = tuple(name for name in shown if not name.endswith(("_90", "_99")))
    if not table.layers:  # numbers of the logits: one a line
        emit_table(("quantity", "value"), [(name, f"{table.network[name].mean:.4g}") for name in shown], right=(1,))
        return
    rows = [("network", *(f"{table.network[name].mean:.4g}" for name in shown))]
    rows += [(layer, *(f"{values[name].mean:.4g}" for name in shown)) for layer, values in table.layers.items()]
    emit_table(("layer", *shown), rows, right=range(1, len(shown) + 1))
