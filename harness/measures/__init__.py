"""Measures: numbers about the representation, next to robustness.

`MEASURES` lists them without importing torch; the pure functions (`selectivity_index` and its siblings) are imported
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from harness.measures.base import Measure, MeasureEntry, MeasureResult
from harness.measures.catalogue import MEASURES

if TYPE_CHECKING:
    from harness.measures.gradients import gradient_variation, unit_gradient_norms
    from harness.measures.logits import jacobian_norms, loss_gradient_norms
    from harness.measures.selectivity import network_selectivity, selectivity_index

__all__ = [
    "MEASURES",
    "Measure",
    "MeasureEntry",
    "MeasureResult",
    "gradient_variation",
    "jacobian_norms",
    "loss_gradient_norms",
    "network_selectivity",
    "selectivity_index",
    "unit_gradient_norms",
]

_FUNCTIONS = {
    "gradient_variation": "harness.measures.gradients",
    "jacobian_norms": "harness.measures.logits",
    "loss_gradient_norms": "harness.measures.logits",
    "network_selectivity": "harness.measures.selectivity",
    "selectivity_index": "harness.measures.selectivity",
    "unit_gradient_norms": "harness.measures.gradients",
}


def __getattr__(name: str) -> Any:
    """Import a pure function when it is first asked for (PEP 562)."""
    if name not in _FUNCTIONS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_FUNCTIONS[name]), name)
