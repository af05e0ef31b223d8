"""The zoo: architectures, model cards, weights, and the recipes that made them. Importing it does not import torch."""

from __future__ import annotations

from models_zoo.registry import list_models, load_model

__all__ = ["list_models", "load_model"]
