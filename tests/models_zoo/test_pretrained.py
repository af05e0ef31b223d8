"""Weights that packages offer: cards, cache, digests and refusals. Nothing is downloaded here."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from harness.errors import CheckpointError, UnknownName
from models_zoo import load_model, pretrained
from models_zoo.checkpoints import save_state_dict
from models_zoo.registry import load_from_card

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's downloads."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def offer(network: nn.Module, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Stand `network`'s weights, in the names that DenseNet's old file has, in for any that are asked for."""
    state = {
        re.sub(r"(denselayer\d+\.)(norm|conv)([12])\.", r"\1\2.\3.", name): tensor
        for name, tensor in network.state_dict().items()
    }
    torch.save(state, path)
    monkeypatch.setattr(pretrained, "fetch", lambda _url: path)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("squeezenet1_1", "IMAGENET1K_V1"), ("densenet121", "IMAGENET1K_V1"), ("googlenet", "IMAGENET1K_V1")],
)
def test_torchvision_weights_compute_what_torchvision_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, weights: str
) -> None:
    """Pixels in, the package's logits out: its normalisation is inside, and GoogLeNet's own second one too."""
    options = {"init_weights": False} if name == "googlenet" else {}
    theirs = torchvision.models.get_model(name, weights=None, **options).eval()
    offer(theirs, monkeypatch, tmp_path / "w.pth")
    model = load_model(f"torchvision:{name}")
    theirs.transform_input = True  # what the package sets where it loads these weights
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(images), theirs((images - MEAN) / STD), atol=1e-5, rtol=1e-4)
    assert model.card.name == f"torchvision_{name}.{weights}.imagenet"
    assert model.card.architecture == f"torchvision:{name}"
    assert (model.card.dataset, model.card.classes, model.card.input_size) == ("imagenet", 1000, (224, 224))
    assert not model.training
    if name != "squeezenet1_1":
        return  # the way back is the same for all, and the others are slow
    save_state_dict(model.network.state_dict(), tmp_path / "again.safetensors")
    with torch.inference_mode():
        assert torch.equal(load_from_card(model.card, tmp_path / "again.safetensors")(images), model(images))


def test_weights_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tag after the dot; the default is the package's; an unknown one is refused with those that exist."""
    asked: list[str] = []
    network = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save(network.state_dict(), tmp_path / "w.pth")

    def fetch(url: str) -> Path:
        asked.append(url)
        return tmp_path / "w.pth"

    monkeypatch.setattr(pretrained, "fetch", fetch)
    card = load_model("torchvision:mobilenet_v3_small.IMAGENET1K_V1").card
    assert card.recipe == "IMAGENET1K_V1"
    assert asked == [torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.url]
    with pytest.raises(UnknownName, match="unknown weights of torchvision:resnet50 'IMAGENET1K_V3'; did you mean"):
        load_model("torchvision:resnet50.IMAGENET1K_V3")


def test_a_file_is_taken_from_the_cache_and_checked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest in its name must be that of its bytes, also when it lies there already."""
    content = b"weights"
    good = f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (cache / good).write_bytes(content)
    assert pretrained.fetch(f"https://example.org/models/{good}") == cache / good
    (cache / "net-01234567.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"net-01234567.pth has not the SHA-256 01234567.* delete it"):
        pretrained.fetch("https://example.org/models/net-01234567.pth")


def test_a_file_is_downloaded_once(cache: Path, tmp_path: Path) -> None:
    """From a URL into the cache; a wrong digest leaves nothing behind."""
    content = b"weights"
    source = tmp_path / f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    source.write_bytes(content)
    fetched = pretrained.fetch(source.as_uri())
    source.unlink()
    assert pretrained.fetch(source.as_uri()) == fetched == cache / source.name
    assert fetched.read_bytes() == content
    wrong = tmp_path / "net-01234567.pth"
    wrong.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        pretrained.fetch(wrong.as_uri())
    assert [path.name for path in cache.iterdir()] == [source.name]


def test_without_a_network_the_message_names_url_and_cache(cache: Path, tmp_path: Path) -> None:
    """What to fetch and where to put it."""
    url = (tmp_path / "nowhere" / "net-01234567.pth").as_uri()
    with pytest.raises(CheckpointError) as caught:
        pretrained.fetch(url)
    assert url in str(caught.value)
    assert str(cache) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_timm_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean, deviation, size and licence come from the tag's metadata; without a network the URL and cache are named."""
    timm: Any = pytest.importorskip("timm")
    made = timm.create_model("mobilenetv3_small_050").eval()
    asked: list[str] = []

    def create(name: str, *, pretrained: bool = False, **options: int) -> nn.Module:
        if not pretrained:
            network: nn.Module = real(name, **options)
            return network
        asked.append(name)
        if not name.endswith("lamb_in1k"):
            raise OSError("no network")
        weights: nn.Module = made
        return weights

    real = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    model = load_model("timm:mobilenetv3_small_050")
    config = timm.get_pretrained_cfg("mobilenetv3_small_050.lamb_in1k")
    assert asked == ["mobilenetv3_small_050.lamb_in1k"]
    assert model.card.name == "timm_mobilenetv3_small_050.lamb_in1k.imagenet"
    assert (model.card.mean, model.card.std) == (config.mean, config.std)
    assert model.card.licence == config.license
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    with torch.inference_mode():
        torch.testing.assert_close(model(images), made((images - mean) / std))
    with pytest.raises(CheckpointError, match=r"https://huggingface.co/timm/resnet10t.c3_in1k cannot .* put the file"):
        load_model("timm:resnet10t")
    with pytest.raises(UnknownName, match="unknown weights of timm:resnet10t 'nothing'"):
        load_model("timm:resnet10t.nothing")
