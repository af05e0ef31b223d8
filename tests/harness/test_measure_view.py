"""Measures out of the store: which evaluation counts, what stands behind each number; tables, plain data, picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from api.app import create_app
from api.settings import ApiSettings
from harness.errors import UnknownName
from harness.measure_plot import Panel, measures_svg, panels
from harness.measure_view import choose_tables, model_measures
from harness.measures import MEASURES
from harness.outcome import BlockOutcome, Cost, Failure, MeasureValue
from harness.spec import DataRef, EvaluationSpec, MeasureSpec, ModelRef, Scalar, freeze_options
from harness.storage import open_store
from harness.storage.store import Store
from tests.api.client import Client
from tests.api.measured import LAYERS, measured
from tests.cli.plugin import Cli

MODEL = ModelRef(name="small.x.d", digest="a" * 64)
DATA = DataRef(name="d", split="test", digest="d" * 64, images=400, classes=10)
COST = Cost(seconds=1.0, forwards=1, backwards=0, device="cpu", batch_size=10)


def value(layer: str, quantity: str, mean: float, units: list[float] | None = None) -> MeasureValue:
    """A measured value."""
    array = None if units is None else np.array(units, dtype=np.float32)
    return MeasureValue(layer=layer, quantity=quantity, mean=mean, units=array)


def measurement(measure: str, *, stop: int = 200, version: str | None = None, **given: Scalar) -> EvaluationSpec:
    """What is measured of the model, on the leading `stop` images."""
    options = MEASURES.get(measure).complete(given)
    return EvaluationSpec(
        model=MODEL,
        data=DATA,
        perturbation=MeasureSpec(
            measure=measure,
            version=version or MEASURES.get(measure).version_with(options),
            start=0,
            stop=stop,
            options=freeze_options(options),
        ),
    )


def put(
    store: Store,
    measure: str,
    values: tuple[MeasureValue, ...],
    *,
    stop: int = 200,
    version: str | None = None,
    **given: Scalar,
) -> str:
    """Store a measurement; the digest of its evaluation."""
    spec = measurement(measure, stop=stop, version=version, **given)
    empty = np.zeros(0, dtype=np.bool_)
    outcome = BlockOutcome(
        evaluation=spec.digest, block=0, start=0, stop=stop, correct=empty, cost=COST, measures=values
    )
    store.put_outcome(store.start_run("test", {}), spec, outcome)
    return spec.digest


def selectivity(shift: float) -> tuple[MeasureValue, ...]:
    """Two layers, of three and two units, one left out."""
    return (
        value("", "selectivity_index", 0.3 + shift),
        value("one", "selectivity_index", 0.2 + shift, [0.1, 0.2, 0.3]),
        value("two", "selectivity_index", 0.4 + shift, [0.4, float("nan")]),
    )


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A store with measures of one model and another model without any."""
    path = tmp_path / "made.db"
    store = open_store(str(path))
    for name, digest in ((MODEL.name, MODEL.digest), ("small.y.d", "b" * 64)):
        card = {"name": name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
        store.put_model(card, digest, blob=None)
    put(store, "selectivity", selectivity(0.0), stop=300)
    put(store, "selectivity", selectivity(0.1), stop=100)
    put(store, "selectivity", selectivity(0.2), stop=400, version="0")
    change = tuple(
        value(layer, "change_fraction_95", float(np.mean(units)), units if layer else None)
        for layer, units in (("", [0.25]), ("one", [0.1, 0.2]), ("two", [0.3, 0.4]))
    )
    put(store, "dimensionality_corruptions", change, corruptions="snow,fog", severities="3")
    put(store, "dimensionality_corruptions", change, corruptions="snow", severities="3")
    put(store, "margin", (value("", "margin", 2.0, [1.0, 2.0, 3.0]), value("", "margin_p50", 2.0)))
    store.close()
    return path


def test_what_counts(db: Path) -> None:
    """Today's version before a larger range, the larger range before the smaller; options are measures of their own."""
    with_store = open_store(str(db), read_only=True)
    tables = model_measures(with_store, MODEL.name)
    with_store.close()
    assert [table.measure for table in tables] == [
        "selectivity",
        "dimensionality_corruptions",
        "dimensionality_corruptions",
        "margin",
    ]
    first = tables[0]
    assert (first.images, first.version, first.current, first.dataset_images) == (300, "1", True, 400)
    assert first.network["selectivity_index"].mean == 0.3
    assert list(first.layers) == ["one", "two"]
    one, two = (values["selectivity_index"].spread for values in first.layers.values())
    assert one is not None
    assert two is not None
    assert (one.n, two.n) == (3, 1)
    assert (one.p50, two.p05, two.p95) == pytest.approx((0.2, 0.4, 0.4))
    # two conditions by name, in the suite's order (snow before fog), mean over both layers
    both = next(table for table in tables if len(table.conditions) == 2)
    assert {name: round(row["change_fraction_95"], 6) for name, row in both.conditions.items()} == {
        "snow/3": 0.2,
        "fog/3": 0.3,
    }
    assert next(table for table in tables if table.measure == "margin").layers == {}


def test_an_older_version_shows_where_there_is_no_other(tmp_path: Path) -> None:
    """It is marked as outdated."""
    store = open_store(str(tmp_path / "old.db"))
    card = {"name": MODEL.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
    store.put_model(card, MODEL.digest, blob=None)
    put(store, "selectivity", selectivity(0.0), version="0")
    (table,) = model_measures(store, MODEL.name)
    store.close()
    assert not table.current
    assert "1" not in table.version


def test_a_failed_measurement_hides_no_stored_one(tmp_path: Path) -> None:
    """A larger range that failed has an evaluation without values; the smaller one that went well is shown."""
    store = open_store(str(tmp_path / "failed.db"))
    card = {"name": MODEL.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
    store.put_model(card, MODEL.digest, blob=None)
    put(store, "selectivity", selectivity(0.0), stop=100)
    failed = measurement("selectivity", stop=400)
    failure = Failure(evaluation=failed.digest, block=0, start=0, stop=400, message="out of memory", traceback="")
    store.put_failure(store.start_run("test", {}), failed, failure)
    (table,) = model_measures(store, MODEL.name)
    store.close()
    assert (table.images, table.network["selectivity_index"].mean) == (100, 0.3)


def test_command_line_and_http_give_the_same(cli: Cli, db: Path) -> None:
    """JSON of `show --measures --json` is that of the API; the SVG is byte for byte the same, and well-formed."""
    answer = cli("show", MODEL.name, "--measures", "--json", "--plot", "out.svg", "--db", str(db))
    assert answer.code == 0, answer.err
    client = Client(create_app(ApiSettings(db=str(db))))
    assert json.loads(answer.out) == client.get(f"/api/v1/models/{MODEL.name}/measures").json()
    picture = client.get(f"/api/v1/models/{MODEL.name}/measures.svg").text
    assert Path("out.svg").read_text("utf-8") == picture + "\n"
    ET.fromstring(picture)  # noqa: S314 - our own text
    assert client.get(f"/models/{MODEL.name}").status_code == 200


def test_tables_show_layers_and_network(cli: Cli, db: Path) -> None:
    """One line a layer with its numbers, the network's first; numbers of the logits one a line."""
    out = cli("show", MODEL.name, "--measures", "--db", str(db)).out
    lines = [line.split() for line in out.splitlines()]
    for expected in (["network", "0.3"], ["one", "0.2"], ["two", "0.4"], ["margin_p50", "2"]):
        assert expected in lines
    assert "300 of 400 images" in out
    assert "corruptions snow,fog, seed 0, severities 3, suite cifar-10-c" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("small.y.d", "--measures"), ("unknown measures of model", "small.y.d")),
        (("small.z.d", "--measures"), ("unknown model 'small.z.d'",)),
        ((MODEL.name, "--measures", "--corruptions"), ("--corruptions --measures", "one of them at a time")),
    ],
)
def test_what_cannot_be_shown_is_refused(
    cli: Cli, db: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    """Exit code 2 and one clear line."""
    answer = cli("show", *arguments, "--db", str(db))
    assert (answer.code, answer.out) == (2, "")
    assert all(part in answer.err for part in parts), answer.err


def test_nothing_is_no_table() -> None:
    """Choosing from nothing is an unknown name."""
    with pytest.raises(UnknownName, match="measures of model 'x'"):
        choose_tables((), "x")


def numbers(panel: Panel) -> dict[str, tuple[float, ...]]:
    """Lines of a panel by name."""
    return {line.name: line.values for line in panel.lines}


def test_panels_hold_the_right_series() -> None:
    """Floor beside the index on as many images; clean and change in one panel a range of images."""
    index, change, attack = panels(measured("m"))
    assert index.layers == LAYERS
    assert index.means == pytest.approx((0.15, 0.30, 0.45))
    assert numbers(index)["floor (labels shuffled)"] == pytest.approx((0.03, 0.06, 0.09))
    assert list(numbers(change)) == ["clean", "change, 2 corruptions"]
    assert numbers(change)["clean"] == pytest.approx((0.1, 0.2, 0.3))
    assert numbers(attack)["change, PGD-40 Linf 4/255"] == pytest.approx((0.24, 0.48, 0.72))


def test_picture_places_values_by_height() -> None:
    """Dots of a rising series rise: y falls in equal steps, between the axis's ends; titles tell the exact numbers."""
    root = ET.fromstring(measures_svg(measured("m")))  # noqa: S314 - our own text
    space = "{http://www.w3.org/2000/svg}"
    dots = [item for item in root.iter(f"{space}circle") if item.find(f"{space}title") is not None]
    floor = [dot for dot in dots if "floor" in str(dot.findtext(f"{space}title"))]
    heights = [float(dot.attrib["cy"]) for dot in floor]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.02)
    assert heights[0] > heights[1] > heights[2]
    # the scale ends at 1, the least of 1, 2, 5 above the whisker of .45 * 1.9, and is 170 high
    assert heights[0] - heights[1] == pytest.approx(0.03 * 170, abs=0.02)
    titles = [item.text or "" for item in root.iter(f"{space}title")]
    assert any(text.startswith("stem.relu: mean 0.15, median 0.15") for text in titles)
