"""Training recipes by name; each is imported when it is first asked for, so that listing them does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.registry import Registry

if TYPE_CHECKING:
    from models_zoo.recipes.base import Recipe

__all__ = ["RECIPES"]

RECIPES: Registry[Recipe] = Registry("recipe")
RECIPES.add("supervised", "models_zoo.recipes.supervised:SUPERVISED")
RECIPES.add("selectivity", "models_zoo.recipes.selectivity:SELECTIVITY")
RECIPES.add("adversarial", "models_zoo.recipes.adversarial:ADVERSARIAL")
RECIPES.add("trades", "models_zoo.recipes.trades:TRADES")
RECIPES.add("augmix", "models_zoo.recipes.augmix:AUGMIX")
