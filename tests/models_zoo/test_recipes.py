"""Recipes: settings are typed and bounded, objectives have their worked examples."""

from __future__ import annotations

from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from harness.errors import InvalidArgument, UnknownName
from harness.spec import Scalar
from models_zoo.model import ZooModel
from models_zoo.objectives.adversarial import pgd_linf
from models_zoo.recipes import RECIPES
from models_zoo.recipes.base import Batch, parse_assignments

# Class means of units in two layers whose network selectivity is 0.458333 (worked by hand).
LAYERS = {
    "a": torch.tensor([[4.0, 2.0, 1.0, 1.0], [0.0, 0.0, 3.0, 0.0]]).T,
    "b": torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0], [6.0, 2.0, 2.0, 2.0]]).T,
}


@pytest.mark.parametrize(("alpha", "expected"), [(-1.0, 2.458333), (0.5, 1.770833), (0.0, 2.0)])
def test_selectivity_objective_worked_example(alpha: float, expected: float) -> None:
    """A cross-entropy of 2 and an index of 0.458333: alpha -1 gives 2.458333, +0.5 gives 1.770833."""
    # Logits whose cross-entropy is exactly 2 for each image: p = exp(-2) on the label, the rest shared.
    right = torch.exp(torch.tensor(-2.0))
    logits = torch.where(torch.eye(4) == 1, right, (1 - right) / 3).log()
    recipe, images = RECIPES.get("selectivity"), torch.zeros(4, 3, 1, 1)
    batch = Batch(
        images=images, labels=torch.arange(4), noise=lambda: images, pixels=np.zeros((4, 1, 1, 3), np.uint8),
        words=lambda _purpose, count: np.zeros((4, count), np.uint32),
    )  # fmt: skip
    model = create_autospec(ZooModel, instance=True)
    model.forward_with_features.return_value = (logits, LAYERS)
    loss, found = recipe.objective(model, batch, recipe.resolve({"alpha": alpha}))
    assert found is logits
    assert float(loss) == pytest.approx(expected, abs=2e-6)


def linear(weights: torch.Tensor) -> torch.nn.Module:
    """A linear two-class model: logits (w.x, -w.x)."""
    layer = torch.nn.Linear(weights.numel(), 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([weights, -weights]))
    return torch.nn.Sequential(torch.nn.Flatten(), layer)


@pytest.mark.parametrize("started", [False, True])
def test_pgd_on_a_linear_model_is_the_closed_form(started: bool) -> None:
    """On a linear model the worst image of the ball is x - eps sign(w), cut to [0, 1]; PGD ends exactly there."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(48, generator=generator)
    images = torch.rand(5, 3, 4, 4, generator=generator)
    labels = torch.zeros(5, dtype=torch.int64)
    start = (2 * torch.rand(images.shape, generator=generator) - 1) * 0.1 if started else None
    model = linear(weights)
    moved = pgd_linf(model, images, labels, eps=0.1, step=0.05, steps=6, start=start)
    expected = (images - 0.1 * weights.sign().view(1, 3, 4, 4)).clamp(0, 1)
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)
    assert not moved.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pgd_stays_inside_and_hurts() -> None:
    """On a network with curvature: within eps of the images and of [0, 1], and the loss goes up."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(288, 5))
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 5
    moved = pgd_linf(model, images, labels, eps=8 / 255, step=2 / 255, steps=10)
    assert float((moved - images).abs().max()) <= 8 / 255 + 1e-6
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    with torch.no_grad():
        before = F.cross_entropy(model(images), labels, reduction="none")
        after = F.cross_entropy(model(moved), labels, reduction="none")
    assert bool((after > before).all())


@pytest.mark.parametrize("name", RECIPES.names())
def test_recipe_table_is_documented_and_sound(name: str) -> None:
    """Each recipe is called as registered; its settings are documented and their defaults lie in their domains."""
    recipe = RECIPES.get(name)
    assert recipe.name == name
    names = [parameter.name for parameter in recipe.table]
    assert len(names) == len(set(names))
    assert all(parameter.help for parameter in recipe.table)
    assert recipe.resolve({}) == {parameter.name: parameter.default for parameter in recipe.table}
    assert recipe.resolve({key: str(value) for key, value in recipe.resolve({}).items()}) == recipe.resolve({})


@pytest.mark.parametrize(
    ("recipe", "key", "value", "parsed"),
    [
        ("selectivity", "alpha", "-2", -2.0),
        ("selectivity", "alpha", 2, 2.0),
        ("supervised", "epochs", " 7 ", 7),
        ("supervised", "epochs", 7.0, 7),
        ("supervised", "flip", "True", True),
        ("adversarial", "eps", "4/255", "4/255"),
        ("adversarial", "eps", 0.05, "0.05"),
        ("supervised", "precision", " bf16", "bf16"),
    ],
)
def test_settings_are_typed(recipe: str, key: str, value: Scalar, parsed: Scalar) -> None:
    """Texts and numbers become the setting's own type."""
    found = RECIPES.get(recipe).resolve({key: value})[key]
    assert found == parsed
    assert type(found) is type(parsed)


@pytest.mark.parametrize(
    ("recipe", "key", "value", "message"),
    [
        ("supervised", "epochs", "0", "epochs: got '0', expected an integer from 1"),
        ("supervised", "epochs", "1.5", "an integer"),
        ("supervised", "epochs", 1.5, "an integer"),
        ("supervised", "epochs", True, "an integer"),
        ("supervised", "flip", "maybe", "true or false"),
        ("supervised", "flip", 1, "true or false"),
        ("supervised", "learning_rate", "nan", "learning_rate"),
        ("supervised", "learning_rate", "fast", "a number"),
        ("adversarial", "eps", "0/255", "eps: got '0/255', expected a positive number or fraction"),
        ("adversarial", "eps", "-1", "eps"),
        ("adversarial", "eps", "2", "up to 1"),
        ("adversarial", "eps", True, "eps"),
        ("supervised", "precision", "float16", "precision: got 'float16', expected float32 or bf16"),
    ],
)
def test_bad_settings_are_named(recipe: str, key: str, value: Scalar, message: str) -> None:
    """A value of the wrong kind or outside its domain is refused with the setting's name."""
    with pytest.raises(InvalidArgument, match=message):
        RECIPES.get(recipe).resolve({key: value})


def test_unknown_setting_and_recipe_get_a_hint() -> None:
    """Slips of the finger get the nearest name."""
    with pytest.raises(UnknownName, match="unknown selectivity setting 'alfa'; did you mean 'alpha'"):
        RECIPES.get("selectivity").resolve({"alfa": 1})
    with pytest.raises(UnknownName, match="did you mean 'adversarial'"):
        RECIPES.get("adversarail")


def test_assignments() -> None:
    """Texts of a command line are split at the first "="; dashes and underscores are one."""
    assert parse_assignments(["alpha=-1", "batch-size= 64", "x=a=b"]) == {
        "alpha": "-1",
        "batch_size": " 64",
        "x": "a=b",
    }


@pytest.mark.parametrize("texts", [["alpha"], ["=1"], ["a=1", "a=2"]])
def test_bad_assignments(texts: list[str]) -> None:
    """No "=", no key, and a key given twice are refused."""
    with pytest.raises(InvalidArgument, match="--set"):
        parse_assignments(texts)


@pytest.mark.parametrize(
    ("recipe", "settings", "name"),
    [
        ("supervised", {}, "small_cnn.supervised.digits.s0"),
        ("selectivity", {"alpha": -1}, "small_cnn.selectivity-am1.digits.s0"),
        ("selectivity", {"alpha": 2}, "small_cnn.selectivity-ap2.digits.s0"),
        ("selectivity", {"alpha": 0.5}, "small_cnn.selectivity-ap0_5.digits.s0"),
        ("selectivity", {"alpha": 0}, "small_cnn.selectivity-a0.digits.s0"),
        ("adversarial", {}, "small_cnn.adversarial-linf8.digits.s0"),
        ("adversarial", {"eps": "1/510"}, "small_cnn.adversarial-linf0_00196078.digits.s0"),
        ("adversarial", {"eps": "0.05"}, "small_cnn.adversarial-linf0_05.digits.s0"),
    ],
)
def test_names_tell_the_variant(recipe: str, settings: dict[str, Scalar], name: str) -> None:
    """The name of a model says what matters of its settings, in characters that names may have."""
    entry = RECIPES.get(recipe)
    assert (
        entry.model_name(architecture="small_cnn", dataset="digits", settings=entry.resolve(settings), seed=0) == name
    )
