"""Checkpoint intake: public layouts give the accuracy that they claim; misfits are refused with every reason."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.data import open_dataset
from harness.errors import CheckpointError
from models_zoo.adopt import Intake, adopt, take_in
from models_zoo.architectures import ARCHITECTURES
from models_zoo.checkpoints import StateDict, save_state_dict, weights_digest
from models_zoo.registry import get_card, load_model
from models_zoo.train import accuracy

RESNET = "resnet20.supervised.digits.s0"


def trained() -> StateDict:
    """The bundled residual network's weights."""
    return dict(load_model(RESNET).network.state_dict())


def without_counters(state: StateDict) -> StateDict:
    """As files of old versions of torch have it."""
    return {name: tensor for name, tensor in state.items() if "num_batches" not in name}


def parallel(state: StateDict) -> StateDict:
    """As a parallel module saves it."""
    return {f"module.{name}": tensor for name, tensor in state.items()}


def renamed(state: StateDict, *pairs: tuple[str, str]) -> StateDict:
    """With parts of names replaced."""
    for old, new in pairs:
        state = {name.replace(f"{old}.", f"{new}."): tensor for name, tensor in state.items()}
    return state


LAYOUTS: dict[str, tuple[str, bool, Callable[[StateDict], Any]]] = {
    "the CIFAR resnet20 files": (
        "a.th",
        False,
        lambda s: {"state_dict": parallel(without_counters(s)), "best_prec1": 99.0},
    ),
    "the 95 % CIFAR repositories": ("a.pth", True, lambda s: {"net": parallel(s), "acc": 99.0, "epoch": 7}),
    "torchvision's name of the classifier": ("a.pth", True, lambda s: renamed(s, ("linear", "fc"))),
    "a compiled module": ("a.ckpt", True, lambda s: {"model": {f"_orig_mod.{n}": t for n, t in s.items()}}),
    "a module in a module": ("a.pt", True, lambda s: {"state_dict": {f"model.backbone.{n}": t for n, t in s.items()}}),
    "plain weights": ("a.pt", True, lambda s: s),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_public_layouts_load_and_give_their_accuracy(tmp_path: Path, layout: str) -> None:
    """The same network out of each wrapping: the digest of its card, and its card's accuracy on all test digits."""
    name, zipped, wrap = LAYOUTS[layout]
    torch.save(wrap(trained()), tmp_path / name, _use_new_zipfile_serialization=zipped)
    card = get_card(RESNET)
    model = adopt("resnet20", tmp_path / name, mean=card.mean, std=card.std)
    assert model.card.weights_digest == card.weights_digest
    assert model.card.digest == card.digest
    data = open_dataset("digits", "test")
    assert card.training is not None
    assert accuracy(model, data.images(), data.labels) == pytest.approx(card.training.clean_accuracy, abs=1e-9)


def test_torchvision_names_of_resnet18_load(tmp_path: Path) -> None:
    """The network of torchvision with a stem for small images: its names are mapped, and its logits come out."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = resnet18(num_classes=10)
        theirs.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    theirs.maxpool = torch.nn.Identity()
    torch.save({"state_dict": parallel(theirs.state_dict())}, tmp_path / "a.pth")
    intake = take_in("resnet18", tmp_path / "a.pth", input_size=(32, 32), classes=10)
    assert intake.reasons == ()
    assert intake.checkpoint.renamed == (("fc", "linear"), ("downsample", "shortcut"))
    images = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(adopt("resnet18", intake)(images), theirs.eval()(images), atol=1e-5, rtol=1e-5)


def test_torchvision_files_load_into_the_package_s_network(tmp_path: Path) -> None:
    """The adapter takes torchvision's own names as they are, from a parallel module, too."""
    from torchvision.models import resnet18

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = resnet18(num_classes=7)
    torch.save({"state_dict": parallel(theirs.state_dict()), "best_acc1": 1.0}, tmp_path / "a.pth.tar.pth")
    intake = take_in("torchvision:resnet18", tmp_path / "a.pth.tar.pth", input_size=(64, 64), classes=7)
    assert intake.reasons == ()
    assert intake.checkpoint.renamed == ()
    model = adopt("torchvision:resnet18", intake, name="torchvision_resnet18.added.x")
    images = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model(images), theirs.eval()(images), atol=1e-5, rtol=1e-5)


def test_torchvision_resnet18_for_large_images_is_refused(tmp_path: Path) -> None:
    """Its stem has another shape: the names are mapped, and the one tensor is named."""
    from torchvision.models import resnet18

    torch.save(resnet18(num_classes=10).state_dict(), tmp_path / "a.pth")
    with pytest.raises(CheckpointError) as caught:
        adopt("resnet18", tmp_path / "a.pth")
    assert str(caught.value).endswith(
        "1 wrong shape or kind (conv1.weight float32[64, 3, 7, 7] instead of float32[64, 3, 3, 3])"
    )


def test_the_published_resnet18_gives_its_accuracy_on_photographs() -> None:
    """The checkpoint of pyautoattack on 200 of the CIFAR-10 photographs, where a data folder has them."""
    folder = Path(os.environ.get("ROBUSTBOARD_DATA", "data")) / "cifar10-jpeg"
    origin = find_spec("pyautoattack")
    if not (folder / "test").is_dir():
        pytest.skip("no folder cifar10-jpeg with images in the data folder")
    assert origin is not None
    assert origin.origin is not None
    path = Path(origin.origin).parent / "examples" / "model_test.pt"
    if not path.is_file():
        pytest.skip("pyautoattack is installed without its example")
    data = open_dataset("cifar10-jpeg", "test", folders={"cifar10-jpeg": folder})
    model = adopt("resnet18", path)
    right = accuracy(model, data.images(0, 200), data.labels[:200])
    # .87 is published for the original images; .856 was measured on 10,000 of their JPEG copies.
    assert right == pytest.approx(0.86, abs=0.06)


def test_every_reason_is_given_at_once(tmp_path: Path) -> None:
    """A file with all faults: missing, unexpected, misshapen, not finite, another number of classes."""
    state = dict(ARCHITECTURES.get("resnet20").build(12).state_dict())
    del state["bn1.weight"]
    state["stranger"] = torch.zeros(2)
    state["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    state["linear.bias"] = torch.full((12,), float("nan"))
    save_state_dict(state, tmp_path / "a.safetensors")
    intake = take_in("resnet20", tmp_path / "a.safetensors", classes=10)
    assert intake.reasons == (
        "1 missing (bn1.weight)",
        "1 unexpected (stranger)",
        "1 wrong shape or kind (conv1.weight float32[16, 3, 5, 5] instead of float32[16, 3, 3, 3])",
        "1 with NaN or infinity (linear.bias)",
        "12 classes instead of 10",
    )
    with pytest.raises(CheckpointError) as caught:
        intake.require()
    assert all(reason in str(caught.value) for reason in intake.reasons)
    with pytest.raises(CheckpointError, match="12 classes instead of 10"):
        adopt("resnet20", intake)


def test_a_network_is_not_touched_by_weights_that_do_not_fit(tmp_path: Path) -> None:
    """Weights with a single NaN leave the fresh network as it was built."""
    state = trained()
    state["bn1.bias"] = torch.full((16,), float("inf"))
    save_state_dict(state, tmp_path / "a.safetensors")
    intake = take_in("resnet20", tmp_path / "a.safetensors")
    assert isinstance(intake, Intake)
    fresh = ARCHITECTURES.get("resnet20").build(10)
    assert weights_digest(intake.network.state_dict()) == weights_digest(fresh.state_dict())


def test_a_classifier_that_tells_no_classes(tmp_path: Path) -> None:
    """A scalar in its place is a reason by name, not a crash."""
    state = trained()
    state["linear.weight"] = torch.tensor(1.0)
    save_state_dict(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"linear.weight float32\[\] instead of float32\[10, 64\]"):
        adopt("resnet20", tmp_path / "a.safetensors")


def test_a_pickle_of_python_objects_is_refused_whatever_its_suffix(tmp_path: Path) -> None:
    """Nothing but tensors and plain containers comes out of a pickle."""
    (tmp_path / "a.th").write_bytes(pickle.dumps({"state_dict": {"conv1.weight": Path("x")}}))
    with pytest.raises(CheckpointError, match="refused, nothing was executed"):
        take_in("resnet20", tmp_path / "a.th")
