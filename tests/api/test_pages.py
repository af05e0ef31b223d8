"""The pages: readable without scripts, safe against hostile names, and saying what they do not know."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from bs4 import BeautifulSoup, Tag

from api.app import create_app
from api.view import Fact, card_facts, family_hue
from harness.catalogue import BenchmarkSummary
from tests.api.client import Client
from tests.api.fake import BOARD, EMPTY, FORMULA, HOSTILE, ROWS, FakeSource

MODEL = "small_cnn.supervised.digits"


def page(client: Client, path: str) -> BeautifulSoup:
    """A page that was answered with 200."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return BeautifulSoup(answer.text, "html.parser")


def models(soup: BeautifulSoup) -> list[str]:
    """The model names on a board's page, in their order."""
    return [str(cell["data-value"]) for cell in soup.select("#board tbody th[data-column=model]")]


def cell(soup: BeautifulSoup, model: str, column: str) -> Tag:
    """One cell of a board's page."""
    for line in soup.select("#board tbody tr:not(.nothing)"):
        if [str(head["data-value"]) for head in line.select("[data-column=model]")] == [model]:
            return line.select(f"[data-column={column}]")[0]
    raise AssertionError(model)


def test_the_front_page_is_the_board_that_has_models(client: Client) -> None:
    """Without a query the first filled board is shown, by its ranking column."""
    soup = page(client, "/")
    assert soup.h1 is not None
    assert "Handwritten digits" in soup.h1.get_text()
    assert models(soup)[0] == "small_cnn.adversarial.digits"
    chosen = soup.select("select[name=benchmark] option[selected]")
    assert [option["value"] for option in chosen] == ["digits"]


@pytest.mark.parametrize("path", ["/", f"/models/{quote(HOSTILE, safe='')}", f"/models/{quote(FORMULA, safe='')}"])
def test_hostile_names_stay_text(client: Client, path: str) -> None:
    """No name becomes an element, an attribute, a script or a script's address."""
    soup = page(client, path)
    assert [str(tag.get("src")).split("?")[0] for tag in soup.find_all("script")] in ([], ["/static/board.js"])
    assert not [tag for tag in soup.find_all("b", string="bold") if not tag.has_attr("class")]
    for tag in soup.find_all(True):
        assert not [name for name in tag.attrs if name.startswith("on") or name == "style"]
        assert not str(tag.get("href", "")).lower().startswith("javascript")
    assert HOSTILE in soup.get_text() or FORMULA in soup.get_text()


def test_links_lead_to_the_model_whatever_its_name(client: Client) -> None:
    """Each name on the board is a link to a page with that name as its title."""
    for link in page(client, "/").select("#board tbody th a"):
        title = page(client, str(link["href"])).h1
        assert title is not None
        assert title.get_text() == link.get_text()


def test_nothing_is_loaded_from_elsewhere(client: Client) -> None:
    """Scripts, styles and images come from the service itself, under a name that changes with them."""
    for path in ("/", f"/models/{MODEL}"):
        soup = page(client, path)
        tags = [*soup.select("script[src]"), *soup.select("img[src]"), *soup.select("link[rel=stylesheet]")]
        addresses = [str(tag.get("src") or tag.get("href")) for tag in tags]
        assert addresses
        for address in addresses:
            assert address.startswith("/static/")
            assert client.get(address).status_code == 200
        assert not soup.select("script:not([src])")
        assert not soup.select("style")


def test_sorting_works_as_plain_links(client: Client) -> None:
    """Each header is a link; the sorted column says so and its link turns the order round."""
    soup = page(client, "/?benchmark=digits&sort=clean_accuracy&order=desc")
    head = soup.select_one("th[aria-sort]")
    assert head is not None
    assert (head["data-column"], head["aria-sort"]) == ("clean_accuracy", "descending")
    link = head.select_one("a")
    assert link is not None
    turned = page(client, "/" + str(link["href"]))
    assert models(soup)[0] == "resnet20.supervised.digits"
    assert models(turned)[0] == HOSTILE
    assert len(soup.select("#board thead th a")) == len(soup.select("#board thead th"))


def test_filters_work_as_a_plain_form(client: Client) -> None:
    """The form's fields are query parameters, and untouched fields change nothing."""
    assert models(page(client, "/?benchmark=digits&family=supervised&q=")) == [MODEL, "resnet20.supervised.digits"]
    assert models(page(client, "/?benchmark=digits&family=&q=RESNET+superv")) == ["resnet20.supervised.digits"]
    assert models(page(client, "/?benchmark=digits&q=low_budget")) == [HOSTILE]
    nothing = page(client, "/?benchmark=digits&q=zzz").select_one("tr.nothing")
    assert nothing is not None
    assert "hidden" not in nothing.attrs
    form = page(client, "/?benchmark=digits&family=supervised&sort=rank&order=asc").select_one("form")
    assert form is not None
    assert form["method"] == "get"
    sent = {str(tag["name"]): tag.get("value") for tag in form.select("input[type=hidden]")}
    assert sent == {"sort": "rank", "order": "asc"}


def test_pages_of_a_long_board(client: Client) -> None:
    """Walking the next links shows every model once, and links keep the filter."""
    seen: list[str] = []
    path = "/?benchmark=digits&limit=4"
    for _ in range(3):
        soup = page(client, path)
        assert [region["data-complete"] for region in soup.select("#board")] == ["false"]
        seen += models(soup)
        link = soup.select_one("a[rel=next]")
        if link is None:
            break
        path = "/" + str(link["href"])
        assert parse_qs(urlsplit(path).query)["limit"] == ["4"]
    assert sorted(seen) == sorted(str(row["model"]) for row in ROWS)


def test_ranks_are_ranges_where_models_tie(client: Client) -> None:
    """1 for a clear winner, 2-4 for a tie, a dash for an unranked row."""
    soup = page(client, "/")
    assert cell(soup, "small_cnn.adversarial.digits", "rank").get_text(strip=True) == "1"
    assert cell(soup, MODEL, "rank").get_text(strip=True) == "2–4"
    assert cell(soup, FORMULA, "rank").get_text(strip=True) == "–"


def test_cells_say_what_they_rest_on(client: Client) -> None:
    """Value, interval, bound, progress and absence are told apart."""
    soup = page(client, "/")
    assert cell(soup, MODEL, "clean_accuracy").get_text(" ", strip=True) == "98.4 +0.8 −1.5"
    assert cell(soup, MODEL, "pgd_accuracy_linf").get_text(" ", strip=True) == "≤ 24.8 +4.0 −3.6"
    assert cell(soup, FORMULA, "robust_accuracy_linf").get_text(" ", strip=True) == "≤ 25.0 20 of 32"
    assert cell(soup, FORMULA, "selectivity").get_text(strip=True) == "–"


def test_the_best_values_are_marked_on_every_view(client: Client) -> None:
    """The best of the whole board is marked, under a filter too; partial cells never are."""
    assert "best" in cell(page(client, "/"), "resnet20.supervised.digits", "clean_accuracy")["class"]
    filtered = page(client, "/?benchmark=digits&family=selectivity")
    assert not filtered.select("td.best")
    marked = {str(found["data-column"]) for found in page(client, "/").select("td.best")}
    assert marked == {"clean_accuracy", "corruption_accuracy", "pgd_accuracy_linf", "robust_accuracy_linf"}


def test_bars_are_as_long_as_the_values(client: Client) -> None:
    """A bar's length in percent is the value; partial and missing cells have none."""
    soup = page(client, "/")
    bar = cell(soup, MODEL, "clean_accuracy").select_one("svg .fill")
    assert bar is not None
    assert float(str(bar["width"])) == pytest.approx(98.4)
    span = cell(soup, MODEL, "clean_accuracy").select_one("svg .span")
    assert span is not None
    assert float(str(span["x"])) == pytest.approx(96.88)
    assert float(str(span["width"])) == pytest.approx(99.19 - 96.88)
    assert cell(soup, FORMULA, "robust_accuracy_linf").select_one("svg") is None


def test_the_table_is_described_for_everyone(client: Client) -> None:
    """Headers have a scope, columns their help, and a table explains threat models and images."""
    soup = page(client, "/")
    assert {head.get("scope") for head in soup.select("thead th")} == {"col"}
    assert {head.get("scope") for head in soup.select("tbody th")} == {"row"}
    about = soup.select_one("details.columns")
    assert about is not None
    text = about.get_text(" ", strip=True)
    assert all(part in text for part in ("robust_accuracy_linf", "Linf", "4/255", "AutoAttack", "PGD-20"))
    assert all(tag.find_parent("label") for tag in soup.select("form select, form input[type=search]"))


def test_an_empty_board_says_how_to_fill_it(client: Client) -> None:
    """The command is on the page, for this benchmark."""
    assert "robustboard run --benchmark cifar10" in page(client, "/?benchmark=cifar10").get_text()


def test_a_store_without_benchmarks_says_how_to_start() -> None:
    """Not an error, and not an empty table."""
    client = Client(create_app(source=FakeSource(boards={})))
    assert "robustboard quickstart" in page(client, "/").get_text()


def test_other_data_sets_of_a_benchmark_can_be_chosen() -> None:
    """With two data sets there is a choice; with one there is none."""

    class Two(FakeSource):
        def list_benchmarks(self) -> tuple[BenchmarkSummary, ...]:
            return tuple(replace(item, datasets=("digits", "mine")) for item in super().list_benchmarks())

    soup = page(Client(create_app(source=Two())), "/?benchmark=digits")
    assert [option["value"] for option in soup.select("select[name=dataset] option")] == ["", "mine"]
    assert not page(Client(create_app(source=FakeSource())), "/").select("select[name=dataset]")


def test_model_page_tells_scores_card_flags_and_evaluations(client: Client) -> None:
    """Values are the board's; the card's nested entries have dotted names; evidence of flags is shown."""
    soup = page(client, f"/models/{MODEL}")
    scores = {str(item["data-column"]): item for item in soup.select("ul.scores li")}
    row = next(row for row in ROWS if row["model"] == MODEL)
    assert {name: float(str(item["data-value"])) for name, item in scores.items()} == {
        name: row[name] for name in scores
    }
    assert len(scores) == 5
    text = soup.get_text(" ", strip=True)
    for part in (
        "recipe.alpha",
        "-2.0",
        "<b>bold</b>",
        "near_zero_gradients",
        "gaussian_noise, severity 3",
        "32 of 500",
    ):
        assert part in text
    assert [link["href"] for link in soup.select("dl.card a")] == ["https://example.org/paper"]


def test_only_https_addresses_of_a_card_become_links() -> None:
    """Other schemes, and text that merely begins like an address, stay text."""
    card = {
        "a": "https://example.org/x",
        "b": "javascript:alert(1)",
        "c": "http://x",
        "d": "https://x y",
        "e": None,
        "f": 0,
    }
    facts = card_facts(card)
    assert [fact.name for fact in facts if fact.href] == ["a"]
    assert facts[-1] == Fact(name="f", text="0", href=None)
    assert "e" not in {fact.name for fact in facts}


def test_families_keep_their_colour() -> None:
    """The design's families have colours of their own; any other name has one of the spare ones."""
    known = [family_hue(name) for name in ("supervised", "adversarial", "selectivity", "contrastive", "density")]
    assert known == [0, 1, 2, 3, 4]
    assert {family_hue(f"family{i}") for i in range(200)} == {5, 6, 7, 8, 9}


def test_pages_work_behind_a_prefix() -> None:
    """Served under a prefix, every link of ours begins with it."""
    app = create_app(source=FakeSource())
    app.root_path = "/bench"
    soup = BeautifulSoup(Client(app).get("/bench/").text, "html.parser")
    links = [
        str(tag.get("href") or tag.get("src")) for tag in soup.select("a[href], link[href], script[src], img[src]")
    ]
    assert all(link.startswith(("/bench/", "?", "#")) for link in links)


def test_fake_boards_are_what_the_tests_think() -> None:
    """The boards in memory have the keys that the contract asks for."""
    from harness.formats import field_names

    assert all(tuple(row) == field_names(BOARD) for row in ROWS)
    assert EMPTY.rows == ()
