"""The board over HTTP: its envelope, its parameters, and that every form of it says the same."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

from harness.types import Cell
from tests.api.client import Client
from tests.api.fake import BOARD, COLUMNS, FORMULA, ROWS

URL = "/api/v1/leaderboard"
SCORES = [column for column in COLUMNS if column.score]


def envelope(client: Client, query: str = "benchmark=digits") -> dict[str, Any]:
    """The JSON answer to a query."""
    answer = client.get(f"{URL}?{query}")
    assert answer.status_code == 200, answer.text
    fields = answer.json()
    assert isinstance(fields, dict)
    return fields


def by_model(client: Client) -> dict[str, dict[str, Cell]]:
    """The JSON rows by model name."""
    return {row["model"]: row for row in envelope(client)["rows"]}


def test_envelope_has_exactly_the_agreed_keys(client: Client) -> None:
    """One envelope on the command line and over HTTP."""
    assert list(envelope(client)) == ["benchmark", "version", "columns", "total", "rows"]
    assert envelope(client)["total"] == len(ROWS)


def test_rows_are_the_stored_values_to_the_last_digit(client: Client) -> None:
    """JSON gives back equal floats, nulls and texts, whatever the names hold."""
    rows = by_model(client)
    assert rows == {row["model"]: row for row in ROWS}


def test_row_keys_follow_the_columns(client: Client) -> None:
    """Fixed columns first, then each score followed by its companions."""
    fields = envelope(client)
    expected: list[str] = []
    for column in fields["columns"]:
        expected.append(column["name"])
        if column["name"] in {score.name for score in SCORES}:
            expected += [column["name"] + part for part in ("_low", "_high", "_n", "_bound")]
    assert all(list(row) == expected for row in fields["rows"])


def test_columns_say_what_was_measured(client: Client) -> None:
    """A column carries its threat model and the number of images."""
    column = next(item for item in envelope(client)["columns"] if item["name"] == "robust_accuracy_linf")
    assert column == {
        "name": "robust_accuracy_linf",
        "title": "Robust accuracy",
        "help": "Robust accuracy on the test images.",
        "kind": "fraction",
        "higher_is_better": True,
        "norm": "Linf",
        "eps": "4/255",
        "attack": "AutoAttack",
        "images": 32,
        "source": None,
    }


def test_csv_equals_json_cell_by_cell(client: Client) -> None:
    """Every CSV cell reads back as the JSON value; only a formula's name is defused."""
    answer = client.get(f"{URL}.csv?benchmark=digits")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    expected = envelope(client)["rows"]
    assert len(lines) == len(expected)
    for line, row in zip(lines, expected, strict=True):
        assert list(line) == list(row)
        for name, value in row.items():
            if value is None:
                assert line[name] == ""
            elif isinstance(value, str):
                assert line[name] == (f"'{value}" if value == FORMULA else value)
            else:
                assert json.loads(line[name]) == value


def test_csv_lines_end_as_rfc_4180_asks(client: Client) -> None:
    """Line ends are CR LF, and no bare LF is left."""
    text = client.get(f"{URL}.csv?benchmark=digits").text
    assert text.endswith("\r\n")
    assert "\n" not in text.replace("\r\n", "")


def test_html_equals_json_cell_by_cell(client: Client) -> None:
    """The page's data attributes hold the exact values, in the order of the JSON rows."""
    page = BeautifulSoup(client.get("/?benchmark=digits").text, "html.parser")
    found = page.select("#board tbody tr:not(.nothing)")
    rows = envelope(client)["rows"]
    assert len(found) == len(rows)
    for line, row in zip(found, rows, strict=True):
        cells = {cell["data-column"]: cell for cell in line.select("[data-column]")}
        for name in ("rank", "model", "family", "parameters", "status", "flags"):
            assert cells[name]["data-value"] == ("" if row[name] is None else str(row[name]))
        for column in SCORES:
            cell = cells[column.name]
            for attribute, part in (("value", ""), ("low", "_low"), ("high", "_high"), ("n", "_n")):
                text = str(cell[f"data-{attribute}"])
                assert (json.loads(text) if text else None) == row[column.name + part]


def shown(text: str, row: dict[str, Cell], name: str, percent: bool) -> None:
    """Check a people's cell against the exact value at the precision it is shown with."""
    value, images = row[name], row[f"{name}_n"]
    total = next(column.images for column in COLUMNS if column.name == name)
    if value is None:
        assert text == "-"
        return
    assert text.startswith("<=") == (row[f"{name}_bound"] == "upper")
    partial = isinstance(images, int) and total is not None and images < total
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    exact = [value, images, total] if partial else [value, row[f"{name}_low"], row[f"{name}_high"]]
    scale, half = (100, 0.0500001) if percent else (1, 0.000500001)
    assert partial == (" of " in text)
    for place, (number, known) in enumerate(zip(numbers, exact, strict=True)):
        assert isinstance(known, (int, float))
        assert abs(number - known * (1 if partial and place else scale)) <= half


def rendered_markdown(text: str) -> list[list[str]]:
    """The body cells of the table as a Markdown renderer shows them."""
    html = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    page = BeautifulSoup(html, "html.parser")
    assert page.find(["a", "script", "em", "code", "s", "img"]) is None
    return [[cell.get_text() for cell in line.find_all("td")] for line in page.select("tbody tr")]


def test_markdown_equals_json_at_shown_precision(client: Client) -> None:
    """Rendered, the Markdown shows the same names and rounded numbers, and no name became markup."""
    lines = rendered_markdown(client.get(f"{URL}.md?benchmark=digits").text)
    rows = envelope(client)["rows"]
    assert [line[1] for line in lines] == [row["model"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        for place, column in enumerate(SCORES, start=5):
            shown(line[place], row, column.name, column.kind == "fraction")


def plain_latex(cell: str) -> str:
    """What a LaTeX cell prints, by a reading of its own of the few commands that may occur."""
    for command, meaning in (
        (r"$\leq$\,", "<="),
        (r"{\char34}", '"'),
        (r"\textbackslash{}", "\0"),
        (r"\textasciicircum{}", "^"),
        (r"\textasciitilde{}", "~"),
        (r"\textless{}", "<"),
        (r"\textgreater{}", ">"),
        (r"\textbar{}", "|"),
    ):
        cell = cell.replace(command, meaning)
    cell = re.sub(r"\\textbf\{([^}]*)\}", r"\1", cell)
    cell = re.sub(r"\{\\small ([^}]*)\}", r"\1", cell)
    cell = re.sub(r"(?<!\\)\{\}", "", cell)
    cell = re.sub(r"\\([{}$&#%_])", r"\1", cell)
    assert "\\" not in cell
    return cell.replace("\0", "\\").strip()


def test_latex_equals_json_at_shown_precision(client: Client) -> None:
    """Read back, the LaTeX rows show the same names and rounded numbers."""
    text = client.get(f"{URL}.tex?benchmark=digits").text
    body = text.split("\\midrule\n")[1].split("\\bottomrule")[0]
    lines = [re.split(r"(?<!\\) & ", line.removesuffix(" \\\\")) for line in body.strip().split("\n")]
    rows = envelope(client)["rows"]
    assert [plain_latex(line[1]) for line in lines] == [row["model"] for row in rows]
    for line, row in zip(lines, rows, strict=True):
        for place, column in enumerate(SCORES, start=4):
            shown(plain_latex(line[place]), row, column.name, column.kind == "fraction")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("column", ["clean_accuracy", "robust_accuracy_linf", "rank", "model", "parameters"])
def test_sorting_puts_missing_values_last(client: Client, column: str, order: str) -> None:
    """Every form is sorted as asked; nulls come last either way."""
    values = [row[column] for row in envelope(client, f"benchmark=digits&sort={column}&order={order}")["rows"]]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=order == "desc")
    assert values[len(known) :] == [None] * (len(values) - len(known))


def test_family_filter_and_window(client: Client) -> None:
    """A family's rows only; the total counts them before limit and offset."""
    fields = envelope(client, "benchmark=digits&family=supervised&limit=1&offset=1")
    assert fields["total"] == 2
    assert [row["model"] for row in fields["rows"]] == ["resnet20.supervised.digits"]


def test_empty_form_fields_count_as_not_given(client: Client) -> None:
    """A plain HTML form sends its untouched fields as empty text."""
    assert envelope(client, "benchmark=digits&family=&sort=&order=&dataset=") == envelope(client)


def test_an_empty_board_keeps_its_header(client: Client) -> None:
    """No rows is an answer: the columns are there in JSON and in CSV."""
    assert envelope(client, "benchmark=cifar10")["rows"] == []
    text = client.get(f"{URL}.csv?benchmark=cifar10").text
    assert text.count("\r\n") == 1
    assert text.startswith("rank,rank_low,rank_high,model,")


def test_a_version_can_be_asked_for(client: Client) -> None:
    """`digits@1` is the board that `digits` means today."""
    assert envelope(client, "benchmark=digits@1") == envelope(client)
    assert envelope(client)["version"] == BOARD.version
