"""`robustboard models fetch`: a package's own weights in the store; nothing is downloaded here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision

from models_zoo import pretrained
from tests.cli.plugin import Cli


def test_weights_of_a_package_become_a_model_of_the_store(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed with its card, found by name, the same after a second time."""
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr(pretrained, "fetch", lambda _url: tmp_path / "w.pth")
    name = "torchvision_squeezenet1_1.IMAGENET1K_V1.imagenet"
    for _ in range(2):
        answer = cli("models", "fetch", "torchvision:squeezenet1_1")
        assert answer.code == 0, answer
        assert f"added {name} (revision 1, 1,235,496 parameters)" in answer.err
    card = json.loads(cli("models", "show", name, "--json").out)
    assert card["architecture"] == "torchvision:squeezenet1_1"
    assert card["mean"] == [0.485, 0.456, 0.406]
    assert card["input_size"] == [224, 224]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "expected torchvision:NETWORK or timm:NETWORK"),
        ("torchvision:resnet_18", "did you mean 'resnet18'?"),
        ("torchvision:resnet18.V9", "unknown weights of torchvision:resnet18 'V9'"),
    ],
)
def test_wrong_names_leave_no_store(cli: Cli, tmp_path: Path, name: str, message: str) -> None:
    """One line, exit code 2."""
    answer = cli("models", "fetch", name)
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_architectures_name_the_packages(cli: Cli) -> None:
    """Without their members, which are more than a thousand."""
    lines = cli("models", "architectures").out.splitlines()
    assert {"wide_resnet28_10", "torchvision:NAME", "timm:NAME"} <= set(lines)
