"""A model's measures over HTTP: JSON, picture and page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from urllib.parse import quote

import pytest
from bs4 import BeautifulSoup

from api.schemas import MeasuresModel
from harness.measure_plot import measures_svg
from tests.api.client import Client
from tests.api.fake import GRIDLESS, HOSTILE, FakeSource
from tests.api.measured import LAYERS

MODEL = "small_cnn.supervised.digits"
PATH = f"/api/v1/models/{MODEL}/measures"


def test_json_is_the_tables_as_declared(client: Client, source: FakeSource) -> None:
    """The answer is the tables' plain data, and it has the shape that OpenAPI promises."""
    answer = client.get(PATH)
    assert answer.status_code == 200
    body = answer.json()
    assert body["measures"] == [table.to_dict() for table in source.measures(MODEL)]
    assert MeasuresModel.model_validate(body, strict=True).model_dump() == body
    assert body["measures"][0]["layers"][1]["values"]["selectivity_index"]["mean"] == 0.30


@pytest.mark.parametrize("name", [MODEL, HOSTILE])
def test_picture(client: Client, source: FakeSource, name: str) -> None:
    """The SVG is that of the command line, well-formed whatever the names are."""
    answer = client.get(f"/api/v1/models/{quote(name, safe='')}/measures.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.text == measures_svg(source.measures(name))
    root = ET.fromstring(answer.text)  # noqa: S314 - our own text
    assert not [item for item in root.iter() if item.tag.endswith(("script", "}b"))]


def test_nothing_measured(client: Client) -> None:
    """An empty list, no picture, no section on the page; an unknown model is unknown."""
    assert client.get(f"/api/v1/models/{GRIDLESS}/measures").json() == {"model": GRIDLESS, "measures": []}
    assert client.get(f"/api/v1/models/{GRIDLESS}/measures.svg").status_code == 404
    assert BeautifulSoup(client.get(f"/models/{GRIDLESS}").text, "html.parser").find(id="measures") is None
    assert client.get("/api/v1/models/nobody/measures").status_code == 404
    assert client.get(f"{PATH}?limit=3").status_code == 422


@pytest.mark.parametrize("name", [MODEL, HOSTILE])
def test_page_shows_pictures_and_exact_numbers(client: Client, source: FakeSource, name: str) -> None:
    """A figure a panel, a table a measure; each cell holds the exact number; strange layer names are text."""
    page = BeautifulSoup(client.get(f"/models/{quote(name, safe='')}").text, "html.parser")
    section = page.find(id="measures").find_parent("section")  # type: ignore[union-attr]
    assert section is not None
    # dimensionality on 500 and on 100 images are two pictures
    assert len(section.find_all("figure")) == 3
    for table in source.measures(name):
        shown = section.find("table", {"data-measure": table.measure})
        assert shown is not None
        rows = shown.find_all("tr")[1:]
        heads = [head.text for row in rows for head in row.find_all("th")]
        assert heads == ["network", *(LAYERS if table.layers else ())]
        for row, values in zip(rows, [table.network, *table.layers.values()], strict=True):
            cells = [float(str(cell["data-value"])) for cell in row.find_all("td")]
            assert cells == [values[quantity].mean for quantity in table.quantities]
    assert section.find("b") is None
