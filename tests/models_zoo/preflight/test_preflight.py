"""The pre-flight: bundled models trip nothing, and for each check there is a checkpoint that trips it."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.cli.run import QUICKSTART
from harness.data import ArrayDataset, Dataset, open_dataset
from harness.errors import CheckpointError, InvalidArgument, ModelError, UnknownName
from models_zoo.architectures import ARCHITECTURES
from models_zoo.architectures.base import Network
from models_zoo.checkpoints import StateDict, save_state_dict
from models_zoo.preflight import Report
from models_zoo.preflight import costs as timing
from models_zoo.preflight.driver import accuracy, suggested_name
from models_zoo.registry import bundled_weights, get_card, load_model
from tests.models_zoo.preflight.conftest import CARD, SUPERVISED, WEIGHTS, Check, Twist

CHECKS = (
    "checkpoint", "fit", "statistics", "input", "classes", "accuracy", "output", "modes", "determinism", "batches",
    "speed", "cost",
)  # fmt: skip


def state() -> StateDict:
    """The bundled weights, to be changed."""
    return {name: tensor.clone() for name, tensor in load_model(SUPERVISED).network.state_dict().items()}


def saved(folder: Path, changes: StateDict) -> Path:
    """The bundled weights with changes, in a file."""
    path = folder / "changed.safetensors"
    save_state_dict(state() | changes, path)
    return path


def levels(report: Report) -> dict[str, str]:
    """Check -> level, of those that are not ok."""
    return {finding.check: finding.level for finding in report.findings if finding.level != "ok"}


def found(report: Report, check: str) -> Any:
    """The finding of a check that has to be there."""
    finding = report.finding(check)
    assert finding is not None
    return finding


@pytest.mark.parametrize("name", [*QUICKSTART, "resnet20.supervised.digits.s0"])
def test_bundled_models_trip_nothing(check: Check, name: str) -> None:
    """Every check is ok with the card's normalisation; the accuracy is that of a plain pass over the same images."""
    card = get_card(name)
    assert card.training is not None
    claim = card.training.clean_accuracy
    report = check(bundled_weights(name), card.architecture, given=(card.mean, card.std), images=100, claim=claim)
    assert levels(report) == {}
    assert tuple(finding.check for finding in report.findings) == CHECKS
    data = open_dataset("digits", "test")
    pixels = torch.from_numpy(np.array(data.images(0, 100))).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        right = load_model(name)(pixels).argmax(dim=1).numpy() == data.labels[:100]
    assert found(report, "accuracy").facts["right"] == right.sum()
    assert found(report, "fit").facts["weights_digest"] == card.weights_digest
    assert found(report, "input").facts["chosen"] == "as given"


def test_text_and_json_have_the_same_facts(check: Check) -> None:
    """Plain data without NaN, a finding a check, and the command that adds what was checked."""
    report = check()
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert [item["check"] for item in values["findings"]] == list(CHECKS)
    assert values["passed"] is True
    assert values["add"].startswith("robustboard models add small_cnn.added.digits --arch small_cnn --weights ")
    assert values["add"].endswith("--dataset digits --mean 0.3053,0.3053,0.3053 --std 0.3238,0.3238,0.3238")
    for item, finding in zip(values["findings"], report.findings, strict=True):
        assert item["found"] == finding.found
        assert "\n" not in finding.found


def wrong_files(folder: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """What must be refused: name, file, what the report must say."""
    state_12 = ARCHITECTURES.get("small_cnn").build(12).state_dict()
    torch.save({"state_dict": state_12}, folder / "classes.pt")
    yield "classes", folder / "classes.pt", ("12 classes instead of 10",)
    bad = state()
    bad["bn2.bias"][3] = torch.nan
    torch.save(bad, folder / "nan.pt")
    yield "nan", folder / "nan.pt", ("1 with NaN or infinity (bn2.bias)",)
    other = bundled_weights("resnet20.supervised.digits.s0")
    yield "architecture", other, ("15 missing (conv2.weight", "unexpected (layer1.0")
    data = WEIGHTS.read_bytes()
    (folder / "cut.safetensors").write_bytes(data[: len(data) // 2])
    yield "cut", folder / "cut.safetensors", ("not a readable safetensors file",)
    torch.save(state(), folder / "whole.pt")
    (folder / "cut.pt").write_bytes((folder / "whole.pt").read_bytes()[:-2000])
    yield "cut archive", folder / "cut.pt", ("not a readable checkpoint",)
    (folder / "bomb.pth").write_bytes(pickle.dumps(_Bomb(folder / "executed")))
    yield "bomb", folder / "bomb.pth", ("refused, nothing was executed",)


class _Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.target,)


def test_files_that_cannot_be_added_end_the_checks(check: Check, tmp_path: Path) -> None:
    """Each is a problem with its reasons; no later check runs, no command is given, nothing new lies in the folder."""
    for name, path, texts in list(wrong_files(tmp_path)):
        before = sorted(tmp_path.iterdir())
        report = check(path)
        assert not report.passed, name
        assert report.add == ()
        last = report.findings[-1]
        assert last.level == "problem"
        assert last.check in ("checkpoint", "fit")
        shown = " ".join((last.found, *last.details))
        assert all(text in shown for text in texts), shown
        assert sorted(tmp_path.iterdir()) == before


def test_requests_that_make_no_sense_are_errors(check: Check, tmp_path: Path) -> None:
    """Wrong names and numbers are errors of the request, before anything is read."""
    with pytest.raises(UnknownName, match="did you mean 'small_cnn'"):
        check(architecture="small_cnm")
    with pytest.raises(InvalidArgument, match="claim"):
        check(claim=93.0)
    with pytest.raises(InvalidArgument, match="images"):
        check(images=3)
    with pytest.raises(InvalidArgument, match="std"):
        check(given=((0.0, 0.0, 0.0), (1.0, 0.0, 1.0)))
    with pytest.raises(InvalidArgument, match="mean"):
        check(given=((0.0, float("nan"), 0.0), (1.0, 1.0, 1.0)))
    with pytest.raises(CheckpointError, match="No such file"):
        check(tmp_path / "none.pt")


def test_mapping_is_shown(check: Check, tmp_path: Path) -> None:
    """What was unwrapped, stripped, renamed and left out, in words and as facts."""
    wrapped = {f"module.{name}".replace("linear.", "fc."): tensor for name, tensor in state().items()}
    torch.save({"state_dict": wrapped, "best_prec1": 99.0}, tmp_path / "a.th")
    report = check(tmp_path / "a.th")
    assert levels(report) == {}
    finding = found(report, "checkpoint")
    assert 'unwrapped "state_dict"; left out best_prec1; stripped "module."; renamed fc to linear' in finding.found
    assert finding.facts["prefixes"] == ["module."]
    assert finding.facts["renamed"] == [["fc", "linear"]]
    assert finding.facts["tensors"] == len(wrapped)


@pytest.mark.parametrize(
    ("claim", "verdict", "level"), [(0.75, "agrees", "ok"), (0.93, "below", "problem"), (0.5, "above", "warning")]
)
def test_claims(claim: float, verdict: str, level: str) -> None:
    """150 of 200: Wilson's interval is .686 to .805 (by hand from the formula with z = 1.96)."""
    finding = accuracy(150, 200, claim)
    assert (finding.facts["verdict"], finding.level) == (verdict, level)
    assert finding.facts["low"] == pytest.approx(0.6857, abs=2e-4)
    assert finding.facts["high"] == pytest.approx(0.8049, abs=2e-4)
    assert verdict in finding.found


def test_a_claim_that_does_not_hold_fails_the_model(check: Check, tmp_path: Path) -> None:
    """A network damaged to answer one class too often falls below the bundled one's accuracy."""
    path = saved(tmp_path, {"linear.bias": state()["linear.bias"] + torch.tensor([9.0] + 9 * [0.0])})
    report = check(path, claim=0.98)
    assert levels(report)["accuracy"] == "problem"
    assert report.add == ()
    assert check(path).passed


def softmax(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Probabilities."""
    return network(images).softmax(dim=1)


def noisy(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Logits with noise."""
    return network(images) + torch.randn(len(images), 1)


def entangled(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Logits that depend a little on the whole batch."""
    logits = network(images)
    return logits + 0.01 * logits.mean(dim=0)


def detached(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Logits without a gradient."""
    return network(images).detach()


def broken(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Logits that are not finite."""
    return network(images) / 0


@pytest.mark.parametrize(
    ("twist", "expected", "text"),
    [
        (softmax, {"output": "warning"}, "probabilities"),
        (noisy, {"determinism": "warning", "batches": "warning"}, "randomized"),
        (entangled, {"batches": "warning"}, "fixed batch of 64"),
        (detached, {"batches": "warning"}, "no gradient"),
        (broken, {"input": "problem", "output": "problem"}, "not finite"),
    ],
)
def test_networks_that_misbehave(
    check: Check, twisted: Callable[[Twist], str], twist: Twist, expected: dict[str, str], text: str
) -> None:
    """Each trips its own checks, and no other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        report = check(architecture=twisted(twist))
    assert levels(report) == expected
    assert text in " ".join(finding.found for finding in report.findings if finding.check in expected)
    assert report.passed == ("problem" not in expected.values())


def test_without_gradients_attacks_have_no_price(check: Check, twisted: Callable[[Twist], str]) -> None:
    """White-box attacks cannot run; clean passes have their price all the same."""
    report = check(architecture=twisted(detached))
    assert found(report, "speed").facts["forward_and_backward"] is None
    (first, *_) = found(report, "cost").facts["benchmarks"]
    assert first["attacks"]["seconds"] is None
    assert first["clean"]["seconds"] > 0


def test_statistics_that_have_not_settled(check: Check, tmp_path: Path) -> None:
    """Running means that are off ruin eval mode, not train mode: no input fits, and the modes say why."""
    report = check(saved(tmp_path, {"bn2.running_mean": state()["bn2.running_mean"] + 8}), images=200)
    assert levels(report)["modes"] == "warning"
    assert "running statistics do not fit" in found(report, "modes").found
    facts = found(report, "modes").facts
    assert facts["right_train"] > 150 > facts["right_eval"]


@pytest.mark.parametrize(
    ("value", "level", "text"),
    [(-1e-3, "problem", "bn3 is negative"), (0.0, "warning", "zeros"), (1e-6, "ok", "above 0")],
)
def test_running_variances(check: Check, tmp_path: Path, value: float, level: str, text: str) -> None:
    """Negative ones are a problem, zeros are worth a look, small ones are fine."""
    spread = state()["bn3.running_var"]
    spread[int(spread.argmin())] = value
    report = check(saved(tmp_path, {"bn3.running_var": spread}))
    finding = found(report, "statistics")
    assert finding.level == level
    assert text in finding.found


def test_statistics_of_a_network_that_was_never_trained(check: Check, tmp_path: Path) -> None:
    """Fresh weights: untouched statistics, and no normalisation gives better than chance."""
    fresh = ARCHITECTURES.get("small_cnn").build(10).state_dict()
    save_state_dict(fresh, tmp_path / "fresh.safetensors")
    report = check(tmp_path / "fresh.safetensors", given=None)
    assert levels(report) == {"statistics": "warning", "input": "problem"}
    assert "mean 0 and variance 1" in found(report, "statistics").found
    assert "none fits" in found(report, "input").found


def test_missing_batch_counters_are_fine_and_zero_ones_are_not(check: Check, tmp_path: Path) -> None:
    """Old files lack them; zeros mean that no training batch was ever seen."""
    plain = {name: tensor for name, tensor in state().items() if "num_batches" not in name}
    save_state_dict(plain, tmp_path / "old.safetensors")
    report = check(tmp_path / "old.safetensors")
    assert levels(report) == {}
    assert "no batch counters" in found(report, "statistics").found
    zeros = {name: tensor * 0 for name, tensor in state().items() if "num_batches" in name}
    assert levels(check(saved(tmp_path, zeros))) == {"statistics": "warning"}


class Stubborn(nn.BatchNorm2d):
    """Cannot be put into eval mode."""

    def train(self, mode: bool = True) -> Stubborn:
        """Train mode, whatever is asked for."""
        super().train(True)
        return self


def with_first_norm(monkeypatch: pytest.MonkeyPatch, layer: Callable[[], nn.Module]) -> str:
    """Register `small_cnn` with another first normalisation; its name comes back."""
    entry = ARCHITECTURES.get("small_cnn")

    def build(classes: int, size: tuple[int, int]) -> Network:
        network = entry.builder(classes, size)
        network.bn1 = layer()
        return network

    monkeypatch.setitem(ARCHITECTURES._targets, "other_norm", dataclasses.replace(entry, builder=build))
    return "other_norm"


def test_modules_that_stay_in_train_mode(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that eval() does not reach is named."""
    finding = found(check(architecture=with_first_norm(monkeypatch, lambda: Stubborn(16))), "modes")
    assert finding.level == "problem"
    assert "bn1" in finding.found


def test_normalisation_without_statistics(check: Check, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Batch normalisation that uses the batch in eval mode, too, is a problem."""
    name = with_first_norm(monkeypatch, lambda: nn.BatchNorm2d(16, track_running_stats=False))
    plain = {key: tensor for key, tensor in state().items() if not key.startswith("bn1.r")}
    save_state_dict(plain, tmp_path / "a.safetensors")
    report = check(tmp_path / "a.safetensors", name)
    assert levels(report)["statistics"] == "problem"
    assert levels(report)["batches"] == "warning"


def test_outputs_in_another_order(check: Check, tmp_path: Path) -> None:
    """Rows of the classifier in a known order: the order is found, printed, and fails the model."""
    rows = torch.tensor([3, 1, 4, 0, 2, 9, 5, 6, 8, 7])
    changes = {name: state()[name][rows] for name in ("linear.weight", "linear.bias")}
    report = check(saved(tmp_path, changes), given=None, images=200)
    finding = found(report, "classes")
    assert finding.level == "problem"
    assert finding.facts["order"] == rows.tolist()  # output k has the row of class rows[k]
    assert "output 0 means class 3 (3)" in finding.details
    assert finding.facts["right_in_best_order"] > 190
    assert found(report, "input").facts["chosen"] == "the data set's own"
    assert report.add == ()


def test_slow_networks_get_fewer_images(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 15 images a second the checks take 120 images and the trials 40; a number that was asked for is kept."""
    monkeypatch.setattr(timing, "forward_rate", lambda *_: 15.0)
    report = check(images=None)
    assert found(report, "accuracy").facts["images"] == 120
    assert {item["images"] for item in found(report, "input").facts["tried"]} == {40}
    assert found(check(images=60), "accuracy").facts["images"] == 60


def test_a_model_that_fails_at_once_is_still_reported(
    check: Check, monkeypatch: pytest.MonkeyPatch, twisted: Callable[[Twist], str]
) -> None:
    """Without a number of images the speed is measured first; a model that cannot run gets to the trials."""
    report = check(architecture=twisted(broken), images=None)
    assert levels(report) == {"input": "problem", "output": "problem"}
    assert found(report, "input").facts["tried"][0]["right"] is None
    with pytest.raises(ModelError):
        timing.forward_rate(lambda images: images.flatten(1) / 0, torch.ones(16, 3, 2, 2))


def other_data(classes: int, size: int) -> Dataset:
    """Grey images of some size."""
    labels = np.arange(40, dtype=np.int64) % classes
    pixels = np.full((40, size, size, 3), 100, dtype=np.uint8)
    return ArrayDataset(
        name="grey", split="test", classes=tuple(f"class {k}" for k in range(classes)), labels=labels, pixels=pixels
    )


def test_data_that_no_benchmark_is_made_for(check: Check, tmp_path: Path) -> None:
    """Seven classes: it could be added, but no board takes it."""
    save_state_dict(ARCHITECTURES.get("small_cnn").build(7).state_dict(), tmp_path / "seven.safetensors")
    data = other_data(7, 24)
    report = check(tmp_path / "seven.safetensors", data=data, reference=data, given=None, images=40)
    assert levels(report)["cost"] == "warning"
    assert "7 classes at 24x24" in found(report, "cost").found


def test_suggested_names_are_allowed() -> None:
    """Architectures and data sets with signs that names may not have."""
    from models_zoo.cards import check_name

    assert suggested_name("resnet20", "digits") == "resnet20.added.digits"
    assert suggested_name("torchvision:resnet18", "cifar10-jpeg") == "torchvision_resnet18.added.cifar10-jpeg"
    for pair in (("torchvision:resnet18", "my photos!"), ("timm:vit_b.x", "a.b"), ("x" * 90, "y" * 90), ("::", "-")):
        assert check_name(suggested_name(*pair))
    assert CARD.name == SUPERVISED
