"""Bad input: one clear line, exit code 2, an untouched store."""

from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models_zoo.checkpoints import save_state_dict
from models_zoo.registry import load_model
from tests.cli.plugin import Cli
from tests.cli.support import dump, refused

MODEL = "small_cnn.supervised.digits.s0"
DB = "results.db"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("run", "-m", "small_cnn.supervized.digits.s0"), ("unknown model", f"did you mean '{MODEL}'?")),
        (("run", "-m", "nothing.*"), ("unknown model", "nothing.*")),
        (("run",), ("models: none given", "--models")),
        (("run", "-b", "digit", "-m", MODEL), ("unknown benchmark 'digit'", "did you mean 'digits'?")),
        (("run", "-b", "digits@9", "-m", MODEL), ("unknown benchmark 'digits@9'", "did you mean 'digits@")),
        (("run", "--dataset", "digit", "-m", MODEL), ("unknown data set 'digit'", "did you mean 'digits'?")),
        (("run", "-m", MODEL, "--limit", "0"), ("limit: got 0", "at least 1")),
        (("run", "-m", MODEL, "--workers", "0", "--limit", "1"), ("workers: got 0", "at least 1")),
        (("run", "-m", MODEL, "--device", "gpu", "--limit", "1"), ("device: got 'gpu'", "cpu, cuda or cuda:N")),
        (("train", "selectivty"), ("unknown recipe 'selectivty'", "did you mean 'selectivity'?")),
        (("train", "supervised", "--set", "epoch=1"), ("did you mean 'epochs'?",)),
        (("train", "adversarial", "--set", "eps=0"), ("eps",)),
        (("train", "adversarial", "--set", "eps=-1/255"), ("eps", "-1/255")),
        (("train",), ("recipe or --card",)),
        (("models", "show", "small_cnn"), ("unknown model 'small_cnn'",)),
        (("benchmarks", "show", "digitz"), ("unknown benchmark 'digitz'",)),
        (("datasets", "add", "digits", "--path", "."), ("digits", "built in")),
        (("datasets", "add", "../x", "--path", "."), ("name: got '../x'",)),
        (("leaderboard", "--db", "none.db"), ("none.db: does not exist", "db upgrade")),
        (("leaderboard", "--db", "mysql://a/b"), ("db: got", "SQLite")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_requests_that_cannot_be_met_leave_no_trace(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    """Unknown names and values outside their domain: the message says what would be right, and no store is made."""
    refused(cli(*arguments), *parts)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def filled(cli: Cli, tmp_path: Path) -> Path:
    """A store with one model on a few images."""
    answer = cli("run", "-b", "digits@2", "-m", MODEL, "--limit", "4", "--workers", "1")
    assert answer.code == 0, answer.err
    return tmp_path / DB


def test_reading_what_is_not_there(cli: Cli, filled: Path) -> None:
    """Unknown columns, families, data sets and models on a board that exists."""
    before = dump(filled)
    refused(
        cli("leaderboard", "-b", "digits@2", "--sort", "clean_acuracy"),
        "unknown column",
        "did you mean 'clean_accuracy'?",
    )
    refused(
        cli("leaderboard", "-b", "digits@2", "--family", "supervize"), "unknown family", "did you mean 'supervised'?"
    )
    refused(cli("leaderboard", "--dataset", "photos"), "photos")
    refused(cli("leaderboard", "--limit", "0"), "limit: got 0")
    refused(cli("leaderboard", "--offset", "-1"), "offset: got -1")
    refused(cli("show", "small_cnn.supervised.digits.s1"), f"did you mean '{MODEL}'?")
    refused(cli("compare", "-b", "digits@2", MODEL, "nobody.x.y"), "nobody.x.y")
    refused(cli("run", "-b", "cifar10", "-m", MODEL), "data set 'cifar10'", "robustboard datasets download cifar10")
    assert dump(filled) == before


def test_weights_that_do_not_fit_name_their_tensors(cli: Cli, filled: Path, tmp_path: Path) -> None:
    """Missing, unexpected and misshapen tensors are told apart; nothing is stored."""
    before = dump(filled)
    state = load_model(MODEL).network.state_dict()
    first, *_, last = state
    wrong = dict(state)
    wrong[first] = torch.zeros(3, 3)
    del wrong[last]
    wrong["stranger.weight"] = torch.zeros(2)
    save_state_dict(wrong, tmp_path / "wrong.safetensors")
    answer = cli(
        "models", "add", "small_cnn.wrong.digits", "--arch", "small_cnn",
        "--weights", "wrong.safetensors", "--dataset", "digits",
    )  # fmt: skip
    refused(answer, first, last, "stranger.weight")
    assert dump(filled) == before
    assert not filled.with_suffix(".blobs").exists()


class _Payload:
    """A pickle that would write a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.target,)  # type: ignore[return-value]


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_checkpoint_with_code_is_refused_and_not_executed(cli: Cli, filled: Path, tmp_path: Path, form: str) -> None:
    """Neither a torch archive nor a bare pickle gets to run anything."""
    before = dump(filled)
    target = tmp_path / "executed"
    state = {"weight": torch.zeros(1), "payload": _Payload(target)}
    path = tmp_path / "evil.pt"
    if form == "torch":
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps(state))
    answer = cli(
        "models", "add", "small_cnn.evil.digits", "--arch", "small_cnn", "--weights", "evil.pt", "--dataset", "digits"
    )
    refused(answer, "evil.pt")
    assert not target.exists()
    assert dump(filled) == before
    with path.open("rb") as handle:  # the payload itself works
        if form == "pickle":
            pickle.load(handle)  # noqa: S301 - our own payload
            assert target.exists()


def make_folder(root: Path, splits: dict[str, dict[str, int]]) -> None:
    """An image folder: split -> class -> number of images."""
    rng = np.random.default_rng(0)
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")


def test_data_folders_that_are_incomplete_or_unreadable(cli: Cli, filled: Path, tmp_path: Path) -> None:
    """A class that is missing in a split, an empty class, a broken image, no folder: named, and nothing declared."""
    before = dump(filled)
    make_folder(tmp_path / "missing", {"train": {"a": 2, "b": 2}, "test": {"a": 2}})
    refused(cli("datasets", "add", "photos", "--path", "missing"), "b")
    make_folder(tmp_path / "empty", {"test": {"a": 2, "b": 0}})
    refused(cli("datasets", "add", "photos", "--path", "empty"), "b")
    make_folder(tmp_path / "broken", {"test": {"a": 2, "b": 2}})
    bad = tmp_path / "broken" / "test" / "b" / "1.png"
    bad.write_bytes(bad.read_bytes()[:60])
    refused(cli("datasets", "add", "photos", "--path", "broken"), "1.png")
    refused(cli("datasets", "add", "photos", "--path", "nowhere"), "nowhere")
    assert dump(filled) == before


def test_a_data_set_with_other_classes_is_refused(cli: Cli, filled: Path, tmp_path: Path) -> None:
    """A benchmark of ten classes takes no folder of two, and a model of ten classes none either."""
    make_folder(tmp_path / "two", {"test": {"a": 2, "b": 2}})
    assert cli("datasets", "add", "two", "--path", "two").code == 0
    before = dump(filled)
    refused(cli("run", "-m", MODEL, "--dataset", "two"), "10 classes", "it has 2")
    assert dump(filled) == before


def test_a_newer_store_is_left_alone(cli: Cli, filled: Path) -> None:
    """Every command refuses a store of a later version, with one line."""
    connection = sqlite3.connect(filled)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = dump(filled)
    for arguments in (("leaderboard",), ("run", "-m", MODEL), ("db", "upgrade"), ("db", "check"), ("quickstart",)):
        refused(cli(*arguments), "newer robustboard")
    assert dump(filled) == before


def test_usage_errors_have_exit_code_2(cli: Cli) -> None:
    """Unknown commands and options too."""
    assert cli("runn").code == 2
    assert cli("run", "--modells", "x").code == 2
    assert cli("leaderboard", "--format", "xml").code == 2
