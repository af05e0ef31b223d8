"""Interrupted runs: the same command goes on to the same weights, and never with another run's state."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from harness.errors import CheckpointError, ModelError, RequestError
from harness.spec import Scalar
from models_zoo.train import Progress, TrainingData, TrainResult, train
from tests.models_zoo.tiny import quarters

SHORT: dict[str, Scalar] = {"epochs": 4, "batch_size": 32, "learning_rate": 0.05}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """A small task."""
    return quarters(80)


class Killed(Exception):
    """Stands for a kill."""


def run(
    data: TrainingData,
    recipe: str = "supervised",
    *,
    folder: Path | None = None,
    stop: int = 0,
    fresh: bool = False,
    seen: list[Progress] | None = None,
    settings: Mapping[str, Scalar] | None = None,
) -> TrainResult:
    """A short run that may be stopped after an epoch."""

    def watch(progress: Progress) -> None:
        if seen is not None:
            seen.append(progress)
        if progress.epoch == stop and not progress.restored:
            raise Killed

    return train(
        recipe, dataset=data, architecture="small_cnn", settings={**SHORT, **(settings or {})}, seed=3,
        state_folder=folder, fresh=fresh, progress=watch,
    )  # fmt: skip


def told(result: TrainResult) -> list[tuple[object, ...]]:
    """The history without what clocks decide."""
    return [(p.epoch, p.epochs, p.loss, p.accuracy, p.objective, p.rate, p.extras) for p in result.history]


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("supervised", {"flip": True}),
        ("supervised", {"momentum": 0.0}),
        ("supervised", {"precision": "bf16"}),
        ("selectivity", {"alpha": -1, "alpha_warmup": 3}),
        ("adversarial", {"steps": 1, "relative_step": 1.25}),
        ("trades", {"steps": 2}),
        ("augmix", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "plain",
)
def test_a_resumed_run_ends_with_the_same_weights(
    data: TrainingData, tmp_path: Path, recipe: str, settings: dict[str, Scalar]
) -> None:
    """Stopped after epochs 1 and 3 and gone on with: the card, history and weights of an uninterrupted run."""
    whole = run(data, recipe, settings=settings)
    for stop in (1, 3):
        with pytest.raises(Killed):
            run(data, recipe, folder=tmp_path / "states", stop=stop, settings=settings)
    seen: list[Progress] = []
    resumed = run(data, recipe, folder=tmp_path / "states", seen=seen, settings=settings)
    assert resumed.card == whole.card
    assert all(torch.equal(resumed.state_dict[name], tensor) for name, tensor in whole.state_dict.items())
    assert told(resumed) == told(whole)
    assert [(progress.epoch, progress.restored) for progress in seen] == [(1, True), (2, True), (3, True), (4, False)]
    assert resumed.state is not None
    resumed.state.discard()
    assert not (tmp_path / "states").exists()


def test_a_finished_run_that_was_not_stored_is_there_at_once(data: TrainingData, tmp_path: Path) -> None:
    """Until its state is discarded a finished run comes back without a step."""
    first = run(data, folder=tmp_path / "states")
    steps: list[object] = []
    again = train(
        "supervised", dataset=data, architecture="small_cnn", settings=SHORT, seed=3,
        state_folder=tmp_path / "states", on_step=steps.append,
    )  # fmt: skip
    assert not steps
    assert again.card == first.card
    assert again.state is not None
    again.state.discard()
    assert not (tmp_path / "states").exists()


def test_no_folder_no_state(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert run(data, settings={"epochs": 1}).state is None
    assert list(tmp_path.iterdir()) == []


def test_another_run_of_the_same_name_is_refused(data: TrainingData, tmp_path: Path) -> None:
    """The message names what differs: settings, data, threads; other seeds and variants have other names."""
    with pytest.raises(Killed):
        run(data, folder=tmp_path, stop=1)
    with pytest.raises(RequestError, match=r"epochs 4 instead of 5, settings\.learning_rate 0\.05 instead of 0\.1"):
        run(data, folder=tmp_path, settings={"epochs": 5, "learning_rate": 0.1})
    changed = dataclasses.replace(data, images=255 - data.images)
    with pytest.raises(RequestError, match=r"dataset\.digest [0-9a-f]{12}\.\.\. instead of [0-9a-f]{12}\.\.\."):
        run(changed, folder=tmp_path)
    with pytest.raises(RequestError, match="threads 1 instead of 2; finish that run, start over with --fresh"):
        train("supervised", dataset=data, architecture="small_cnn", settings=SHORT, seed=3, threads=2,
              state_folder=tmp_path)  # fmt: skip
    with pytest.raises(Killed):
        run(data, "selectivity", folder=tmp_path, stop=1, settings={"alpha": 1})
    other = run(data, "selectivity", folder=tmp_path, settings={"alpha": 2, "epochs": 1})
    assert other.state is not None
    other.state.discard()
    assert len(list(tmp_path.iterdir())) == 2  # the two that were stopped


def test_fresh_starts_over(data: TrainingData, tmp_path: Path) -> None:
    """With `fresh` the states of the name go, the same run's and others'."""
    with pytest.raises(Killed):
        run(data, folder=tmp_path, stop=2)
    seen: list[Progress] = []
    run(data, folder=tmp_path, fresh=True, seen=seen)
    assert [progress.restored for progress in seen] == [False] * 4
    result = run(data, folder=tmp_path, fresh=True, settings={"epochs": 5})
    assert result.state is not None
    assert list(tmp_path.iterdir()) == [result.state.path]


@pytest.mark.parametrize("damage", ["truncated", "empty", "shape", "history", "missing"])
def test_a_damaged_state_is_an_error(data: TrainingData, tmp_path: Path, damage: str) -> None:
    """A file that is cut, empty, of other shapes or without its history is refused with the way out."""
    with pytest.raises(Killed):
        run(data, folder=tmp_path, stop=1)
    (path,) = tmp_path.iterdir()
    if damage in ("truncated", "empty"):
        path.write_bytes(path.read_bytes()[: 1000 if damage == "truncated" else 0])
    else:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata())
        tensors = load_file(path)
        if damage == "shape":
            tensors["best/linear.bias"] = torch.zeros(7)
        elif damage == "history":
            header["history"] = "[]"
        else:
            del tensors["model/linear.bias"]
        save_file(tensors, path, header)
    with pytest.raises(CheckpointError, match="start over with --fresh"):
        run(data, folder=tmp_path)


def test_a_diverged_run_leaves_no_state(data: TrainingData, tmp_path: Path) -> None:
    """It would only diverge again, and stand in the way of other settings."""
    settings = {"learning_rate": 100.0, "warmup_epochs": 0, "weight_decay": 1.0, "momentum": 0.999, "epochs": 40}
    with pytest.raises(ModelError, match="diverged in epoch"):
        run(data, folder=tmp_path / "states", settings=settings)
    assert not (tmp_path / "states").exists()


def test_the_folder_may_go_while_a_run_ends(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs that end at once both find the folder empty; the second must not trip over its absence."""
    result = run(data, folder=tmp_path / "kept")
    assert result.state is not None
    real = Path.rmdir

    def twice(folder: Path) -> None:
        real(folder)
        real(folder)

    monkeypatch.setattr(Path, "rmdir", twice)
    result.state.discard()
    assert not (tmp_path / "kept").exists()


def epochs_kept(folder: Path) -> int:
    """Epochs in the state of the only run in a folder; 0 if there is none yet."""
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            return str(file.metadata()["history"]).count('"epoch"')
    return 0


def test_kill_nine_and_the_same_command_again(tmp_path: Path) -> None:
    """A real process, killed between two epochs: the same command ends with the weights of an uninterrupted run."""
    data = quarters(80)
    np.savez(tmp_path / "quarters.npz", images=data.images, labels=data.labels, class_names=np.array(data.class_names))
    words = ["selectivity", "--data", "quarters.npz", "--out", "out", "--seed", "3", "--state", "states"]
    words += ["--set", "alpha=-1", "--set", "epochs=60", "--set", "batch_size=32"]
    command = [sys.executable, "-m", "models_zoo.train", *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while epochs_kept(tmp_path / "states") < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = epochs_kept(tmp_path / "states")
    assert 2 <= kept < 60
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert f"going on after epoch {kept} of 60" in again.stderr
    settings: dict[str, Scalar] = {"alpha": -1, "epochs": 60, "batch_size": 32}
    plain = dataclasses.replace(data, test_images=None, test_labels=None)
    whole = train("selectivity", dataset=plain, architecture="small_cnn", settings=settings, seed=3)
    assert again.stdout.split() == ["small_cnn.selectivity-am1.quarters.s3", whole.card.weights_digest]
    assert not (tmp_path / "states").exists()
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".toml", ".safetensors"}
