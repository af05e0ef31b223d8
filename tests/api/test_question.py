"""The picture of the board's question over HTTP and on the page."""

from __future__ import annotations

import re
from dataclasses import replace

from bs4 import BeautifulSoup

from api.app import create_app
from api.settings import ApiSettings
from harness.leaderboard import BoardQuery
from harness.scatter import scatter
from harness.scatter_plot import scatter_svg
from tests.api.client import Client
from tests.api.fake import BOARD, HOSTILE, FakeSource

URL = "/api/v1/leaderboard.svg?benchmark=digits"


def test_route_gives_the_picture(client: Client) -> None:
    """The same bytes as the function's; JSON is linked, the file has a name, columns and family can be chosen."""
    answer = client.get(URL)
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert 'filename="digits-1-digits.svg"' in answer.headers["content-disposition"]
    assert "/api/v1/leaderboard?benchmark=digits" in answer.headers["link"]
    board = FakeSource().load_board
    assert answer.text == scatter_svg(scatter(board(BoardQuery(benchmark="digits"))))
    chosen = client.get(f"{URL}&x=selectivity&y=clean_accuracy&colour=pgd_accuracy_linf&family=supervised").text
    expected = scatter(
        board(BoardQuery(benchmark="digits", family="supervised")),
        x="selectivity",
        y="clean_accuracy",
        colour="pgd_accuracy_linf",
    )
    assert chosen == scatter_svg(expected)


def test_the_linked_json_answers(client: Client) -> None:
    """The address in `Link` has what a board can be asked for, and none of the picture's own parameters."""
    answer = client.get(f"{URL}&x=selectivity&y=clean_accuracy&colour=selectivity&q=a&family=adversarial")
    found = re.search(r"<([^>]+)>", answer.headers["link"])
    assert found is not None
    assert found[1].endswith("/api/v1/leaderboard?benchmark=digits&family=adversarial")
    linked = client.get(found[1])
    assert linked.status_code == 200
    assert {row["family"] for row in linked.json()["rows"]} == {"adversarial"}


def test_search_reaches_the_linked_picture(client: Client) -> None:
    """The link beside the page's picture shows the same models, searched text and all."""

    def shown(text: str) -> list[str]:
        picture = BeautifulSoup(text, "html.parser").select("svg title")
        return [title.get_text() for title in picture if "%" in title.get_text()]

    page = BeautifulSoup(client.get("/?benchmark=digits&q=supervised").text, "html.parser")
    question = page.select_one("section.question")
    assert question is not None
    link = question.select_one("a")
    assert link is not None
    linked = shown(client.get(str(link["href"])).text)
    assert linked == shown(str(question.find("svg")))
    assert 0 < len(linked) < len(shown(client.get(URL).text))


def test_board_without_the_columns_says_what_it_has() -> None:
    """No usual column and none named: 422 with the columns to choose from; the page leaves the picture out."""
    names = {"corruption_accuracy"}
    bare = replace(BOARD, columns=tuple(column for column in BOARD.columns if column.name not in names))
    client = Client(create_app(ApiSettings(db="none.db"), FakeSource({"digits": bare})))
    answer = client.get(URL)
    assert answer.status_code == 422
    assert "clean_accuracy" in answer.json()["error"]["message"]
    assert BeautifulSoup(client.get("/?benchmark=digits").text, "html.parser").select_one("section.question") is None


def test_page_shows_the_matching_models(client: Client) -> None:
    """The page has the picture of the models that match its filter, with their names, and links the file."""
    whole = BeautifulSoup(client.get("/?benchmark=digits").text, "html.parser").select_one("section.question")
    assert whole is not None
    titles = [title.get_text() for title in whole.select("svg title")]
    assert any(title.startswith(HOSTILE) for title in titles)
    assert not whole.select("script")
    link = whole.select_one("a")
    assert link is not None
    assert client.get(str(link["href"])).text.count("<circle") == str(whole.find("svg")).count("<circle")
    page = client.get("/?benchmark=digits&family=adversarial").text
    some = BeautifulSoup(page, "html.parser").select_one("section.question")
    assert some is not None
    shown = [title.get_text() for title in some.select("svg title") if "%" in title.get_text()]
    assert shown
    assert all("(adversarial)" in title for title in shown)
