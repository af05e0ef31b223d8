"""`robustboard train`: names are settled before training, runs go on, logs are written, lines stand in for a bar."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from harness.storage import open_store
from harness.types import Json
from models_zoo.train import Progress
from tests.cli.plugin import Cli
from tests.cli.support import refused

QUICK = ("--set", "epochs=2", "--set", "batch_size=512", "--set", "shift=0")
BUNDLED = "small_cnn.supervised.digits.s0"


def entered(*_: object, **__: object) -> None:
    """In the loop's place."""
    raise AssertionError("the loop was entered")


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training is an error: what is refused must be refused before."""
    monkeypatch.setattr("models_zoo.training_run.TrainingRun.fit", entered)


@pytest.mark.usefixtures("untrained")
def test_a_bundled_name_is_refused_before_training(cli: Cli, tmp_path: Path) -> None:
    """The name of a bundled model cannot be registered; nothing is written."""
    refused(cli("train", "supervised"), f"name: {BUNDLED} is a bundled model", "--no-register", "--card")
    refused(cli("train", "augmix", "--name", BUNDLED), "is a bundled model")
    assert list(tmp_path.iterdir()) == []


def test_a_run_from_start_to_store(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained, logged, registered, the state gone; again is a no-op, other settings are refused before training."""
    command = ("train", "selectivity", "--seed", "79", "--log", "logs", *QUICK)
    first = cli(*command)
    assert first.code == 0, first.err
    name = "small_cnn.selectivity-am1.digits.s79"
    assert first.out.split()[0] == name
    lines = first.err.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("epoch ") and "left" in line] == [
        "epoch 1/2",
        "epoch 2/2",
    ]
    assert f"registered {name}, revision 1" in lines
    assert not (tmp_path / "results.training").exists()
    with (tmp_path / "logs" / name / "history.csv").open(encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    again = cli(*command)
    assert (again.code, again.out) == (0, first.out)
    monkeypatch.setattr("models_zoo.training_run.TrainingRun.fit", entered)
    other = ("train", "selectivity", "--seed", "79", "--set", "epochs=3")
    refused(cli(*other), f"name: {name} is registered with other weights", "--replace", "--name")
    refused(cli(*other[:4], "--threads", "2", *QUICK), "is registered with other weights")
    for allowed in (("--replace",), ("--no-register",), ("--name", "small_cnn.mine.digits")):
        with pytest.raises(AssertionError, match="the loop was entered"):
            cli(*other, *allowed)


def test_an_interrupted_run_goes_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after an epoch, the state stands beside the store; the same command ends with the same weights."""
    command = ("train", "supervised", "--no-register", *QUICK)
    whole = cli(*command)
    with monkeypatch.context() as patch:

        def stop(_self: object, progress: Progress) -> None:
            if progress.epoch == 1:
                raise KeyboardInterrupt

        patch.setattr("harness.cli.train._Watch.epoch", stop)
        assert cli(*command).code == 130
    assert [path.name.rpartition(".s0")[0] for path in (tmp_path / "results.training").iterdir()] == [BUNDLED[:-3]]
    refused(cli(*command, "--set", "momentum=0.5"), "state: ", "settings.momentum 0.9 instead of 0.5", "--fresh")
    resumed = cli(*command)
    assert (resumed.code, resumed.out) == (0, whole.out)
    assert "going on after epoch 1 of 2" in resumed.err
    assert not (tmp_path / "results.training").exists()


def test_the_state_folder_can_be_chosen(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--state names the folder, and --fresh forgets what is in it."""
    command = ("train", "supervised", "--no-register", "--state", "kept", *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr("harness.cli.train._finish", lambda *_, **__: None)
        assert cli(*command).code == 0
    assert len(list((tmp_path / "kept").iterdir())) == 1
    answer = cli(*command, "--fresh")
    assert answer.code == 0
    assert "epoch 1/2" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_bad_requests(cli: Cli, tmp_path: Path) -> None:
    """Event files without a folder for them, and a device that is none."""
    refused(cli("train", "supervised", "--seed", "77", "--tensorboard"), "tensorboard: needs --log")
    refused(cli("train", "supervised", "--seed", "77", "--device", "gpu"), "device: got 'gpu', expected cpu, cuda")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize(
    "words",
    [
        ("--set", "epochs=1"), ("--seed", "3"), ("--arch", "resnet20"), ("--dataset", "photos"), ("--name", "a.b.c"),
        ("--threads", "1"), ("--device", "cpu"), ("--replace",), ("--register",),
    ],
)  # fmt: skip
def test_a_card_takes_no_other_wishes(cli: Cli, tmp_path: Path, words: tuple[str, ...]) -> None:
    """What --card would leave unread is refused by name, also where it repeats the default."""
    refused(cli("train", "--card", BUNDLED, *words), f"card: takes no {words[0]};")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("untrained")
def test_a_card_is_made_again_without_the_store(cli: Cli) -> None:
    """--no-register says what --card does anyhow."""
    with pytest.raises(AssertionError, match="the loop was entered"):
        cli("train", "--card", BUNDLED, "--no-register", "--out", "made")


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("option", ["--out", "--state", "--log"])
def test_folders_are_tried_before_training(cli: Cli, tmp_path: Path, option: str) -> None:
    """A file in the folder's place is one line, and no work is done."""
    (tmp_path / "taken").write_text("")
    words = ("train", "supervised", "--no-register", option, "taken/here")
    refused(cli(*words), f"{option[2:]}: got 'taken/here", "expected a folder that can be written to (Not a directory)")


def test_runs_of_one_name_are_told_apart(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored card that differs from the planned run in anything that it tells is other weights."""
    command = ("train", "supervised", "--seed", "74", *QUICK)
    assert cli(*command).code == 0
    store = open_store("results.db")
    try:
        stored = store.find_model("small_cnn.supervised.digits.s74")
        assert stored is not None
        card = dict(stored.card)
        training = card["training"]
        assert isinstance(training, dict)
        names = card["class_names"]
        assert isinstance(names, list)
        others: list[dict[str, Json]] = [
            {"training": training | {"device": "cuda"}},
            {"training": training | {"packages": {"torch": "2.6.0"}}},
            {"training": training | {"train_images": 7}},
            {"class_names": names[::-1]},
        ]
        for other in others:
            store.put_model(card | other, stored.digest, blob=None)
            refused(cli(*command), "is registered with other weights")
        store.put_model(card, stored.digest, blob=None)
    finally:
        store.close()
    monkeypatch.setattr("models_zoo.training_run.TrainingRun.fit", entered)
    with pytest.raises(AssertionError, match="the loop was entered"):
        cli(*command)


def test_a_model_that_was_added_is_in_the_way(cli: Cli) -> None:
    """A card without a training record is another model's, whatever else agrees."""
    assert cli("train", "supervised", "--seed", "75", *QUICK).code == 0
    store = open_store("results.db")
    try:
        stored = store.find_model("small_cnn.supervised.digits.s75")
        assert stored is not None
        card = {key: value for key, value in stored.card.items() if key != "training"}
        store.put_model(card, stored.digest, blob=None)
    finally:
        store.close()
    refused(cli("train", "supervised", "--seed", "75", *QUICK), "is registered with other weights")
