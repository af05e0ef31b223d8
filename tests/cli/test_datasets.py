"""`robustboard datasets` and public data sets on the command line; nothing leaves this machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.data import PUBLIC
from tests.cli.plugin import Cli
from tests.harness.data.public_files import archive, write_cifar10


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10's archive, tiny, on this disk; the data folder is the default one."""
    monkeypatch.delenv("ROBUSTBOARD_DATA", raising=False)
    write_cifar10(tmp_path / "make" / "cifar-10-batches-bin")
    path = archive(tmp_path / "make" / "cifar-10-batches-bin", tmp_path / "c.tar.gz")
    entry = PUBLIC.get("cifar10")
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    near = replace(entry, remotes=(replace(entry.remotes[0], url=path.as_uri(), md5=md5),))
    monkeypatch.setitem(PUBLIC._targets, "cifar10", near)


def test_download_list_and_run(cli: Cli, served: None) -> None:
    """The board of `cifar10` works once the data set is there; the list says what is there and what is not."""
    before = cli("datasets", "list")
    assert "cifar10" not in before.out
    assert "cifar10, cifar100, svhn, tiny-imagenet, imagenet" in " ".join(before.err.split())
    first = cli("datasets", "download", "cifar10")
    assert first.code == 0, first
    assert "fetched" in first.err
    again = cli("datasets", "download", "cifar10", "--json")
    assert [(row["split"], row["images"]) for row in json.loads(again.out)] == [("train", 60), ("test", 12)]
    rows = [row for row in json.loads(cli("datasets", "list", "--json").out) if row["name"] == "cifar10"]
    assert [(row["split"], row["images"], row["classes"]) for row in rows] == [("train", 60, 10), ("test", 12, 10)]
    model = "small_cnn.supervised.digits.s0"
    run = cli("run", "--benchmark", "cifar10", "--models", model, "--limit", "2", "--workers", "1")
    assert run.code == 0, run
    board = json.loads(cli("leaderboard", "--benchmark", "cifar10", "--format", "json").out)
    assert [row["model"] for row in board["rows"]] == [model]
    assert board["rows"][0]["clean_accuracy_n"] == 2


def test_what_cannot_be_downloaded(cli: Cli) -> None:
    """Exit 2 and one line, for sets that are left to the user and for names that nobody knows."""
    for name, message in (("imagenet", "cannot be downloaded"), ("cifar11", "did you mean 'cifar10'?")):
        answer = cli("datasets", "download", name)
        assert answer.code == 2
        assert message in answer.err
        assert len(answer.err.strip().splitlines()) == 1


def test_a_public_set_is_trained_on_without_a_store(
    cli: Cli, served: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its name; the data set is opened before anything else is done."""
    import models_zoo.train

    assert cli("datasets", "download", "cifar10").code == 0
    assert cli("train", "supervised", "--dataset", "cifar100").code == 2
    seen: list[tuple[str, int]] = []

    def stop(_recipe: str, *, dataset: models_zoo.train.TrainingData, **_: object) -> None:
        seen.append((dataset.name, len(dataset.images)))
        raise KeyboardInterrupt

    monkeypatch.setattr(models_zoo.train, "planned_card", stop)
    assert cli("train", "supervised", "--dataset", "cifar10").code == 130
    assert seen == [("cifar10", 60)]
    assert not (tmp_path / "results.db").exists()
