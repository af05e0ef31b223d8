"""Training on a bare machine: what is imported, the command, data from files, and the device."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import DataError, InvalidArgument
from models_zoo.cards import read_card
from models_zoo.checkpoints import read_state_dict, weights_digest
from models_zoo.train_command import main
from models_zoo.training_files import read_training_data
from tests.models_zoo.tiny import quarters

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT / "tests" / "fixtures" / "photos"

# Runs with every package hidden that is neither torch (or one of its own needs), NumPy, safetensors nor ours.
BARE = """
import sys
from importlib.abc import MetaPathFinder

REFUSED = set(sys.argv[1].split())

class Hide(MetaPathFinder):  # what is hidden is not found: torch asks before it imports
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            return None
        return next((spec for finder in FINDERS if (spec := finder.find_spec(name, path, target)) is not None), None)

    def find_distributions(self, context):
        finders = (finder for finder in FINDERS if hasattr(finder, "find_distributions"))
        return (found for finder in finders for found in finder.find_distributions(context))

FINDERS = list(sys.meta_path)
sys.meta_path[:] = [Hide()]
from models_zoo.recipes import RECIPES
from models_zoo.train_command import main
for recipe in RECIPES:
    words = [recipe, "--data", "quarters.npz", "--set", "epochs=1", "--set", "batch_size=32", "--out", "out"]
    assert main([*words, "--log", "logs"]) == 0, recipe
assert not REFUSED & {name.partition(".")[0] for name in sys.modules}
"""
REFUSED = (
    "sqlalchemy alembic pandas fastapi starlette pydantic uvicorn rich typer click scipy sklearn skimage cv2 PIL "
    "torchvision pyautoattack imagecorruptions tensorboard timm api"
)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    """A small task as a file."""
    data = quarters(80)
    path = tmp_path / "quarters.npz"
    np.savez(path, images=data.images, labels=data.labels, test_images=data.images[:8], test_labels=data.labels[:8])
    return path


def test_every_recipe_trains_on_a_bare_machine(npz: Path) -> None:
    """With torch, NumPy and safetensors alone each recipe trains from an .npz file to a card and weights."""
    done = subprocess.run(
        [sys.executable, "-c", BARE, REFUSED],
        cwd=npz.parent, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    recipes = ["supervised", "selectivity-am1", "adversarial-linf8", "trades-linf8", "augmix"]
    assert names == [f"small_cnn.{recipe}.quarters.s0" for recipe in recipes]
    for name, digest in (line.split() for line in done.stdout.splitlines()):
        card = read_card(npz.parent / "out" / f"{name}.toml")
        state = read_state_dict(npz.parent / "out" / f"{name}.safetensors")
        assert card.weights_digest == weights_digest(state) == digest
        assert card.training is not None
        assert card.training.test_images == 8
        assert (npz.parent / "logs" / name / "history.csv").is_file()
    assert not (npz.parent / "out" / "training").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["supervized", "--data", "quarters.npz"], "did you mean 'supervised'"),
        (["supervised", "--data", "none.npz"], "none.npz: cannot be read (No such file or directory)"),
        (["supervised", "--data", "quarters.npz", "--set", "epochs=0"], "epochs: got '0'"),
        (
            ["supervised", "--data", "quarters.npz", "--device", "gpu"],
            "device: got 'gpu', expected cpu, cuda or cuda:N",
        ),
        (["supervised", "--data", "quarters.npz", "--name", "a b"], "name: got"),
    ],
)
def test_bad_requests_are_one_line(
    npz: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """Exit code 2, one line on standard error, nothing written."""
    monkeypatch.chdir(npz.parent)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(npz.parent.iterdir()) == [npz]


@pytest.mark.parametrize("option", ["--out", "--state", "--log"])
def test_folders_are_tried_before_training(
    npz: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """A file in the folder's place is refused before the loop."""
    monkeypatch.chdir(npz.parent)
    monkeypatch.setattr("models_zoo.training_run.TrainingRun.fit", None)  # to call it would be another error
    assert main(["supervised", "--data", "quarters.npz", option, "quarters.npz/here"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {option[2:]}: got 'quarters.npz/here")
    assert "(Not a directory)" in line


def test_a_full_disk_is_one_line(
    npz: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the state, the log and the weights: exit code 2, and the folder by name."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(npz.parent)
    words = ["supervised", "--data", "quarters.npz", "--set", "epochs=1", "--set", "batch_size=32", "--log", "logs"]
    for place, argument in (
        ("training_state.StateFile._replace", "state"),
        ("training_log._replace", "log"),
        ("train_command.save_state_dict", "out"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"models_zoo.{place}", full)
            assert main(words) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"error: {argument}: got '")
        assert "No space left on device" in line
    assert main(words) == 0


def test_data_from_an_npz_file(npz: Path) -> None:
    """Arrays come back as they were; classes without names are numbered."""
    data = read_training_data(npz)
    assert (data.name, data.class_names) == ("quarters", ("0", "1", "2", "3"))
    np.testing.assert_array_equal(data.images, quarters(80).images)
    np.testing.assert_array_equal(data.labels, quarters(80).labels)
    assert data.test_images is not None
    assert len(data.test_images) == 8


def test_data_from_a_folder(tmp_path: Path) -> None:
    """An image folder gives its two splits."""
    for split in ("train", "test"):
        shutil.copytree(PHOTOS / "test", tmp_path / "photos" / split)
    data = read_training_data(tmp_path / "photos")
    assert data.name == "photos"
    assert data.test_images is not None
    np.testing.assert_array_equal(data.images, data.test_images)
    assert data.class_names == tuple(sorted(path.name for path in (PHOTOS / "test").iterdir()))


def test_bad_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No archive, no arrays, pickled objects, absurd sizes and labels that are none: each named, nothing unpickled."""
    images = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(4)
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "absent": ({"images": images}, "no array labels"),
        "pickled": ({"images": images, "labels": np.array([0, 1, {}, 3], dtype=object)}, "ValueError"),
        "floats": ({"images": images, "labels": labels / 2}, "a row of integers"),
        "half": ({"images": images, "labels": labels, "test_images": images}, "expected both or none"),
    }
    for name, (arrays, message) in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        with pytest.raises(DataError, match=message):
            read_training_data(tmp_path / f"{name}.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match="BadZipFile"):
        read_training_data(tmp_path / "text.npz")
    np.savez(tmp_path / "shape.npz", images=images[..., :1], labels=labels)
    with pytest.raises(InvalidArgument, match="images: got 'uint8"):
        read_training_data(tmp_path / "shape.npz")
    monkeypatch.setattr("models_zoo.training_files.BYTES_LIMIT", 100)
    with pytest.raises(DataError, match=r"unpacks to [0-9]+ bytes, expected at most 100"):
        read_training_data(tmp_path / "half.npz")
