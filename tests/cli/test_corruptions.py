"""Corruptions on the command line: preview, export, and files as data sets of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cli.plugin import Answer, Cli

MODEL = "small_cnn.supervised.digits.s0"
PHOTO = Path(__file__).parents[1] / "fixtures" / "photos" / "test" / "cat" / "0000.jpg"
RUN = ("run", "-m", MODEL, "--workers", "1", "--limit", "16")


def rows(answer: Answer) -> list[dict[str, Any]]:
    """The rows of a board printed as JSON."""
    assert answer.code == 0, answer.err
    return list(json.loads(answer.out)["rows"])


def test_preview_writes_a_contact_sheet(cli: Cli, tmp_path: Path) -> None:
    """A PNG with a row a corruption; sizes that a suite is not for are refused unless asked for by name."""
    assert cli("corruptions", "preview", str(PHOTO), "--out", "a.png", "--suite", "cifar-10-c", "-c", "fog").code == 0
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > sheet.height
    large = tmp_path / "large.png"
    Image.new("RGB", (48, 40), (90, 120, 30)).save(large)
    refused = cli("corruptions", "preview", "large.png", "--suite", "cifar-10-c")
    assert refused.code == 2
    assert "40x48" in refused.err
    assert "cifar-10-c@any" in refused.err
    assert cli("corruptions", "preview", "large.png", "--suite", "cifar-10-c@any", "-c", "snow").code == 0
    assert cli("corruptions", "preview", "nothing.png").code == 2
    assert "did you mean 'fog'" in cli("corruptions", "preview", str(PHOTO), "-c", "fogg").err


def test_exported_files_give_the_scores_of_the_images_in_memory(cli: Cli, tmp_path: Path) -> None:
    """Export in the CIFAR-10-C layout, declare, run: same verdicts, another board, and the board names its source."""
    export = ("corruptions", "export", "digits-c", "--limit", "500")
    assert cli(*export).code == 0
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "digits-c").glob("*_*.npy")}
    assert len(stamps) == 11
    assert cli(*export).code == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    declared = cli("datasets", "add", "digits-c", "--layout", "cifar-c", "--of", "digits", "--path", "digits-c")
    assert declared.code == 0, declared.err
    assert "95 cells of regenerated files" in declared.err
    assert cli(*RUN, "-b", "digits@2").code == 0
    assert cli(*RUN, "-b", "digits@2", "--dataset", "digits-c").code == 0
    memory = cli("leaderboard", "-b", "digits@2", "--format", "json")
    files = cli("leaderboard", "-b", "digits@2", "--dataset", "digits-c", "--format", "json")
    assert rows(memory) == rows(files)
    sources = [
        {column["source"] for column in json.loads(answer.out)["columns"] if column["name"] == "noise_accuracy"}
        for answer in (memory, files)
    ]
    assert sources == [{"in memory"}, {"regenerated files"}]
    shown = json.loads(cli("show", MODEL, "--corruptions", "--json").out)["grids"]
    by_source = {grid["component"]: {**grid, "component": "", "versions": [], "dataset": ""} for grid in shown}
    assert set(by_source) == {"engine", "regenerated files"}
    for grid in by_source.values():
        del grid["dataset_digest"]
    for one, other in zip(*(grid.pop("corruptions") for grid in by_source.values()), strict=True):
        assert one == other
    assert by_source["engine"] == by_source["regenerated files"]
    again = cli(*RUN, "-b", "digits@2", "--dataset", "digits-c", "--json")
    assert json.loads(again.out)["computed"] == 0
    before = rows(memory)
    assert cli("db", "rescore").code == 0
    assert rows(cli("leaderboard", "-b", "digits@2", "--format", "json")) == before
    assert rows(cli("leaderboard", "-b", "digits@2", "--dataset", "digits-c", "--format", "json")) == before


def test_boards_of_two_versions_never_mix(cli: Cli) -> None:
    """Rows of digits@1 stay readable beside those of digits@2, with their own suite."""
    for version in ("digits@1", "digits@2"):
        assert cli(*RUN[:-1], "4", "-b", version).code == 0
    one, two = (rows(cli("leaderboard", "-b", version, "-f", "json"))[0] for version in ("digits@1", "digits@2"))
    assert one["clean_accuracy"] == two["clean_accuracy"]
    assert "noise_accuracy" not in one
    assert one["corruption_accuracy"] != two["corruption_accuracy"]
    assert rows(cli("leaderboard", "-b", "digits", "-f", "json")) == []  # the newest version, which has not run


def make_set(folder: Path, cells: dict[str, int], labels: int) -> None:
    """A file set of noise in the CIFAR-10-C layout: corruption -> rows."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, count in cells.items():
        np.save(folder / f"{name}.npy", random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))
    np.save(folder / "labels.npy", random.integers(0, 10, labels))


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda folder: (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:5000]), "fog.npy"),
        (lambda folder: (folder / "labels.npy").unlink(), "labels.npy"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((14, 32, 32, 3), np.uint8)), "five equal parts"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((15, 32, 32, 3), np.float32)), "float32"),
        (lambda folder: np.save(folder / "fog.npy", np.zeros((15, 16, 16, 3), np.uint8)), "16x16"),
        (lambda folder: [path.unlink() for path in folder.iterdir()], "no corruption found"),
    ],
    ids=["truncated", "no labels", "rows", "floats", "size", "empty"],
)
def test_damaged_file_sets_are_refused(cli: Cli, tmp_path: Path, spoil: Any, part: str) -> None:
    """One line that names the file; nothing is declared."""
    make_set(tmp_path / "set", {"fog": 15}, 3)
    spoil(tmp_path / "set")
    answer = cli("datasets", "add", "bad-c", "--layout", "cifar-c", "--of", "digits", "--path", "set")
    assert answer.code == 2
    assert part in answer.err
    assert not (tmp_path / "results.db").exists()


def test_a_set_without_a_needed_cell_is_refused_before_any_compute(cli: Cli, tmp_path: Path) -> None:
    """A benchmark's corruption that the files lack is an error that names it."""
    make_set(tmp_path / "set", {"fog": 15}, 15)
    assert cli("datasets", "add", "fog-c", "--layout", "cifar-c", "--of", "digits", "--path", "set").code == 0
    answer = cli(*RUN, "--dataset", "fog-c")
    assert answer.code == 2
    assert "gaussian_noise at severity 1" in answer.err


def test_layouts_need_what_they_need(cli: Cli) -> None:
    """Unknown layouts, a missing base, a base where none belongs."""
    assert "one of folder" in cli("datasets", "add", "x", "--layout", "zip", "--path", ".").err
    assert "base data set" in cli("datasets", "add", "x", "--layout", "cifar-c", "--path", ".").err
    assert "plain folder" in cli("datasets", "add", "x", "--of", "digits", "--path", ".").err
    assert "another data set" in cli("datasets", "add", "x", "--layout", "shift", "--of", "x", "--path", ".").err
    unknown = cli("datasets", "add", "x", "--layout", "shift", "--of", "digit", "--path", ".")
    assert unknown.code == 2
    assert "did you mean 'digits'" in unknown.err


def test_shift_sets_are_judged_among_their_own_classes(cli: Cli, tmp_path: Path) -> None:
    """A subset of the classes: the other outputs do not count, as published for ImageNet-A and -R."""
    import torch

    from harness.attacks import ATTACKS
    from harness.data import open_dataset
    from harness.jobs.context import Context, DataSource, Settings, find_models
    from harness.jobs.kernel import Kernel
    from harness.jobs.plan import Piece, Task
    from harness.outcome import BlockOutcome
    from harness.spec import AttackSpec, CleanSpec, EvaluationSpec
    from harness.storage import open_store
    from models_zoo.registry import load_model

    digits = open_dataset("digits")
    noisy = np.random.default_rng(0).integers(0, 256, digits.images(0, 200).shape, dtype=np.uint8)
    pixels = (digits.images(0, 200).astype(np.float32) * 0.5 + noisy * 0.5).astype(np.uint8)
    for index in range(200):
        if digits.labels[index] in (3, 5):
            target = tmp_path / "shift" / digits.classes[digits.labels[index]]
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(target / f"{index:03d}.png")
    assert cli("datasets", "add", "shifted", "--layout", "shift", "--of", "digits", "--path", "shift").code == 0
    store = open_store("results.db")
    declarations = store.declarations()
    store.close()
    data = open_dataset("shifted", folders=declarations)
    source = DataSource(name="shifted", split="test", digest=data.digest, declarations=declarations)
    (model,) = find_models(None, [MODEL])
    context = Context(models={model.digest: model}, data={data.digest: source}, settings=Settings())
    spec = EvaluationSpec(model=model.ref, data=data.ref(), perturbation=CleanSpec())
    n = len(data)
    piece = Piece(spec=spec, block=0, start=0, stop=n)
    (outcome,) = Kernel(context).run(Task(id=0, start=0, stop=n, pieces=(piece,)))
    assert isinstance(outcome, BlockOutcome)
    images = torch.from_numpy(data.images().copy()).permute(0, 3, 1, 2).float() / 255
    logits = load_model(MODEL)(images)
    among_two = logits[:, [3, 5]].argmax(1).numpy() == (data.labels == 5)
    among_all = logits.argmax(1).numpy() == data.labels
    assert np.array_equal(outcome.correct, among_two)
    assert among_two.sum() > among_all.sum()
    pgd = AttackSpec(attack="fgsm", norm="Linf", eps=1e-9, seed=0, version=ATTACKS.get("fgsm").version)
    attacked = EvaluationSpec(model=model.ref, data=data.ref(), perturbation=pgd)
    piece = Piece(spec=attacked, block=0, start=0, stop=n)
    (outcome,) = Kernel(context).run(Task(id=0, start=0, stop=n, pieces=(piece,)))
    assert isinstance(outcome, BlockOutcome)
    assert np.array_equal(outcome.correct, among_two)  # a ball of next to nothing: right clean is right under attack
