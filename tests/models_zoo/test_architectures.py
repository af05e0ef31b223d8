"""The contract of every registered architecture, and known facts about each."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness.errors import InvalidArgument, UnknownName
from models_zoo import load_model
from models_zoo.adopt import count_parameters
from models_zoo.architectures import ARCHITECTURES
from models_zoo.architectures.base import Network
from models_zoo.cards import ModelCard
from models_zoo.model import ZooModel

LAYERS = {"small_cnn": (4, 176), "resnet20": (19, 688), "resnet18": (17, 3904)}
"""Recorded layers and units: stem and every ReLU of every block (the counts are those of He et al.'s networks)."""
PARAMETERS = {
    "small_cnn": 9 * (3 * 16 + 16 * 32 + 32 * 64 + 64 * 64) + 2 * (16 + 32 + 64 + 64) + 64 * 10 + 10,
    "resnet20": 269_722,
    "resnet18": 11_173_962,
}
"""Trainable weights for 10 classes: 0.27 million for resnet20 is in He et al., table 6."""


def network(name: str, classes: int = 10) -> Network:
    """A network with fresh weights and statistics of batch normalisation that are not the trivial ones."""
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


@pytest.mark.parametrize("classes", [2, 7])
def test_logits(name: str, classes: int) -> None:
    """One finite float32 logit a class, at the default size and the smallest, not square, size."""
    entry = ARCHITECTURES.get(name)
    for size in (entry.default_size, (entry.min_size, entry.min_size + 3)):
        with torch.inference_mode():
            logits = entry.build(classes, size).eval()(torch.rand(2, 3, *size))
        assert logits.shape == (2, classes)
        assert logits.dtype == torch.float32
        assert logits.isfinite().all()


def test_features(name: str) -> None:
    """Named layers with the known number of units, not negative, and the same logits with and without recording."""
    model = ZooModel(network(name), card(name)).eval()
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        logits, features = model.forward_with_features(images)
        assert torch.equal(logits, model(images))
    layers, units = LAYERS[name]
    assert len(features) == layers
    assert sum(maps.shape[1] for maps in features.values()) == units
    assert all(maps.shape[0] == 3 and maps.ndim == 4 and bool((maps >= 0).all()) for maps in features.values())
    assert list(features) == list(model.features(images))


def test_recorded_features_are_not_overwritten(name: str) -> None:
    """What is recorded is what the next layer read: the last layer's maps give the logits, and each ReLU has worked."""
    built = network(name)
    record: dict[str, torch.Tensor] = {}
    seen: list[torch.Tensor] = []
    built.get_submodule("conv1").register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    with torch.inference_mode():
        logits = built.run(torch.rand(2, 3, 32, 32), record)
        first = F.relu(built.get_submodule("bn1")(seen[0]))
        torch.testing.assert_close(next(iter(record.values())), first)
        last = list(record.values())[-1]
        torch.testing.assert_close(built.get_submodule("linear")(last.mean((2, 3))), logits)


def test_images_are_independent_in_eval_mode(name: str) -> None:
    """An image's logits do not depend on its neighbours, beyond rounding."""
    model = ZooModel(network(name), card(name)).eval()
    images = torch.rand(20, 3, 32, 32)
    with torch.inference_mode():
        together, alone = model(images), torch.cat([model(images[i : i + 1]) for i in range(4)])
        other = model(torch.cat([images[:4], torch.rand(16, 3, 32, 32)]))
    torch.testing.assert_close(together[:4], alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together[:4], other[:4], atol=1e-5, rtol=1e-5)


def test_normalisation_is_inside(name: str) -> None:
    """The model subtracts and divides by its card's numbers, which are no part of its state."""
    model = ZooModel(network(name), card(name)).eval()
    images = torch.rand(2, 3, 32, 32)
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
