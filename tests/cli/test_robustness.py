"""`robustboard show --robustness`: tables, plain data, the picture, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from api.app import create_app
from api.settings import ApiSettings
from harness.benchmarks import load_benchmark
from harness.outcome import BlockOutcome, Cost
from harness.scoring import Scorer
from harness.spec import AttackSpec, DataRef, ModelRef
from harness.storage import open_store
from harness.target import Target
from tests.api.client import Client
from tests.cli.plugin import Cli

MODEL, EMPTY = "small.x.d", "small.y.d"
DATA = DataRef(name="digits", split="test", digest="d" * 64, images=500, classes=10)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store of two models: one with made-up verdicts of `digits-full@1` on ten images, one without any."""
    path = tmp_path / "made.db"
    store, benchmark, target = open_store(str(path)), load_benchmark("digits-full@1"), Target.plain(DATA)
    for name, digest in ((MODEL, "a" * 64), (EMPTY, "b" * 64)):
        card = {"name": name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
        store.put_model(card, digest, blob=None)
    model, run = ModelRef(name=MODEL, digest="a" * 64), store.start_run("test", {})
    cost = Cost(seconds=1.0, forwards=1, backwards=0, device="cpu", batch_size=10)
    for at, request in enumerate(benchmark.requests(model, target)):
        bits = np.arange(10) % (at + 2) != 1 if isinstance(request.spec.perturbation, AttackSpec) else np.arange(10) > 0
        outcome = BlockOutcome(
            evaluation=request.spec.digest, block=0, start=0, stop=10, correct=bits, cost=cost, detail=None
        )
        store.put_outcome(run, request.spec, outcome)
    Scorer(benchmark, target).refresh(store, [model])
    store.close()
    return path


def test_command_line_and_http_give_the_same_numbers(cli: Cli, db: Path) -> None:
    """JSON of `show --robustness --json` is that of the API, the SVG is byte for byte the same; the board agrees."""
    answer = cli("show", MODEL, "--robustness", "--json", "--plot", "out.svg", "--db", str(db))
    assert answer.code == 0, answer.err
    client = Client(create_app(ApiSettings(db=str(db))))
    served = client.get(f"/api/v1/models/{MODEL}/robustness").json()
    assert json.loads(answer.out) == served
    picture = client.get(f"/api/v1/models/{MODEL}/robustness.svg")
    assert Path("out.svg").read_text("utf-8") == picture.text + "\n"
    (board,) = served["boards"]
    row = client.get("/api/v1/leaderboard?benchmark=digits-full&dataset=digits").json()["rows"][0]
    assert [item["robust"]["value"] for item in board["threats"]] == [
        row[f"robust_accuracy_{norm}"] for norm in ("linf", "l2", "l1")
    ]
    (union,) = board["unions"]
    assert union["column"] == "robust_accuracy_union"
    for field in ("value", "low", "high", "n"):
        suffix = "" if field == "value" else f"_{field}"
        assert union["robust"][field] == row[f"robust_accuracy_union{suffix}"]
    assert board["clean"]["value"] == row["clean_accuracy"]


def test_the_tables_show_the_numbers_of_the_json(cli: Cli, db: Path) -> None:
    """A line for each threat model, one for the union with its members."""
    (board,) = json.loads(cli("show", MODEL, "--robustness", "--json", "--db", str(db)).out)["boards"]
    out = cli("show", MODEL, "--robustness", "--db", str(db)).out
    lines = [line.split() for line in out.splitlines()]
    for item in board["threats"]:
        value = item["robust"]
        interval = f"{100 * value['low']:.1f} .. {100 * value['high']:.1f}"
        shown = (item["norm"], item["eps_text"], item["attack"], f"{100 * value['value']:.1f}", interval, "10 of 500")
        assert " ".join(shown).split() in lines
    assert "right under all of autoattack Linf 4/255, autoattack L2 0.5, autoattack L1 12: " in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((EMPTY, "--robustness"), ("unknown attack results of model", EMPTY)),
        (("small.z.d", "--robustness"), ("unknown model 'small.z.d'", "did you mean")),
        ((MODEL, "--robustness", "--plot", "out.png"), ("plot: got 'out.png'", ".svg")),
        ((MODEL, "--robustness", "--corruptions"), ("robustness", "one of them")),
    ],
)
def test_what_cannot_be_shown_is_refused(
    cli: Cli, db: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    """Exit code 2, one clear line, no file."""
    answer = cli("show", *arguments, "--db", str(db))
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.strip().splitlines()) == 1
    assert all(part in answer.err for part in parts), answer.err
    assert not list(Path().glob("**/out.*"))
