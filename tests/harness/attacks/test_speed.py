"""Faster forms compute the same function, or are not taken."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from harness.attacks import Numerics, run_attack
from harness.attacks.physical import Passes, probe
from harness.attacks.speed import Faster, fold, keep_layout, prepare
from harness.errors import InvalidArgument, ModelError


def test_folding_removes_every_batch_norm(
    small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """No batch norm is left, logits agree within rounding, the original is untouched and its search form frozen."""
    model, pictures = small_conv(), images(32)
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    assert folded is not None
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(folded(pictures), model(pictures), atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_forms_keep_promise_a(
    precision: str, small_conv: Callable[..., nn.Module], images: Callable[..., torch.Tensor]
) -> None:
    """The search's forms, too, give the same bits for 16 and 64 rows, forward and backward."""
    model, pictures = small_conv(width=16), images(64)
    form = prepare(model, pictures, Numerics(precision="bfloat16" if precision == "bfloat16" else "float32"))
    assert isinstance(form, Faster)
    assert probe(form, pictures).identical
    logits, exact = Passes(form).logits(pictures), Passes(model).logits(pictures)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, exact, atol=1e-3 if precision == "float32" else 0.3)


def test_what_cannot_be_folded_is_left_alone(images: Callable[..., torch.Tensor]) -> None:
    """Control flow on values, randomness and plain functions: the model as it is."""
    pictures = images(4, (3, 8, 8))

    class Branching(nn.Module):
        """Cannot be traced."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Logits."""
            out: torch.Tensor = self.conv(batch).mean((2, 3))
            return out if float(batch.sum()) > 0 else -out

    class Noisy(nn.Module):
        """Draws at every pass."""

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Logits."""
            return batch.flatten(1)[:, :4] + torch.randn(4)

    branching, noisy = Branching().eval(), Noisy().eval()
    assert fold(branching) is None
    assert isinstance(prepare(branching, pictures, Numerics()), Faster)
    assert prepare(noisy, pictures, Numerics()) is noisy

    def function(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :4]

    assert prepare(function, pictures, Numerics()) is function
    with pytest.raises(InvalidArgument, match="search_precision"):
        prepare(function, pictures, Numerics(precision="bfloat16"))
    with pytest.raises(InvalidArgument, match="no copy gives the same logits"):
        prepare(noisy, pictures, Numerics(precision="bfloat16"))


class _Normalised(nn.Module):
    """Normalises, two convolutions with a shortcut, and one of several ways to end."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, end: str) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1))
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.end = end
        self.linear = nn.Linear(8 if end != "reshape" else 8 * 64, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        maps = torch.relu_(self.first((images - self.mean) / self.std))
        maps = torch.relu_(self.second(maps) + maps)
        if self.end == "mean":
            flat = maps.mean((2, 3))
        elif self.end == "pool":
            flat = self.flatten(self.pool(maps))
        else:
            flat = maps.reshape((-1, 8 * 64))
        logits: torch.Tensor = self.linear(flat)
        return logits


class _Watching(torch.fx.Interpreter):
    """Runs a graph and asks for the layout of every gradient of 4-d values."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        super().__init__(graph)
        self.forwards: dict[str, bool] = {}
        self.backwards: dict[str, bool] = {}

    def run_node(self, n: torch.fx.Node) -> object:
        """As before."""
        found = super().run_node(n)
        if isinstance(found, torch.Tensor) and found.dim() == 4 and found.requires_grad:
            self.forwards[n.name] = found.is_contiguous(memory_format=torch.channels_last)
            found.register_hook(lambda gradient, name=n.name: self._note(name, gradient))  # type: ignore[no-untyped-call]
        return found

    def _note(self, name: str, gradient: torch.Tensor) -> None:
        self.backwards[name] = gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("end", ["mean", "pool", "reshape"])
def test_one_layout_from_the_normalisation_to_the_last_maps_and_back(
    end: str, images: Callable[..., torch.Tensor]
) -> None:
    """Images are normalised in NCHW; every map after that and every gradient before the pooling is NHWC."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _Normalised(end).eval().requires_grad_(False)
    form = prepare(model, images(16, (3, 8, 8)), Numerics())
    assert isinstance(form, Faster)
    assert isinstance(form.model, torch.fx.GraphModule)
    watching, batch = _Watching(form.model), images(16, (3, 8, 8)).requires_grad_()
    torch.autograd.grad(watching.run(batch).logsumexp(1).sum(), batch)
    normalising = {"images", "sub", "truediv"}
    assert not any(watching.forwards[name] for name in normalising)
    maps = {name: layout for name, layout in watching.forwards.items() if name not in normalising | {"pool"}}
    assert len(maps) >= 5
    assert all(maps.values()), maps
    # what `keep_layout` returns is the tensor that it was given: looked at before it, the gradient is as it came
    before = {str(node.args[0]) for node in form.model.graph.nodes if node.target is keep_layout}
    assert all(watching.backwards[name] for name in maps if name not in before), watching.backwards
    assert before
    plain = Passes(model)
    logits, _, gradient = Passes(form).gradient(images(16, (3, 8, 8)), lambda out: out.logsumexp(1))
    expected, _, slope = plain.gradient(images(16, (3, 8, 8)), lambda out: out.logsumexp(1))
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(gradient, slope, atol=1e-5)


class _Rounding(torch.autograd.Function):
    """Rounds to 8 bits and passes gradients straight through."""

    @staticmethod
    def forward(_context: Any, values: torch.Tensor) -> torch.Tensor:
        """Rounded."""
        return torch.round(values * 255) / 255

    @staticmethod
    def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Unchanged."""
        return gradient


class _StraightThrough(nn.Module):
    """A linear model of rounded images."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(48, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.linear(_Rounding.apply(images).flatten(1))
        return logits


def test_a_backward_pass_of_the_model_is_kept(images: Callable[..., torch.Tensor]) -> None:
    """Tracing would put the true slope of rounding, zero, in the place of the straight-through estimate."""
    pictures = images(16, (3, 4, 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _StraightThrough().eval().requires_grad_(False)
    labels = model(pictures).argmax(dim=1)
    traced = fold(model)
    assert traced is not None
    assert torch.equal(traced(pictures), model(pictures))
    found = [
        run_attack(model, pictures, labels, "pgd", eps=0.1, numerics=Numerics(fold=folding)).robust
        for folding in (True, False)
    ]
    assert found[0].tolist() == found[1].tolist()
    assert not found[0].all()


@pytest.mark.parametrize("how", ["in place", "detached"])
def test_black_box_attacks_need_no_backward_pass(how: str, images: Callable[..., torch.Tensor]) -> None:
    """A model that normalises in place or detaches has none: no form may invent one, and queries go on."""

    class NoGradient(nn.Module):
        """Linear."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(48, 4)

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            """Logits."""
            batch = batch.sub_(0.0) if how == "in place" else batch.detach()
            logits: torch.Tensor = self.linear(batch.flatten(1))
            return logits

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = NoGradient().eval()
    pictures = images(16, (3, 4, 4))
    labels = model(pictures.detach()).argmax(dim=1)
    found = run_attack(model, pictures, labels, "square", eps=0.3, queries=50)
    assert not found.robust.all()
    with pytest.raises((RuntimeError, ModelError)):
        run_attack(model, pictures, labels, "pgd", eps=0.3)


def test_unusual_graphs_get_a_form_that_works(images: Callable[..., torch.Tensor]) -> None:
    """A graph that calls one module under two names, and an input that is a tuple."""

    class Twice(nn.Module):
        """Shares its rectifier."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
            self.one = self.other = nn.ReLU()

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            """Logits."""
            logits: torch.Tensor = self.linear(self.other(self.one(self.conv(given[0]))).mean((2, 3)))
            return logits

    model, pictures = Twice().eval().requires_grad_(False), images(16, (3, 8, 8))
    graph = torch.fx.Graph()
    maps = graph.call_module("conv", (graph.placeholder("images"),))
    maps = graph.call_module("other", (graph.call_module("one", (maps,)),))
    graph.output(graph.call_module("linear", (graph.call_method("mean", (maps, (2, 3))),)))
    for given in (model, torch.fx.GraphModule(model, graph).eval()):
        for folding in (True, False):
            form = prepare(given, pictures, Numerics(fold=folding))
            assert isinstance(form, Faster)
            assert isinstance(form.model, torch.fx.GraphModule) or not folding
            assert torch.allclose(form(pictures), model(pictures), atol=1e-5)
