"""Measures: numbers about the representation, next to robustness.

`MEASURES` lists them without importing torch; the pure functions (`selectivity_index` and its siblings) are imported
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.measures.base import SELECTIVITY_VERSION, Measure, MeasureEntry, MeasureResult
from harness.registry import Registry

if TYPE_CHECKING:
    from harness.measures.selectivity import network_selectivity, selectivity_index

__all__ = ["MEASURES", "Measure", "MeasureEntry", "MeasureResult", "network_selectivity", "selectivity_index"]

MEASURES: Registry[Measure] = Registry("measure")
MEASURES.add(
    "selectivity",
    Measure(
        name="selectivity",
        version=SELECTIVITY_VERSION,
        target="harness.measures.selectivity:measure_selectivity",
        description="mean class selectivity index of the units, units then layers (Leavitt & Morcos, 2020)",
    ),
)

_FUNCTIONS = {
    "network_selectivity": "harness.measures.selectivity",
    "selectivity_index": "harness.measures.selectivity",
}


def __getattr__(name: str) -> Any:
    """Import a pure function when it is first asked for (PEP 562)."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_FUNCTIONS[name]), name)
