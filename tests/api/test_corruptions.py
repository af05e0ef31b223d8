"""A model by corruption and severity: JSON, picture and page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from bs4 import BeautifulSoup

from api.app import create_app
from api.schemas import GridsModel
from api.source import StoreSource
from harness.curves import CorruptionGrid, corruption_curves
from harness.outcome import BlockOutcome, Cost
from harness.plots import corruptions_svg
from harness.spec import CorruptionSpec, DataRef, EvaluationSpec, ModelRef
from harness.storage import open_store
from harness.storage.queries import Reader
from tests.api.client import Client
from tests.api.fake import FORMULA, GRIDLESS, HOSTILE, FakeSource, corruption_grid

MODEL = "small_cnn.supervised.digits"
PATH = f"/api/v1/models/{MODEL}/corruptions"


def test_json_is_the_grids_as_declared(client: Client, source: FakeSource) -> None:
    """The answer is the grids' plain data, and it has the shape that OpenAPI promises."""
    answer = client.get(PATH)
    assert answer.status_code == 200
    body = answer.json()
    assert body["grids"] == [grid.to_dict() for grid in source.corruption_curves(MODEL)]
    assert GridsModel.model_validate(body, strict=True).model_dump() == body


def test_any_name_has_its_grids(client: Client) -> None:
    """Names with slashes, quotes and markup are one segment of the path."""
    for name in (HOSTILE, FORMULA):
        path = f"/api/v1/models/{quote(name, safe='')}/corruptions"
        assert client.get(path).json()["model"] == name
        root = ET.fromstring(client.get(path + ".svg").content)  # noqa: S314 - our own text
        assert name in root.attrib["aria-label"]
        assert not [node for node in root.iter() if node.tag.endswith("script")]


def test_the_picture_can_be_narrowed(client: Client) -> None:
    """All grids by default, one by suite or data set; unknown ones are 404, unknown parameters 422."""
    grids = FakeSource().corruption_curves(MODEL)
    assert client.get(PATH + ".svg").text == corruptions_svg(grids)
    assert client.get(PATH + ".svg?suite=imagecorruptions").text == corruptions_svg(grids[:1])
    assert client.get(PATH + ".svg?suite=cifar-10-c%40any").text == corruptions_svg(grids[1:])
    assert client.get(PATH + ".svg?dataset=digits&suite=").text == corruptions_svg(grids[:1])
    for query in ("suite=imagecorruption", "dataset=digit", "suite=cifar-10-c%40any&dataset=digits"):
        answer = client.get(f"{PATH}.svg?{query}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "UnknownName")
    assert client.get(PATH + ".svg?suit=x").status_code == 422
    assert client.get(PATH + "?suite=imagecorruptions").status_code == 422


def test_a_model_without_results_has_no_grids(client: Client) -> None:
    """An empty list for machines, no picture, and no section on the page."""
    path = f"/api/v1/models/{GRIDLESS}/corruptions"
    assert client.get(path).json() == {"model": GRIDLESS, "grids": []}
    answer = client.get(path + ".svg")
    assert answer.status_code == 404
    assert GRIDLESS in answer.json()["error"]["message"]
    assert "Under corruptions" not in client.get(f"/models/{GRIDLESS}").text
    assert client.get("/api/v1/models/nobody/corruptions").status_code == 404


def test_the_page_shows_pictures_and_the_same_numbers(client: Client) -> None:
    """A heat map and four panels a grid, each with a label; the table beneath has the exact values."""
    soup = BeautifulSoup(client.get(f"/models/{MODEL}").text, "html.parser")
    sections = soup.select(".grid")
    assert [section["data-suite"] for section in sections] == ["imagecorruptions", "cifar-10-c@any"]
    assert sections[1]["data-dataset"] == HOSTILE
    grid = corruption_grid(MODEL)
    for section in sections:
        assert len(section.select(".heat svg[role=img][aria-label]")) == 1
        assert [str(figure["data-family"]) for figure in section.select(".panels figure")] == list(grid.families)
        assert not section.select("[style], script, style")
        rows = {
            head.get_text(): [str(cell["data-value"]) for cell in line.select("td.num")]
            for line in section.select("details tbody tr")
            for head in line.select("th")
        }
        for name, cells in grid.cells.items():
            values = [cell.value for cell in cells if cell] + [grid.means[name]]
            assert rows[name.replace("_", " ")] == [repr(value) for value in values]
        noise = grid.family_values["noise"]
        assert noise is not None
        assert rows["mean of noise"][-1] == repr(noise.value)
        for link in section.select("p.about a"):
            assert client.get(str(link["href"])).status_code == 200


def test_grids_are_kept_until_an_image_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second answer computes nothing; after another image it is computed anew."""
    path = str(tmp_path / "results.db")
    model = ModelRef(name="small.x.d", digest="a" * 64)
    data = DataRef(name="d", split="test", digest="d" * 64, images=9, classes=10)
    made = CorruptionSpec(suite="imagecorruptions", name="fog", severity=1, seed=0, version="imagecorruptions-1.1.2/1")
    spec = EvaluationSpec(model=model, data=data, perturbation=made)
    cost = Cost(seconds=1.0, forwards=1, backwards=0, device="cpu", batch_size=9)
    store = open_store(path)
    card = {"name": model.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
    store.put_model(card, model.digest, blob=None)
    run = store.start_run("test", {})

    def add(start: int, right: bool) -> None:
        bits = np.array([right])
        store.put_outcome(
            run,
            spec,
            BlockOutcome(
                evaluation=spec.digest, block=0, start=start, stop=start + 1, correct=bits, cost=cost, detail=None
            ),
        )

    calls: list[str] = []

    def counted(opened: Reader, name: str) -> tuple[CorruptionGrid, ...]:
        calls.append(name)
        return corruption_curves(opened, name)

    monkeypatch.setattr("api.source.corruption_curves", counted)
    client = Client(create_app(source=StoreSource(path)))

    def served() -> float:
        cell = client.get(f"/api/v1/models/{model.name}/corruptions").json()["grids"][0]["corruptions"][9]["cells"][0]
        return float(cell["value"])

    add(0, True)
    assert (served(), served(), len(calls)) == (1.0, 1.0, 1)
    add(1, False)
    assert (served(), len(calls)) == (0.5, 2)
    store.close()
