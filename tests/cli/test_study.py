"""`robustboard study`: the list, what a run plans, and requests that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli import run as running
from harness.storage import open_store
from models_zoo.studies import STUDIES, Report
from tests.cli.plugin import Cli


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A store without models."""
    path = tmp_path / "made.db"
    open_store(str(path)).close()
    return str(path)


def test_list(cli: Cli) -> None:
    """Table and JSON name each study with its benchmark and bundled models."""
    assert "selectivity@1" in cli("study", "list").out
    (found,) = json.loads(cli("study", "list", "--json").out)
    assert found["name"] == "selectivity"
    assert found["models"] == list(STUDIES.get("selectivity").models())


def test_run_takes_the_studys_models(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The job has the study's benchmark and bundled models, or those that are named; failures end with 1."""
    jobs: list[Any] = []

    def execute(_store: object, job: Any, *_crew: object) -> object:
        jobs.append(job)
        return SimpleNamespace(computed=3, seconds=1.0, failures=("one",) if len(jobs) == 2 else ())

    monkeypatch.setattr(running, "execute", execute)
    db = str(tmp_path / "new.db")
    answer = cli("study", "run", "selectivity", "--workers", "1", "--db", db)
    assert answer.code == 0, answer.err
    assert "robustboard study report selectivity" in answer.err
    again = cli(
        "study", "run", "selectivity", "-m", "small_cnn.supervised.*", "--limit", "9", "--workers", "1", "--db", db
    )
    assert again.code == 1
    assert [job.benchmark.label for job in jobs] == ["selectivity@1"] * 2
    assert {model.name for model in jobs[0].models} == set(STUDIES.get("selectivity").models())
    assert {model.name.split(".")[1] for model in jobs[1].models} == {"supervised"}
    assert jobs[1].limit == 9


def test_report_goes_where_it_is_wanted(cli: Cli, db: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard output, or in a file with its pictures beside it; pictures are called after the file."""
    asked: list[tuple[str, str | None]] = []

    def write(_store: object, dataset: str, stem: str | None) -> Report:
        asked.append((dataset, stem))
        return Report(markdown="# Found\n", pictures={f"{stem}-a.svg": "<svg/>"} if stem else {})

    study = SimpleNamespace(dataset="digits", write=write)
    monkeypatch.setattr(STUDIES, "get", lambda _name: study)
    assert cli("study", "report", "selectivity", "--db", db).out == "# Found\n"
    folder = tmp_path / "kept"
    folder.mkdir()
    out = folder / "found.md"
    answer = cli("study", "report", "selectivity", "--dataset", "d", "--out", str(out), "--plots", "--db", db)
    assert answer.code == 0, answer.err
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == {
        "found.md": "# Found\n",
        "found-a.svg": "<svg/>\n",
    }
    assert asked == [("digits", None), ("d", "found")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "selektivity"), "did you mean 'selectivity'?"),
        (("run", "selectivity", "--dataset", "none"), "models: none is bundled for none; name some with --models"),
        (("report", "selectivity"), "holds 0 settings of alpha, a report needs 3: robustboard study run selectivity"),
        (("report", "selectivity", "--dataset", "none"), "unknown data set"),
        (("report", "selectivity", "--plots"), "used with --out FILE.md"),
        (("report", "selectivity", "--out", "report.txt"), "a file name that ends in .md"),
        (("report", "selectivity", "--out", "no/report.md"), "in a folder that exists"),
    ],
)
def test_refused(cli: Cli, db: str, tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    """One line, exit 2, no file."""
    answer = cli("study", *arguments, "--db", db)
    assert answer.code == 2
    assert says in answer.err
    assert answer.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.suffix in {".md", ".txt"}] == []
