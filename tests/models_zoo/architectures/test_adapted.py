"""Networks of torchvision and timm in our contract: logits, features, names of weights, versions, refusals."""

from __future__ import annotations

import copy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from harness.attacks.speed import fold
from harness.errors import InvalidArgument, MissingDependency, UnknownName
from models_zoo.adopt import adopt
from models_zoo.architectures import ARCHITECTURES, Architectures
from models_zoo.architectures.adapted import AdaptedNetwork, adapt, find_classifier
from models_zoo.architectures.base import Network
from models_zoo.checkpoints import save_state_dict, weights_digest
from models_zoo.registry import load_from_card, load_model

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")

NETWORKS = {
    # name: (side, layers, classifier, a layer, its units)
    "torchvision:resnet18": (32, 17, "fc.weight", "layer1.0.relu_1", 64),
    "torchvision:mobilenet_v3_small": (32, 33, "classifier.3.weight", "classifier.1", 1024),
    "torchvision:regnet_y_400mf": (32, 65, "fc.weight", "stem.2", 32),
    "tiny vit": (32, 2, "heads.head.weight", "encoder.layers.encoder_layer_0.mlp.1", 48),
    "tiny convnext": (32, 2, "classifier.2.weight", "features.1.0.block.4", 32),
    "timm:resnet10t": (32, 11, "fc.weight", "layer1.0.act1", 64),
    "timm:vit_tiny_patch16_224": (32, 12, "head.weight", "blocks.0.mlp.act", 768),
}


CASES = [pytest.param(name, marks=[needs_timm] if name.startswith("timm") else []) for name in NETWORKS]


def make(classes: int, name: str) -> nn.Module:
    """Small networks of torchvision's larger families."""
    if name == "tiny vit":
        network: nn.Module = torchvision.models.VisionTransformer(32, 8, 2, 2, 24, 48, num_classes=classes)
    else:
        block = torchvision.models.convnext.CNBlockConfig
        network = torchvision.models.ConvNeXt([block(8, 16, 1), block(16, None, 1)], num_classes=classes)
    return network


def build(name: str, seed: int = 0) -> Network:
    """One of `NETWORKS`, in eval mode, for seven classes."""
    side = NETWORKS[name][0]
    if ":" in name:
        return ARCHITECTURES.get(name).build(7, (side, side), seed=seed).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = find_classifier(lambda classes: make(classes, name))
        return adapt(lambda classes, _size: make(classes, name), classifier, 7, (side, side)).eval()


@pytest.fixture(scope="module", params=CASES)
def adapted(request: pytest.FixtureRequest) -> tuple[str, AdaptedNetwork]:
    """A network with fresh weights for seven classes."""
    network = build(str(request.param))
    assert isinstance(network, AdaptedNetwork)
    return str(request.param), network


def test_the_network_keeps_the_contract(adapted: tuple[str, AdaptedNetwork]) -> None:
    """Logits with and without recording, with and without gradients; named features with units on the second axis."""
    name, network = adapted
    side, layers, classifier, layer, units = NETWORKS[name]
    images = torch.rand(3, 3, side, side)
    record: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        logits = network.run(images, record)
        assert torch.equal(network(images), logits)
    assert logits.shape == (3, 7)
    assert torch.equal(network(images.requires_grad_()).detach(), logits)
    assert len(record) == layers
    assert network.classifier == classifier
    assert record[layer].shape[:2] == (3, units)
    assert all(maps.shape[0] == 3 for maps in record.values())


def test_features_are_what_hooks_see(adapted: tuple[str, AdaptedNetwork]) -> None:
    """Each activation module's outputs, copied by a hook, are the recorded ones (units moved where they are last)."""
    name, network = adapted
    side = NETWORKS[name][0]
    kinds = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish)
    modules = {path: module for path, module in network.inner.named_modules() if isinstance(module, kinds)}
    seen: dict[str, list[torch.Tensor]] = {path: [] for path in modules}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, path=path: seen[path].append(output.clone()))
        for path, module in modules.items()
    ]
    record: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        network.run(torch.rand(2, 3, side, side), record)
    for hook in hooks:
        hook.remove()
    assert len(record) == sum(map(len, seen.values()))
    for path, outputs in seen.items():
        for count, output in enumerate(outputs):
            maps = record[f"{path}_{count}" if count else path]
            assert torch.equal(maps, output) or torch.equal(maps, output.movedim(-1, 1))


def test_images_are_independent_and_one_is_enough(adapted: tuple[str, AdaptedNetwork]) -> None:
    """An image's logits do not depend on its neighbours; a lone image has the same layers."""
    name, network = adapted
    side = NETWORKS[name][0]
    images = torch.rand(4, 3, side, side)
    together: dict[str, torch.Tensor] = {}
    alone: dict[str, torch.Tensor] = {}
    with torch.inference_mode():
        torch.testing.assert_close(
            network.run(images, together)[:1], network.run(images[:1], alone), atol=1e-4, rtol=1e-3
        )
    assert list(alone) == list(together)


def test_weights_have_the_packages_names_and_survive(adapted: tuple[str, AdaptedNetwork]) -> None:
    """A state dict of the package fits as it is, inside and outside of another module; copies work."""
    name, network = adapted
    side = NETWORKS[name][0]
    state = network.state_dict()
    assert list(state) == list(network.inner.state_dict())
    other = build(name, seed=1)
    assert weights_digest(other.state_dict()) != weights_digest(state)
    wrapped = nn.ModuleDict({"network": other})
    wrapped.load_state_dict({f"network.{key}": value for key, value in state.items()})
    assert weights_digest(other.state_dict()) == weights_digest(state)
    copied = copy.deepcopy(other)
    copied.load_state_dict(state)
    images = torch.rand(2, 3, side, side)
    with torch.inference_mode():
        assert torch.equal(copied(images), network(images))
        assert torch.equal(other(images), network(images))


def test_a_checkpoint_of_torchvision_is_adopted_and_loaded_from_its_card(tmp_path: Path) -> None:
    """Classes are read off the classifier, logits are the package's, the version has the package's version."""
    theirs = torchvision.models.resnet18(weights=None, num_classes=6).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "r.pth")
    model = adopt("torchvision:resnet18", tmp_path / "r.pth", name="torchvision_resnet18.public.photos")
    assert model.card.classes == 6
    assert model.card.architecture == "torchvision:resnet18"
    assert model.card.architecture_version == f"1+torchvision-{torchvision.__version__.partition('+')[0]}"
    save_state_dict(model.network.state_dict(), tmp_path / "w.safetensors")
    again = load_from_card(model.card, tmp_path / "w.safetensors")
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model(images), theirs(images))
        assert torch.equal(again(images), theirs(images))


def test_batch_norms_fold_in_an_adapted_network() -> None:
    """The attack engine's fast form traces through the adapter."""
    network = ARCHITECTURES.get("torchvision:resnet18").build(7, (32, 32)).eval()
    folded = fold(network)
    assert folded is not None
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(folded(images), network(images), atol=1e-4, rtol=1e-4)


class Positions(nn.Module):
    """A table of relative positions goes through an activation: it is no feature of the images."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.table = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        self.mix = nn.Linear(3, 3)
        self.act = nn.ReLU()
        self.head = nn.Linear(3, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Channel means plus the table's sum."""
        shift = self.table(torch.ones(1, 2)).sum()
        logits: torch.Tensor = self.head(self.act(self.mix(images.mean((2, 3)) + shift)))
        return logits


def test_layers_without_an_image_axis_are_left_out() -> None:
    """Also for a single image, when the table has as many rows as the batch."""
    network = AdaptedNetwork(Positions(), "head.weight", 7, (8, 8))
    for count in (1, 4):
        record: dict[str, torch.Tensor] = {}
        network.run(torch.rand(count, 3, 8, 8), record)
        assert list(record) == ["act"]


def test_training_mode_gives_the_main_logits() -> None:
    """GoogLeNet has auxiliary heads in train mode; their layers are not recorded."""
    network = ARCHITECTURES.get("torchvision:googlenet").build(7, (64, 64))
    assert network.training
    record: dict[str, torch.Tensor] = {}
    assert network.run(torch.rand(2, 3, 64, 64), record).shape == (2, 7)
    assert len(record) == 57
    assert not [name for name in record if name.startswith("aux")]


def test_attention_keeps_to_one_implementation_and_puts_the_switch_back() -> None:
    """PyTorch's second implementation, taken without gradients only, would give other bits; the switch is global."""
    network = build("tiny vit")
    seen: list[bool] = []
    attention = next(module for module in network.modules() if isinstance(module, nn.MultiheadAttention))
    attention.register_forward_pre_hook(lambda *_: seen.append(torch.backends.mha.get_fastpath_enabled()))
    with torch.inference_mode():
        network(torch.rand(1, 3, 32, 32))
    assert seen == [False]
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_network_that_is_no_classifier_is_refused() -> None:
    """Wrong number of logits, another size than the network takes, no classifier at all."""
    with pytest.raises(
        InvalidArgument, match=r"architecture: got \(3, 7\), expected a network that gives 3 x 9 logits"
    ):
        AdaptedNetwork(Positions(), "head.weight", 9, (8, 8))
    with pytest.raises(InvalidArgument, match="no classifier"):
        find_classifier(lambda _classes: nn.Conv2d(3, 3, 1))
    with pytest.raises(InvalidArgument, match="input_size"):
        ARCHITECTURES.get("torchvision:vit_b_32").build(7, (40, 40))


def test_unknown_names_are_refused_with_the_nearest() -> None:
    """Package, network, and a network that is a detector."""
    with pytest.raises(UnknownName, match="unknown package 'torchvison'; did you mean 'torchvision'"):
        ARCHITECTURES.get("torchvison:resnet18")
    with pytest.raises(UnknownName, match="unknown torchvision network 'resnet_18'; did you mean 'resnet18'"):
        ARCHITECTURES.get("torchvision:resnet_18")
    with pytest.raises(UnknownName, match="unknown torchvision network 'fasterrcnn_resnet50_fpn'"):
        ARCHITECTURES.get("torchvision:fasterrcnn_resnet50_fpn")
    assert "torchvison:resnet18" not in ARCHITECTURES
    assert "torchvision:resnet18" in ARCHITECTURES
    assert 18 not in ARCHITECTURES


@needs_timm
def test_unknown_timm_network_offers_the_nearest() -> None:
    """The package has more than a thousand."""
    with pytest.raises(UnknownName, match="unknown timm network 'resnet_18'; did you mean 'resnet18'"):
        ARCHITECTURES.get("timm:resnet_18")


def test_without_timm_the_message_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is an extra."""
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingDependency, match=r"pip install 'robustboard\[timm\]'"):
        Architectures().get("timm:resnet18")


def test_listing_imports_no_package() -> None:
    """Names of models and architectures are there without torch, torchvision or timm."""
    code = (
        "import sys; from models_zoo import list_models; from models_zoo.architectures import ARCHITECTURES;"
        "assert list_models() and ARCHITECTURES.names() and 'torchvision:resnet18' in ARCHITECTURES;"
        "print(sorted({'torch', 'torchvision', 'timm'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_registered_architecture_wants_weights() -> None:
    """Only packages have weights of their own."""
    with pytest.raises(InvalidArgument, match="weights"):
        load_model("resnet56")
