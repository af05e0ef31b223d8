"""A model under attack: JSON, picture and page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from urllib.parse import quote

from bs4 import BeautifulSoup

from api.schemas import RobustnessModel
from harness.robustness_plot import robustness_svg
from tests.api.client import Client
from tests.api.fake import FORMULA, GRIDLESS, HOSTILE, FakeSource

MODEL = "small_cnn.supervised.digits"
PATH = f"/api/v1/models/{MODEL}/robustness"


def test_json_is_the_boards_as_declared(client: Client, source: FakeSource) -> None:
    """The answer is the boards' plain data, and it has the shape that OpenAPI promises."""
    body = client.get(PATH).json()
    assert body == {"model": MODEL, "boards": [board.to_dict() for board in source.robustness(MODEL)]}
    assert RobustnessModel.model_validate(body, strict=True).model_dump() == body
    assert body["boards"][0]["curves"][0]["points"][0]["eps"] == 0
    assert {item["bound"] for item in body["boards"][0]["threats"]} == {"exact", "upper"}


def test_any_name_has_its_results(client: Client) -> None:
    """Names with slashes, quotes and markup are one segment of the path."""
    for name in (HOSTILE, FORMULA):
        path = f"/api/v1/models/{quote(name, safe='')}/robustness"
        assert client.get(path).json()["model"] == name
        root = ET.fromstring(client.get(path + ".svg").content)  # noqa: S314 - our own text
        assert name in root.attrib["aria-label"]
        assert not [node for node in root.iter() if node.tag.endswith("script")]


def test_the_picture_can_be_narrowed(client: Client) -> None:
    """All boards by default, one by benchmark or data set; unknown ones are 404, unknown parameters 422."""
    boards = FakeSource().robustness(MODEL)
    assert client.get(PATH + ".svg").text == robustness_svg(boards)
    for query in ("benchmark=digits%401", "benchmark=digits", "dataset=digits&benchmark="):
        assert client.get(f"{PATH}.svg?{query}").text == robustness_svg(boards[:1])
    assert client.get(PATH + ".svg?benchmark=tiny").text == robustness_svg(boards[1:])
    for query in ("benchmark=digits%402", "dataset=digit", "benchmark=tiny&dataset=digits"):
        answer = client.get(f"{PATH}.svg?{query}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "UnknownName")
    assert client.get(PATH + ".svg?suite=x").status_code == 422
    assert client.get(PATH + "?benchmark=digits").status_code == 422


def test_a_model_that_was_not_attacked_has_no_section(client: Client) -> None:
    """An empty list for machines, no picture, and no section on the page."""
    path = f"/api/v1/models/{GRIDLESS}/robustness"
    assert client.get(path).json() == {"model": GRIDLESS, "boards": []}
    answer = client.get(path + ".svg")
    assert answer.status_code == 404
    assert GRIDLESS in answer.json()["error"]["message"]
    assert "Under attack" not in client.get(f"/models/{GRIDLESS}").text
    assert client.get("/api/v1/models/nobody/robustness").status_code == 404


def test_the_page_shows_pictures_and_the_same_numbers(client: Client) -> None:
    """A panel a norm with a label; tables with every threat, union and curve; upper bounds led by "<="."""
    soup = BeautifulSoup(client.get(f"/models/{MODEL}").text, "html.parser")
    sections = soup.select(".attacks")
    boards = FakeSource().robustness(MODEL)
    assert [section["data-benchmark"] for section in sections] == ["digits@1", "tiny@2"]
    assert sections[1]["data-dataset"] == HOSTILE
    for section, board in zip(sections, boards, strict=True):
        assert [figure["data-norm"] for figure in section.select("figure")] == list(board.norms)
        assert len(section.select("figure svg[role=img][aria-label]")) == len(board.norms)
        assert not section.select("[style], script, style")
        lines = section.select("table.threats tbody tr")
        told = [(item.robust, item.bound) for item in board.threats] + [(u.robust, u.bound) for u in board.unions]
        for line, (value, bound) in zip(lines, told, strict=True):
            cell = line.select("td.num")[0]
            assert cell["data-value"] == repr(value.value)
            assert cell.get_text().startswith("<=") == (bound == "upper")
        curves = section.select("details table")
        for table, curve in zip(curves, board.curves, strict=True):
            cells = table.select("td.num")
            assert [cell["data-value"] for cell in cells] == [repr(value.value) for _, value in curve.points]
            assert [cell.get_text().startswith("<=") for cell in cells[:2]] == [False, curve.bound == "upper"]
        for link in section.select("p.about a"):
            assert client.get(str(link["href"])).status_code == 200
    assert "16 of 32" in sections[0].get_text()
    assert "pgd Linf 4/255, fast L2 0.5, fast L1 12" in sections[0].get_text()
