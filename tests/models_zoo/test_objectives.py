"""Objectives of the recipes: worked examples, closed forms, and implementations written a second time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm

from harness import rng
from harness.errors import InvalidArgument
from harness.measures.selectivity import network_selectivity
from harness.spec import Scalar
from models_zoo.architectures import ARCHITECTURES
from models_zoo.augmix import WORDS, mix_augmentations
from models_zoo.model import ZooModel
from models_zoo.objectives.adversarial import pgd_linf, trades_linf, trades_loss
from models_zoo.objectives.selectivity import batch_selectivity, spatial_mean
from models_zoo.recipes import RECIPES
from models_zoo.recipes.base import Batch
from models_zoo.recipes.selectivity import alpha_at, layer_subset
from models_zoo.recipes.trades import gaussian
from models_zoo.train import planned_card, to_tensor
from tests.models_zoo.tiny import quarters


def a_batch(count: int = 24) -> Batch:
    """The first images of a small task, with the draws that the loop would make in epoch 1."""
    data = quarters(count)
    images = to_tensor(data.images)

    def words(purpose: str, each: int) -> rng.U32:
        return rng.words(0, f"train/{purpose}/1", np.arange(count), each)

    noise = torch.from_numpy(rng.uniform(0, "train/noise/1", np.arange(count), tuple(images.shape[1:])))
    return Batch(
        images=images, labels=torch.from_numpy(data.labels), noise=lambda: noise, pixels=data.images, words=words,
        elapsed=0.5,
    )  # fmt: skip


def a_model(architecture: str = "small_cnn") -> ZooModel:
    """A fresh network for that task."""
    card = planned_card("supervised", dataset=quarters(8), architecture=architecture)
    return ZooModel(ARCHITECTURES.get(architecture).build(4, (12, 12), seed=1), card)


def test_selectivity_gradient_worked_example() -> None:
    """Class means 4, 2, 1, 1: the index rises by 0.09375 with the first, falls by as much with each of the others."""
    means = torch.tensor([[4.0], [2.0], [1.0], [1.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(batch_selectivity({"a": means}, torch.arange(4), classes=4), means)
    assert gradient[:, 0].tolist() == pytest.approx([0.09375, -0.09375, -0.09375, -0.09375], abs=1e-6)
    assert float((gradient * means.detach()).sum()) == pytest.approx(0, abs=1e-6)


def test_selectivity_divides_by_counts() -> None:
    """Responses 3 and 5 to one class and 2 to another: means 4 and 2, index 1/3; sums would give 0.6."""
    index = batch_selectivity({"a": torch.tensor([[3.0], [5.0], [2.0]])}, torch.tensor([0, 0, 1]), classes=3)
    assert index.item() == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("architecture", ["small_cnn", "resnet20"])
def test_the_cheap_index_is_the_measure_bit_by_bit(architecture: str, mixed: bool) -> None:
    """Value and gradients of all weights are those of `network_selectivity`, in float32 and in mixed precision."""
    batch = a_batch()
    found = []
    for index in (network_selectivity, batch_selectivity):
        model = a_model(architecture).train()
        if mixed:
            model.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits, features = model.forward_with_features(batch.images)
            value = index(features, batch.labels, classes=4)
            loss = F.cross_entropy(logits.float(), batch.labels) + value
        found.append((value, torch.autograd.grad(loss, list(model.parameters()))))
    assert torch.equal(found[0][0], found[1][0])
    for first, second in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(first, second)


def test_spatial_mean_gradient() -> None:
    """Against finite differences."""
    maps = torch.rand(3, 2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(spatial_mean, (maps,))
    assert torch.allclose(spatial_mean(maps), maps.mean((2, 3)))


def test_selectivity_needs_two_classes_and_a_layer() -> None:
    """What has no index is an error."""
    with pytest.raises(InvalidArgument, match="at least two classes"):
        batch_selectivity({"a": torch.ones(3, 2)}, torch.zeros(3, dtype=torch.int64), classes=2)
    with pytest.raises(InvalidArgument, match="at least one layer"):
        batch_selectivity({}, torch.arange(2), classes=2)


def test_alpha_warms_up_linearly() -> None:
    """From 0 up to alpha over the epochs asked for; the full alpha at once without, and for validation."""
    assert [alpha_at(t, alpha=-2, warmup=4) for t in (0, 1, 3, 4, 9, math.inf)] == [0, -0.5, -1.5, -2, -2, -2]
    assert [alpha_at(t, alpha=-2, warmup=0) for t in (0, 1, math.inf)] == [-2, -2, -2]


@pytest.mark.parametrize(("elapsed", "share"), [(0.5, 0.25), (math.inf, 1.0)])
@pytest.mark.parametrize(("layers", "names"), [("first3", (0, 1, 2)), ("last3", (1, 2, 3)), ("all", (0, 1, 2, 3))])
def test_selectivity_objective_by_hand(elapsed: float, share: float, layers: str, names: tuple[int, ...]) -> None:
    """Cross-entropy minus the share of alpha times the index of the chosen layers, which is noted."""
    recipe, model, base = RECIPES.get("selectivity"), a_model().eval(), a_batch()
    batch = Batch(images=base.images, labels=base.labels, noise=base.noise, pixels=base.pixels, words=base.words,
                  elapsed=elapsed)  # fmt: skip
    loss, logits = recipe.objective(model, batch, recipe.resolve({"alpha": 3, "alpha_warmup": 2, "layers": layers}))
    features = list(model.features(batch.images).items())
    assert len(features) == 4
    index = network_selectivity(dict(features[name] for name in names), batch.labels, classes=4)
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch.labels) - 3 * share * index)
    torch.testing.assert_close(batch.notes["selectivity"], index.detach())
    assert not batch.notes["selectivity"].requires_grad


def test_layer_subsets_keep_forward_order() -> None:
    """First and last three of five."""
    features = {name: torch.zeros(1) for name in "cabed"}
    assert list(layer_subset(features, "first3")) == ["c", "a", "b"]
    assert list(layer_subset(features, "last3")) == ["b", "e", "d"]
    assert list(layer_subset(features, "all")) == list("cabed")


def test_fast_training_as_its_paper_has_it() -> None:
    """One step of 1.25 radii from a uniform start, written a second time: step, cut to the ball, cut to [0, 1]."""
    model, batch, eps = a_model().eval(), a_batch(), 8 / 255
    recipe = RECIPES.get("adversarial")
    settings = recipe.resolve({"eps": "8/255", "steps": 1, "relative_step": 1.25})
    start = (2 * batch.noise() - 1) * eps
    delta = ((batch.images + start).clamp(0, 1) - batch.images).requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(batch.images + delta), batch.labels), delta)
    delta = (delta.detach() + 1.25 * eps * gradient.sign()).clamp(-eps, eps)
    attacked = (batch.images + delta).clamp(0, 1)
    found = pgd_linf(model, batch.images, batch.labels, eps=eps, step=1.25 * eps, steps=1, start=start)
    # The sign of a gradient of (nearly) zero may differ between a mean and a sum over the batch.
    assert float((found - attacked).abs().gt(1e-6).float().mean()) < 1e-3
    loss, _ = recipe.objective(model, batch, settings)
    torch.testing.assert_close(loss, F.cross_entropy(model(attacked), batch.labels), atol=1e-4, rtol=0)


def test_trades_loss_worked_example() -> None:
    """p(clean) = (1/2, 1/2), p(moved) = (9/10, 1/10): log 2 + 6 KL, KL = log(5/3)."""
    clean, moved = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    loss, divergence = trades_loss(clean.repeat(3, 1), moved.repeat(3, 1), torch.tensor([0, 1, 0]), beta=6.0)
    assert float(divergence) == pytest.approx(math.log(5 / 3), abs=1e-6)
    assert float(loss) == pytest.approx(math.log(2) + 6 * math.log(5 / 3), abs=1e-5)


def test_trades_attack_on_a_linear_model_is_the_closed_form() -> None:
    """The divergence grows away from the clean logit on both sides, so a start decides the side: x +- eps sign(w)."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(48, generator=generator) / 10
    images = 0.3 + 0.4 * torch.rand(8, 3, 4, 4, generator=generator)
    start = 1e-3 * torch.randn(images.shape, generator=generator)

    def classify(batch: torch.Tensor) -> torch.Tensor:
        logit = batch.flatten(1) @ weights
        return torch.stack([logit, -logit], dim=1)

    moved = trades_linf(classify, images, eps=0.1, step=0.03, steps=10, start=start)
    side = (start.flatten(1) @ weights).sign().view(-1, 1, 1, 1)
    assert {-1.0, 1.0} == set(side.flatten().tolist())
    torch.testing.assert_close(moved, images + 0.1 * side * weights.sign().view(1, 3, 4, 4), atol=1e-6, rtol=0)
    assert not moved.requires_grad


def test_trades_attack_never_turns_gradients_off() -> None:
    """Weights that autocast casts without a graph stay in its cache: old versions of torch then train nothing."""
    model, graphs = a_model().eval(), []

    def classify(batch: torch.Tensor) -> torch.Tensor:
        graphs.append(torch.is_grad_enabled())
        return model.forward(batch)

    images = a_batch().images
    moved = trades_linf(classify, images, eps=0.1, step=0.05, steps=2, start=1e-3 * torch.ones_like(images))
    assert graphs == [True, True, True]
    assert not moved.requires_grad


def test_trades_objective() -> None:
    """The attack runs in eval mode, and clean and moved images each update the batch statistics once."""
    recipe, model, batch = RECIPES.get("trades"), a_model().train(), a_batch()
    settings = recipe.resolve({"steps": 3, "beta": 2})
    counter = model.network.state_dict()["bn1.num_batches_tracked"]
    before = int(counter)
    loss, logits = recipe.objective(model, batch, settings)
    assert model.training
    assert int(counter) == before + 2
    divergence = batch.notes["divergence"]
    assert float(divergence) > 0
    torch.testing.assert_close(loss.detach(), (F.cross_entropy(logits, batch.labels) + 2 * divergence).detach())


def test_gaussian_start_has_normal_quantiles() -> None:
    """SciPy's quantiles, finite at both ends."""
    uniform = torch.tensor([0.0, 1e-3, 0.5, 0.975, 1 - 2.0**-24])
    np.testing.assert_allclose(gaussian(uniform)[1:4], norm.ppf(uniform[1:4].numpy()), atol=1e-5)
    assert bool(gaussian(uniform).isfinite().all())
    assert float(gaussian(uniform).abs().max()) < 6


def test_augmix_objective_by_hand() -> None:
    """Cross-entropy on the clean images plus 12 times the divergence over them and two mixes, in NumPy."""
    recipe, model, batch = RECIPES.get("augmix"), a_model().eval(), a_batch()
    loss, logits = recipe.objective(model, batch, recipe.resolve({}))
    words = rng.words(0, "train/augmix/1", np.arange(24), 2 * WORDS)
    views = [batch.images.numpy().transpose(0, 2, 3, 1)]
    views += [mix_augmentations(batch.pixels, words[:, part]) for part in (slice(WORDS), slice(WORDS, None))]
    assert not np.array_equal(views[1], views[2])
    with torch.no_grad():
        p = np.stack([model(torch.from_numpy(view).permute(0, 3, 1, 2)).softmax(1).double().numpy() for view in views])
    mean = p.mean(0)
    divergence = (p * np.log(p / mean)).sum(-1).mean()
    assert divergence > 0
    clean = F.cross_entropy(logits, batch.labels)
    assert float(loss.detach()) == pytest.approx(float(clean.detach()) + 12 * divergence, abs=1e-4)
    assert float(batch.notes["consistency"]) == pytest.approx(divergence, abs=1e-5)


@pytest.mark.parametrize(
    ("recipe", "settings", "name"),
    [
        ("selectivity", {"alpha": -1, "layers": "first3"}, "selectivity-am1-first3"),
        ("selectivity", {"alpha": 0.5, "layers": "last3", "alpha_warmup": 5}, "selectivity-ap0_5-last3-w5"),
        ("selectivity", {"alpha": -2, "alpha_warmup": 2.5}, "selectivity-am2-w2_5"),
        ("trades", {}, "trades-linf8"),
        ("trades", {"beta": 1, "eps": "4/255"}, "trades-linf4-b1"),
        ("augmix", {}, "augmix"),
        ("augmix", {"consistency": 0}, "augmix-nojsd"),
    ],
)
def test_names_tell_the_controls(recipe: str, settings: dict[str, Scalar], name: str) -> None:
    """What the paper's controls change is in the model's name."""
    entry = RECIPES.get(recipe)
    made = entry.model_name(architecture="a", dataset="d", settings=entry.resolve(settings), seed=0)
    assert made == f"a.{name}.d.s0"
