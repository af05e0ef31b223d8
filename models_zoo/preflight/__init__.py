"""The pre-flight of a checkpoint: everything that can be found out about it in under a minute, with nothing stored."""

from __future__ import annotations

from models_zoo.preflight.driver import Wanted, preflight
from models_zoo.preflight.report import Finding, Report

__all__ = ["Finding", "Report", "Wanted", "preflight"]
