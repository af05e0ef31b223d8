"""`robustboard models add` and `check`: what they print, how they end, and what they leave behind."""

from __future__ import annotations

import json
import os
import pickle
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from models_zoo.architectures import ARCHITECTURES
from models_zoo.checkpoints import StateDict, save_state_dict
from models_zoo.preflight import costs as timing
from models_zoo.registry import bundled_weights, get_card, load_model
from tests.cli.plugin import Cli

MODEL = "small_cnn.supervised.digits.s0"
CHECK = ("--arch", "small_cnn", "--dataset", "digits", "--images", "60")


class _Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for temporary files, and no time spent on timing."""
    import tempfile

    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    return folder


def weights() -> StateDict:
    """The bundled weights."""
    return dict(load_model(MODEL).network.state_dict())


def test_add_says_how_the_file_was_read(cli: Cli, tmp_path: Path, scratch: Path) -> None:
    """A wrapped checkpoint is added, its mapping printed, and it is the bundled model."""
    wrapped = {f"module.{name}".replace("linear.", "fc."): tensor for name, tensor in weights().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "a.th")
    card = get_card(MODEL)
    channels = ("--mean", "0.3053,0.3053,0.3053", "--std", "0.3238,0.3238,0.3238")
    answer = cli(
        "models", "add", "small_cnn.mine.digits", "--arch", "small_cnn", "--weights", "a.th", "--dataset", "digits",
        *channels,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.out == f"digest {card.digest}\n"
    assert 'unwrapped "state_dict"; left out epoch; stripped "module."; renamed fc to linear' in answer.err
    assert list(scratch.iterdir()) == []


def hostile(folder: Path) -> Path:
    """A pickle with code."""
    (folder / "bad.pt").write_bytes(pickle.dumps({"state_dict": _Bomb(folder / "executed")}))
    return folder / "bad.pt"


def truncated(folder: Path) -> Path:
    """Half a file."""
    data = bundled_weights(MODEL).read_bytes()
    (folder / "bad.safetensors").write_bytes(data[: len(data) // 2])
    return folder / "bad.safetensors"


def foreign(folder: Path) -> Path:
    """Another architecture."""
    save_state_dict(load_model("resnet20.supervised.digits.s0").network.state_dict(), folder / "bad.safetensors")
    return folder / "bad.safetensors"


def everything(folder: Path) -> Path:
    """NaN, a missing tensor, one too many, one of a wrong shape, and a wrong number of classes."""
    state = dict(ARCHITECTURES.get("small_cnn").build(12).state_dict())
    state["linear.bias"] = torch.full((12,), float("nan"))
    del state["bn1.weight"]
    state["extra"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    torch.save({"model": state}, folder / "bad.pth")
    return folder / "bad.pth"


REFUSED: list[tuple[Callable[[Path], Path], tuple[str, ...]]] = [
    (hostile, ("refused, nothing was executed",)),
    (truncated, ("not a readable safetensors file",)),
    (foreign, ("15 missing (conv2.weight", "unexpected (layer1.0.")),
    (
        everything,
        (
            "1 missing (bn1.weight)",
            "1 unexpected (extra)",
            "1 wrong shape or kind (conv1.weight",
            "1 with NaN or infinity (linear.bias)",
            "12 classes instead of 10",
        ),
    ),
]


@pytest.mark.parametrize(("make", "texts"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_what_is_refused_leaves_nothing_behind(
    cli: Cli, tmp_path: Path, scratch: Path, make: Callable[[Path], Path], texts: tuple[str, ...]
) -> None:
    """With every reason at once; no store, no weights, no temporary file, nothing executed. `check` says the same."""
    path = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    added = cli("models", "add", "a.b.c", "--arch", "small_cnn", "--weights", path.name, "--dataset", "digits")
    checked = cli("models", "check", path.name, *CHECK)
    assert (added.code, added.out) == (2, "")
    assert len(added.err.splitlines()) == 1
    assert checked.code == 1
    assert "not to be added as it is" in checked.out
    for text in texts:
        assert text in added.err
        assert text in checked.out
    assert sorted(tmp_path.rglob("*")) == before


def test_check_ends_with_the_command_that_adds(cli: Cli, tmp_path: Path, scratch: Path) -> None:
    """Nothing is stored; the command, run as it is printed, adds the model; JSON has the same facts as the text."""
    torch.save({"net": weights()}, tmp_path / "my model.pt")
    before = sorted(tmp_path.rglob("*"))
    plain = cli("models", "check", "my model.pt", *CHECK, "--claim", "0.98")
    machine = cli("models", "check", "my model.pt", *CHECK, "--claim", "0.98", "--json")
    assert (plain.code, machine.code) == (0, 0), plain.err
    assert sorted(tmp_path.rglob("*")) == before
    report = json.loads(machine.out)
    assert report["passed"] is True
    lines = plain.out.splitlines()
    assert lines[-1] == report["add"]
    for finding in report["findings"]:
        line = next(line for line in lines if line.split()[1:2] == [finding["check"]])
        assert line.startswith(finding["level"])
        if finding["check"] != "speed":  # timed anew
            assert finding["found"] in line
    added = cli(*shlex.split(report["add"])[1:])
    assert added.code == 0, added.err
    assert "small_cnn.added.digits" in cli("models", "list", "small_cnn.added.*").out


def test_check_fails_a_model_whose_claim_does_not_hold(cli: Cli, tmp_path: Path, scratch: Path) -> None:
    """Exit code 1, the verdict in the text, no command."""
    state = weights()
    state["linear.bias"] = state["linear.bias"] + torch.tensor([9.0] + 9 * [0.0])
    save_state_dict(state, tmp_path / "a.safetensors")
    arguments = (
        "models",
        "check",
        "a.safetensors",
        *CHECK,
        "--mean",
        "0.3053,0.3053,0.3053",
        "--std",
        "0.32,0.32,0.32",
    )
    answer = cli(*arguments, "--claim", "0.99")
    assert answer.code == 1
    assert "below the claim of 0.99" in answer.out
    assert "models add" not in answer.out
    assert cli(*arguments).code == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("none.pt", *CHECK), "none.pt cannot be read"),
        (("a.onnx", *CHECK), "suffix '.onnx'"),
        (("a.pt", "--arch", "small_cnm", "--dataset", "digits"), "did you mean 'small_cnn'?"),
        (("a.pt", "--arch", "small_cnn", "--dataset", "digit"), "did you mean 'digits'?"),
        (("a.pt", *CHECK, "--claim", "93"), "claim: got 93.0"),
        (("a.pt", *CHECK, "--mean", "1,2"), "mean: got '1,2'"),
        (("a.pt", *CHECK, "--std", "0,1,1"), "std: got (0.0, 1.0, 1.0)"),
        (("a.pt", *CHECK, "--device", "gpu"), "device: got 'gpu'"),
        (("a.pt", "--arch", "small_cnn", "--dataset", "digits", "--images", "1"), "images: got 1"),
    ],
)
def test_wrong_requests_have_exit_code_2(cli: Cli, tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    """One line that names the argument; nothing is printed as a result, nothing is made."""
    for name in ("a.pt", "a.onnx"):
        (tmp_path / name).write_bytes(b"x")
    answer = cli("models", "check", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert text in answer.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "a.pt"]
