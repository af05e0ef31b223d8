"""`robustboard show --corruptions`: the table, the plain data, the picture, and what is refused."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from api.app import create_app
from api.settings import ApiSettings
from harness.corruptions.suites import BENCHMARK
from harness.outcome import BlockOutcome, Cost
from harness.spec import CorruptionSpec, DataRef, EvaluationSpec, ModelRef
from harness.storage import open_store
from tests.api.client import Client
from tests.cli.plugin import Cli

MODEL = "small.x.d"
EMPTY = "small.y.d"


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store of two models, one with all 75 cells on ten made-up verdicts each, one without any."""
    path = tmp_path / "made.db"
    data = DataRef(name="d", split="test", digest="d" * 64, images=10, classes=10)
    draws = np.random.default_rng(3)
    cost = Cost(seconds=1.0, forwards=1, backwards=0, device="cpu", batch_size=10)
    store = open_store(str(path))
    for name, digest in ((MODEL, "a" * 64), (EMPTY, "b" * 64)):
        card = {"name": name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
        store.put_model(card, digest, blob=None)
    run = store.start_run("test", {})
    for name in BENCHMARK:
        for severity in (1, 2, 3, 4, 5):
            made = CorruptionSpec(
                suite="imagecorruptions", name=name, severity=severity, seed=0, version="imagecorruptions-1.1.2/1"
            )
            spec = EvaluationSpec(model=ModelRef(name=MODEL, digest="a" * 64), data=data, perturbation=made)
            bits = draws.random(10) < 1 - severity / 8
            outcome = BlockOutcome(
                evaluation=spec.digest, block=0, start=0, stop=10, correct=bits, cost=cost, detail=None
            )
            store.put_outcome(run, spec, outcome)
    store.close()
    return path


def test_command_line_and_http_give_the_same_numbers(cli: Cli, db: Path) -> None:
    """JSON of `show --corruptions --json` is that of the API; the SVG is byte for byte the same."""
    answer = cli("show", MODEL, "--corruptions", "--json", "--plot", "out.svg", "--db", str(db))
    assert answer.code == 0, answer.err
    client = Client(create_app(ApiSettings(db=str(db))))
    served = client.get(f"/api/v1/models/{MODEL}/corruptions")
    assert json.loads(answer.out) == served.json()
    assert served.json()["grids"][0]["complete"] is True
    picture = client.get(f"/api/v1/models/{MODEL}/corruptions.svg")
    assert picture.headers["content-type"] == "image/svg+xml"
    assert Path("out.svg").read_text("utf-8") == picture.text + "\n"
    ET.fromstring(picture.text)  # noqa: S314 - our own text


def test_the_table_shows_the_numbers_of_the_json(cli: Cli, db: Path) -> None:
    """Each corruption's line has its five cells and mean in percent, each family its mean and interval."""
    grid = json.loads(cli("show", MODEL, "--corruptions", "--json", "--db", str(db)).out)["grids"][0]
    lines = [line.split() for line in cli("show", MODEL, "--corruptions", "--db", str(db)).out.splitlines()]
    for row in grid["corruptions"]:
        if row["family"] is not None:
            values = [f"{100 * cell['value']:.1f}" for cell in row["cells"]]
            assert [row["family"], row["name"], *values, f"{100 * row['mean']:.1f}"] in lines
    for family in grid["families"]:
        mean = family["mean"]
        shown = f"{100 * mean['value']:.1f} [{100 * mean['low']:.1f}, {100 * mean['high']:.1f}]"
        assert [family["name"], "mean", *shown.split()] in lines


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((EMPTY, "--corruptions"), ("unknown corruption results", EMPTY)),
        ((EMPTY, "--plot", "out.svg"), ("unknown corruption results", EMPTY)),
        (("small.z.d", "--corruptions"), ("unknown model 'small.z.d'", "did you mean")),
        ((MODEL, "--plot", "out.png"), ("plot: got 'out.png'", ".svg")),
        ((MODEL, "--plot", "nowhere/out.svg"), ("plot: got 'nowhere/out.svg'", "a folder that exists")),
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
