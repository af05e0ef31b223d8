"""Studies: published claims, restated as bundled models x a benchmark x tests. No torch."""

from __future__ import annotations

from harness.registry import Registry
from models_zoo.studies.base import Report, Study

__all__ = ["STUDIES", "Report", "Study"]

STUDIES: Registry[Study] = Registry("study")
STUDIES.add("selectivity", "models_zoo.studies.selectivity:SELECTIVITY")
