"""The recorder of activations, against torchvision's feature extraction, hooks and networks made to mislead it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from models_zoo.architectures.recording import recording


def record(network: nn.Module, images: torch.Tensor, classifier: str | None = None) -> dict[str, torch.Tensor]:
    """The activations of one pass."""
    found: dict[str, torch.Tensor] = {}
    with recording(network, found, classifier=None if classifier is None else network.get_parameter(classifier)):
        network(images)
    return found


@pytest.mark.parametrize(
    ("name", "layers"), [("resnet18", 17), ("shufflenet_v2_x0_5", 37), ("densenet121", 121), ("squeezenet1_1", 26)]
)
def test_names_and_values_are_those_of_feature_extraction(name: str, layers: int) -> None:
    """Feature extraction, which traces the graph, gives the same tensors under the same names.

    Shared modules that fire twice (`layer1.0.relu`, `layer1.0.relu_1`), functional calls (`relu` in DenseNet) and
    modules in sequences are among them.
    """
    network = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    images = torch.rand(2, 3, 40, 40)
    with torch.inference_mode():
        found = record(network, images)
        expected = create_feature_extractor(network, return_nodes={key: key for key in found})(images)
    assert len(found) == layers
    assert list(found) == list(expected)
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_what_comes_after_the_classifier_is_left_out() -> None:
    """SqueezeNet's classifier is a convolution with a ReLU behind it: those are class scores."""
    network = torchvision.models.squeezenet1_1(weights=None, num_classes=5).eval()
    with torch.inference_mode():
        every = record(network, torch.rand(2, 3, 40, 40))
        some = record(network, torch.rand(2, 3, 40, 40), "classifier.1.weight")
    assert list(every)[:-1] == list(some)
    assert every["classifier.2"].shape[1] == 5


SPELLINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": lambda x: x.relu(),
    "relu_1": lambda x: F.relu(x),
    "relu_2": lambda x: torch.relu(x),
    "relu_3": lambda x: x.clone().relu_(),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "silu": lambda x: F.silu(x, inplace=True),
    "hardswish": F.hardswish,
    "mish": F.mish,
    "elu": F.elu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "relu6": F.relu6,
    "hardtanh": lambda x: nn.ReLU6().forward(x),
    "softplus": F.softplus,
}


class Spelled(nn.Module):
    """Every way to write an activation, gates between them."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Activations of shifted copies, summed."""
        total = torch.zeros_like(maps)
        for name, function in SPELLINGS.items():
            total = total + function(maps - 0.5) * torch.sigmoid(maps) * F.hardsigmoid(maps) + len(name)
        return total.softmax(1).tanh()


def test_every_spelling_is_seen_once_and_gates_are_not() -> None:
    """Methods, functions, in-place forms; sigmoid, softmax and tanh are gates."""
    maps = torch.rand(2, 4, 3, 3)
    found = record(Spelled(), maps)
    assert list(found) == list(SPELLINGS)
    for name, function in SPELLINGS.items():
        assert torch.equal(found[name], function(maps - 0.5)), name


class Overwriting(nn.Module):
    """Writes into its activations after they have been used."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Each line but the first destroys what the one before gave."""
        maps = self.act(maps - 0.5)
        maps += 1
        maps = self.act(-maps.mul_(-2))
        maps[:, 0] = 7
        maps = self.act(maps.view(maps.shape[0], -1))
        return F.dropout(maps, 0.5, True, True)


@pytest.mark.parametrize("gradients", [False, True])
def test_what_is_recorded_is_not_overwritten(gradients: bool) -> None:
    """In-place operators, methods, assignments, through views, and dropout with its flag by position."""
    maps = torch.rand(2, 4, 3, 3, requires_grad=gradients)
    found = record(Overwriting(), maps)
    first = (maps - 0.5).clamp(min=0)
    second = 2 * (first + 1)
    third = second.clone()
    third[:, 0] = 7
    assert list(found) == ["act", "act_1", "act_2"]
    for mine, expected in zip(found.values(), (first, second, third.flatten(1)), strict=True):
        torch.testing.assert_close(mine, expected)
        assert mine.requires_grad == gradients


class Tokens(nn.Module):
    """An MLP on tokens, a gated one, one on channels-last maps with a normalisation inside, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(4, 10), nn.GELU())
        self.gated = nn.Linear(4, 12)
        self.maps = nn.Sequential(nn.Linear(4, 10), nn.LayerNorm(10), nn.GELU())
        self.conv = nn.Sequential(nn.Conv2d(4, 10, 1), nn.ReLU())
        self.flat = nn.Sequential(nn.Linear(4, 10), nn.ReLU())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps, n x 4 x h x w, through each."""
        last = maps.permute(0, 2, 3, 1)
        self.mlp(last.flatten(1, 2))
        F.silu(self.gated(last.flatten(1, 2)).chunk(2, -1)[0])
        self.maps(last)
        self.flat(maps.mean((2, 3)))
        result: torch.Tensor = self.conv(maps)
        return result


def test_units_are_the_second_axis() -> None:
    """Also where the network keeps them last; positions follow in their order."""
    network, maps = Tokens(), torch.rand(2, 4, 3, 5)
    found = record(network, maps)
    assert {name: tuple(item.shape) for name, item in found.items()} == {
        "mlp.1": (2, 10, 15),
        "silu": (2, 6, 15),
        "maps.2": (2, 10, 3, 5),
        "flat.1": (2, 10),
        "conv.1": (2, 10, 3, 5),
    }
    torch.testing.assert_close(found["mlp.1"][1, :, 7], network.mlp(maps[1, :, 1, 2]))
    torch.testing.assert_close(found["maps.2"][1, :, 1, 2], network.maps(maps[1, :, 1, 2]))


def test_hooks_are_gone_afterwards() -> None:
    """Nothing is left on the network, also when its pass fails; and nothing is recorded outside the block."""
    network = Overwriting()
    found: dict[str, torch.Tensor] = {}

    def broken() -> None:
        with recording(network, found):
            network(torch.rand(2, 4, 3, 3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in network.modules())
    before = {name: item.clone() for name, item in found.items()}
    network(torch.rand(2, 4, 3, 3))
    assert list(found) == list(before)
    assert all(torch.equal(found[name], before[name]) for name in found)
