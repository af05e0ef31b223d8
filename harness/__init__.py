"""The engine of robustboard: perturb, attack, measure, run, rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.evaluation import Scores, evaluate

__version__ = "0.1.0"
__all__ = ["Scores", "__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """`evaluate` and `Scores` are imported when they are first used: importing `harness` stays light."""
    if name in ("Scores", "evaluate"):
        from harness import evaluation

        return getattr(evaluation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
