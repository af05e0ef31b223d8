"""The contract of every registered architecture, and known facts about each."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from harness.errors import InvalidArgument, UnknownName
from models_zoo import load_model
from models_zoo.adopt import count_parameters
from models_zoo.architectures import ARCHITECTURES
from models_zoo.architectures.base import Network
from models_zoo.architectures.recording import recording
from models_zoo.cards import ModelCard
from models_zoo.checkpoints import weights_digest
from models_zoo.model import ZooModel

LAYERS = {
    "small_cnn": (4, 176),
    "resnet20": (19, 16 + 6 * (16 + 32 + 64)),
    "resnet32": (31, 16 + 10 * (16 + 32 + 64)),
    "resnet44": (43, 16 + 14 * (16 + 32 + 64)),
    "resnet56": (55, 16 + 18 * (16 + 32 + 64)),
    "resnet18": (17, 3904),
    "wide_resnet28_10": (25, 16 + 160 + 6 * 160 + 160 + 320 + 6 * 320 + 320 + 640 + 6 * 640 + 640),
}
"""Recorded layers and units: stem and every ReLU of every block (the counts are those of the papers' tables)."""
PARAMETERS = {
    "small_cnn": 9 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 64) + 2 * (16 + 32 + 64 + 64) + 64 * 10 + 10,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet18": 11_173_962,
    "wide_resnet28_10": 36_479_194,
}
"""Trainable weights for 10 classes."""
PUBLISHED = {"resnet20": 0.27, "resnet32": 0.46, "resnet44": 0.66, "resnet56": 0.85, "wide_resnet28_10": 36.5}
"""Millions: He et al., CVPR 2016, table 6; Zagoruyko and Komodakis, BMVC 2016."""
SIZE = (16, 16)
"""Of images in these tests: small, since there are large networks among the registered ones."""


@functools.cache
def network(name: str, classes: int = 10) -> Network:
    """A network with fresh weights and statistics of batch normalisation that are not the trivial ones; not changed."""
    built = ARCHITECTURES.get(name).build(classes)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]  # buffers are typed as optional
            nn.init.uniform_(module.running_var, 0.8, 1.2)  # type: ignore[arg-type]
    return built.eval()


def card(architecture: str, **changes: object) -> ModelCard:
    """A card for fresh weights."""
    values = {
        "name": f"{architecture}.fresh.none",
        "architecture": architecture,
        "architecture_version": "1",
        "family": "none",
        "dataset": "none",
        "classes": 10,
        "input_size": [32, 32],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "weights_digest": "0" * 64,
        "recipe": "none",
        "parameters": 0,
        "licence": "none",
        "citation": "none",
        "description": "",
    }
    return ModelCard.from_dict(values | changes)


@pytest.fixture(params=ARCHITECTURES.names())
def name(request: pytest.FixtureRequest) -> str:
    """Each registered architecture."""
    return str(request.param)


def test_every_architecture_has_its_facts(name: str) -> None:
    """An architecture is called as it is registered, and whoever registers one states its size here."""
    assert ARCHITECTURES.get(name).name == name
    assert count_parameters(network(name)) == PARAMETERS[name]
    assert ARCHITECTURES.get(name).classifier in network(name).state_dict()


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_parameters_are_the_published_ones(name: str, millions: float) -> None:
    """The papers' tables, to the digits that they print."""
    digits = 2 if millions < 1 else 1
    assert round(PARAMETERS[name] / 1e6, digits) == millions


@pytest.mark.parametrize("classes", [2, 7])
def test_logits(name: str, classes: int) -> None:
    """One finite float32 logit a class, at the default size and the smallest, not square, size."""
    entry = ARCHITECTURES.get(name)
    built = network(name, classes)
    for size in (entry.default_size, (entry.min_size, entry.min_size + 3)):
        with torch.inference_mode():
            logits = built(torch.rand(1, 3, *size))
        assert logits.shape == (1, classes)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


def test_features(name: str) -> None:
    """Named layers with the known number of units, not negative, and the same logits with and without recording."""
    model = ZooModel(network(name), card(name)).eval()
    images = torch.rand(3, 3, *SIZE)
    with torch.inference_mode():
        logits, features = model.forward_with_features(images)
        assert torch.equal(logits, model(images))
    layers, units = LAYERS[name]
    assert len(features) == layers
    assert sum(maps.shape[1] for maps in features.values()) == units
    assert all(maps.shape[0] == 3 and maps.ndim == 4 and bool((maps >= 0).all()) for maps in features.values())
    assert list(features) == list(model.features(images))


class Watch(TorchFunctionMode):
    """Copies what each ReLU gives at the moment it gives it, before anything can write over it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The call itself, its result copied if it is a ReLU."""
        result = func(*args, **(kwargs or {}))
        if func in (F.relu, torch.relu, torch.relu_):
            self.seen.append(result.clone())
        return result


def test_recorded_features_are_what_each_relu_gave(name: str) -> None:
    """Every ReLU of the pass, in order and never overwritten; the last layer's maps give the logits."""
    built = network(name)
    record: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        with Watch() as watch:
            logits = built.run(torch.rand(2, 3, *SIZE), record)
        assert len(watch.seen) == len(record)
        assert all(torch.equal(mine, seen) for mine, seen in zip(record.values(), watch.seen, strict=True))
        last = list(record.values())[-1]
        head = built.get_submodule(ARCHITECTURES.get(name).classifier.rpartition(".")[0])
        torch.testing.assert_close(head(last.mean((2, 3))), logits)


def test_the_recorder_of_foreign_networks_agrees(name: str) -> None:
    """What `recording` finds in any network is what the network says itself."""
    built = network(name)
    images = torch.rand(2, 3, *SIZE)
    own: dict[str, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        built.run(images, own)
        with recording(built, found):
            built(images)
    assert len(found) == len(own)
    assert all(torch.equal(mine, other) for mine, other in zip(own.values(), found.values(), strict=True))


def test_weights_survive_the_round_trip(name: str) -> None:
    """A state dict makes the same network of another one: same logits, same digest; inside the model as well."""
    built, other = network(name), ARCHITECTURES.get(name).build(10, seed=1).eval()
    images = torch.rand(2, 3, *SIZE)
    assert weights_digest(other.state_dict()) != weights_digest(built.state_dict())
    other.load_state_dict(built.state_dict())
    assert weights_digest(other.state_dict()) == weights_digest(built.state_dict())
    model = ZooModel(other, card(name)).eval()
    model.load_state_dict({f"network.{key}": value for key, value in built.state_dict().items()})
    with torch.inference_mode():
        assert torch.equal(model.network(images), built(images))


def test_images_are_independent_in_eval_mode(name: str) -> None:
    """An image's logits do not depend on its neighbours, beyond rounding."""
    model = ZooModel(network(name), card(name)).eval()
    images = torch.rand(20, 3, *SIZE)
    with torch.inference_mode():
        together, alone = model(images), torch.cat([model(images[i : i + 1]) for i in range(4)])
        other = model(torch.cat([images[:4], torch.rand(16, 3, *SIZE)]))
    torch.testing.assert_close(together[:4], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[:4], other[:4], atol=1e-5, rtol=1e-5)


def test_normalisation_is_inside(name: str) -> None:
    """The model subtracts and divides by its card's numbers, which are no part of its state."""
    model = ZooModel(network(name), card(name)).eval()
    images = torch.rand(2, 3, *SIZE)
    by_hand = torch.stack([(images[:, c] - m) / s for c, (m, s) in enumerate([(0.5, 0.2), (0.4, 0.3), (0.3, 0.4)])], 1)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), model.network(by_hand))
    assert all(key.startswith("network.") for key in model.state_dict())


def test_bad_sizes_are_refused(name: str) -> None:
    """Too small images and a single class are refused by name."""
    entry = ARCHITECTURES.get(name)
    with pytest.raises(InvalidArgument, match="input_size"):
        entry.build(10, (entry.min_size - 1, 32))
    with pytest.raises(InvalidArgument, match="classes"):
        entry.build(1)


def test_building_leaves_the_global_random_state(name: str) -> None:
    """Same seed, same weights; another seed, others; and torch's own state is untouched."""
    entry = ARCHITECTURES.get(name)
    before = torch.random.get_rng_state()
    weights = [entry.build(10, seed=seed).state_dict()["conv1.weight"] for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def batch_norm(maps: torch.Tensor, state: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """Batch normalisation in eval mode, from its definition."""
    mean, var, weight, bias = (
        state[f"{name}.{item}"].view(1, -1, 1, 1) for item in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / (var + 1e-5).sqrt() * weight + bias


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_cifar_resnets_compute_what_the_paper_says(depth: int) -> None:
    """Section 4.2 of He et al. restated on the plain weights: 3x3 convolutions, option A, mean, linear."""
    built = network(f"resnet{depth}")
    state, images = built.state_dict(), torch.rand(2, 3, *SIZE)
    maps = F.conv2d(images, state["conv1.weight"], padding=1)
    maps = batch_norm(maps, state, "bn1").clamp(min=0)
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            inner = F.conv2d(maps, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = batch_norm(inner, state, f"{name}.bn1").clamp(min=0)
            inner = batch_norm(F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1), state, f"{name}.bn2")
            if stride == 2:
                zeros = torch.zeros(2, maps.shape[1] // 2, *inner.shape[2:])
                maps = torch.cat([zeros, maps[:, :, ::2, ::2], zeros], 1)
            maps = (maps + inner).clamp(min=0)
    logits = maps.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(built(images), logits, atol=1e-4, rtol=1e-4)


def test_wide_resnet_computes_what_the_published_code_does() -> None:
    """The pre-activation block on the plain weights; the shortcut's convolution takes what the first ReLU gave."""
    built = network("wide_resnet28_10")
    state, images = built.state_dict(), torch.rand(2, 3, 8, 8)
    maps = F.conv2d(images, state["conv1.weight"], padding=1)
    for group in (1, 2, 3):
        for block in range(4):
            name = f"block{group}.layer.{block}"
            stride = 2 if group > 1 and block == 0 else 1
            first = batch_norm(maps, state, f"{name}.bn1").clamp(min=0)
            inner = F.conv2d(first, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            inner = batch_norm(inner, state, f"{name}.bn2").clamp(min=0)
            inner = F.conv2d(inner, state[f"{name}.conv2.weight"], padding=1)
            shortcut = state.get(f"{name}.convShortcut.weight")
            assert (shortcut is None) == (block > 0)
            maps = inner + (maps if shortcut is None else F.conv2d(first, shortcut, stride=stride))
    logits = batch_norm(maps, state, "bn1").clamp(min=0).mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    with torch.inference_mode():
        torch.testing.assert_close(built(images), logits, atol=1e-4, rtol=1e-4)


def test_unknown_architecture_offers_the_nearest() -> None:
    """A slip of the finger gets the right name."""
    with pytest.raises(UnknownName, match="did you mean 'resnet18'"):
        ARCHITECTURES.get("resnet_18")


def test_resnet20_shortcuts_have_no_weights() -> None:
    """Option A: every second pixel, zeros around the old maps."""
    built = network("resnet20")
    assert not [key for key in built.state_dict() if "shortcut" in key]
    maps = torch.rand(1, 16, 4, 4)
    wide = built.get_submodule("layer2.0.shortcut")(maps)
    assert wide.shape == (1, 32, 2, 2)
    assert torch.equal(wide[:, 8:24], maps[:, :, ::2, ::2])
    assert float(wide[:, :8].abs().sum() + wide[:, 24:].abs().sum()) == 0.0
    names = {key.rpartition(".")[0] for key in built.state_dict()}
    assert {"conv1", "bn1", "linear", "layer3.2.conv1", "layer3.2.bn2"} <= names


def test_resnet18_is_the_published_network() -> None:
    """The checkpoint that pyautoattack carries loads strictly and gives the logits of the network it came with."""
    origin = find_spec("pyautoattack")
    assert origin is not None
    assert origin.origin is not None
    folder = Path(origin.origin).parent / "examples"
    spec = spec_from_file_location("published_resnet", folder / "resnet.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules["published_resnet"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["published_resnet"]
    published = module.ResNet18()
    published.load_state_dict(torch.load(folder / "model_test.pt", map_location="cpu", weights_only=True))
    model = load_model("resnet18", weights=folder / "model_test.pt")
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model(images), published.eval()(images), atol=1e-5, rtol=1e-5)
    assert model.card.classes == 10
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
