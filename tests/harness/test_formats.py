"""Boards as text: exact for machines, readable for people, and harmless whatever a name holds."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.formats import (
    MISSING,
    best_values,
    clean,
    envelope,
    escape_latex,
    escape_markdown,
    field_names,
    rank_text,
    score_cell,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    to_rows,
)
from harness.leaderboard import Board, Column, ColumnKind
from harness.types import Cell

NAMES = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\\{}$&#%_^~<>|\"'`-?!,*[]()@:=+\t\r\n\x1b\u202e"), max_size=40
)
VALUES = st.floats(0, 1)


def column(name: str, *, kind: ColumnKind = "fraction", images: int | None = 100) -> Column:
    """A score column where higher is better."""
    return Column(name=name, title=name.title(), help="", kind=kind, score=True, higher_is_better=True, images=images)


FIXED = tuple(
    Column(name=name, title=name, help="", kind="integer" if "rank" in name or name == "parameters" else "text")
    for name in ("rank", "rank_low", "rank_high", "model", "family", "architecture", "parameters", "status", "flags")
)
SCORE = column("clean_accuracy")


def line(model: str, value: Cell = 0.5, **cells: Cell) -> dict[str, Cell]:
    """A row with one score of 100 images."""
    row: dict[str, Cell] = {"rank": 1, "rank_low": 1, "rank_high": 1, "model": model, "family": "f"}
    row |= {"architecture": "a", "parameters": 1234567, "status": "verified", "flags": "", "clean_accuracy": value}
    row |= {"clean_accuracy_low": 0.4, "clean_accuracy_high": 0.6, "clean_accuracy_n": 100}
    return row | {"clean_accuracy_bound": "exact"} | cells


def board(*rows: dict[str, Cell], columns: tuple[Column, ...] = (*FIXED, SCORE)) -> Board:
    """A board of these rows."""
    return Board(
        benchmark="b",
        version=2,
        dataset="d",
        title="A & B",
        description="",
        ranked_by="clean_accuracy",
        columns=columns,
        total=len(rows),
        rows=rows,
        sort="rank",
        order="asc",
        families=("f",),
    )


def test_the_envelope_has_the_agreed_keys_and_order() -> None:
    """benchmark, version, columns, total, rows; rows in the order of the columns with their companions."""
    fields = envelope(board(line("m")))
    assert list(fields) == ["benchmark", "version", "columns", "total", "rows"]
    assert tuple(fields["rows"][0]) == field_names(board())
    assert field_names(board())[-5:] == (
        "clean_accuracy",
        "clean_accuracy_low",
        "clean_accuracy_high",
        "clean_accuracy_n",
        "clean_accuracy_bound",
    )


@given(NAMES, VALUES)
def test_json_gives_everything_back(name: str, value: float) -> None:
    """Any name and any float survive JSON unchanged."""
    row = line(name, value)
    assert json.loads(to_json(board(row))) == envelope(board(row))
    assert json.loads(to_json(board(row)))["rows"][0]["clean_accuracy"] == value


def test_json_refuses_what_is_no_number() -> None:
    """NaN is not JSON: it fails here, not in the reader."""
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(board(line("m", float("nan"))))


@given(NAMES, VALUES)
@example("=1+1", 0.1)
@example("-2", 0.1)
@example("\tx", 0.1)
def test_csv_gives_everything_back_and_runs_nothing(name: str, value: float) -> None:
    """A reader gets the name, defused by an apostrophe where a spreadsheet would run it, and the exact float."""
    text = to_csv(board(line(name, value)))
    header, cells = list(csv.reader(io.StringIO(text, newline="")))
    row = dict(zip(header, cells, strict=True))
    assert float(row["clean_accuracy"]) == value
    assert row["model"] == (f"'{name}" if name[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"} and name else name)
    assert text.endswith("\r\n")


def test_csv_keeps_numbers_unquoted_and_negative() -> None:
    """The guard is for text: a negative number stays a number."""
    columns = (*FIXED, column("delta", kind="number", images=None))
    row = line("m") | {"delta": -0.25, "delta_low": None, "delta_high": None, "delta_n": None, "delta_bound": None}
    assert to_csv(board(row, columns=columns)).split("\r\n")[1].endswith(",-0.25,,,,")


@given(NAMES)
@example("www.example.org")
@example("&amp;")
@example("![x](y)")
def test_markdown_shows_names_as_they_stand(name: str) -> None:
    """A GitHub-flavoured renderer shows exactly the cleaned name as plain text."""
    shown = clean(name)
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parseInline("x" + escape_markdown(shown) + "x")
    children = tokens[0].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == f"x{shown}x"


@given(NAMES)
def test_markdown_rows_keep_their_cells(name: str) -> None:
    """No name makes or loses a cell, a row or a line."""
    html = MarkdownIt("gfm-like", {"linkify": False}).render(to_markdown(board(line(name), line("second"))))
    assert html.count("<tr>") == 3
    assert html.count("<td") == 2 * 8


PRINTED = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"{\char34}": '"',
    **{f"\\{char}": char for char in "{}$&#%_"},
    "{}": "",
}
"""What the commands that may occur print, as LaTeX's own documentation has it."""


@given(NAMES)
@example("\\input{x}")
@example("a--b ``c'' ?`d !`e ,,f")
def test_latex_holds_no_command_of_a_strangers(name: str) -> None:
    """Outside of the fixed replacements nothing special and no ligature is left; reading them back gives the name."""
    shown = clean(name)
    text = escape_latex(shown)
    pattern = "|".join(re.escape(token) for token in PRINTED)
    rest = re.sub(pattern, "", text)
    assert not set(rest) & set('\\{}$&#%_^~<>|"')
    assert not re.search(r"--|,,|''|``|[?!]`", re.sub(pattern, "\0", text))
    assert re.sub(pattern, lambda match: PRINTED[match[0]], text) == shown


def test_latex_is_a_booktabs_table_without_a_date() -> None:
    """Caption with benchmark and version, escaped; best values bold; the same text every time."""
    text = to_latex(board(line("m_1", 0.5), line("m_2", 0.25)))
    assert "\\caption{A \\& B (\\texttt{b@2 on d})." in text
    assert [part in text for part in ("\\toprule", "\\midrule", "\\bottomrule")] == [True] * 3
    assert "m\\_1" in text
    assert "\\textbf{50.0} {\\small [40.0, 60.0]}" in text
    assert "\\textbf{25.0}" not in text
    assert not re.search(r"20\d\d", text)


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        ({}, "50.0 [40.0, 60.0]"),
        ({"clean_accuracy_bound": "upper"}, "<=50.0 [40.0, 60.0]"),
        ({"clean_accuracy_n": 24}, "50.0 (24 of 100)"),
        ({"clean_accuracy_n": 24, "clean_accuracy_bound": "upper"}, "<=50.0 (24 of 100)"),
        ({"clean_accuracy_low": None}, "50.0"),
        ({"clean_accuracy": None, "clean_accuracy_n": 0}, "-"),
        ({"clean_accuracy": None, "clean_accuracy_n": None}, "-"),
        ({"clean_accuracy": None, "clean_accuracy_n": 24}, "(24 of 100)"),
        ({"clean_accuracy": 1.0, "clean_accuracy_high": 1.0}, "100.0 [40.0, 100.0]"),
    ],
)
def test_people_read_percent_intervals_bounds_and_progress(cells: dict[str, Cell], shown: str) -> None:
    """Worked examples of a fraction's cell."""
    table = to_rows(board(line("m", **cells)))
    assert table.headers[4] == "Clean_Accuracy (%)"
    assert table.rows[0][4] == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.35117, "0.351"), (0.0, "0.000"), (-1.5, "-1.500"), (123456.0, "1.23e+05"), (0.00001234, "1.23e-05")],
)
def test_numbers_keep_three_digits(value: float, shown: str) -> None:
    """Numbers without a unit are not percent."""
    cell = score_cell({"x": value}, column("x", kind="number"))
    assert cell.text() == shown


@pytest.mark.parametrize(
    ("rank", "low", "high", "shown"),
    [(1, 1, 1, "1"), (2, 1, 3, "1-3"), (2, None, None, "2"), (None, None, None, MISSING), (None, 1, 3, MISSING)],
)
def test_ranks_are_ranges_where_models_tie(rank: Cell, low: Cell, high: Cell, shown: str) -> None:
    """A range where the bounds differ, a dash where unranked."""
    assert rank_text({"rank": rank, "rank_low": low, "rank_high": high}) == shown


def test_best_values_are_of_full_cells_and_exact_ones_first() -> None:
    """Partial cells never win; a bound wins only where nothing is exact; direction decides; no direction, no best."""
    partial = line("a", 0.9, clean_accuracy_n=10)
    bound = line("b", 0.8, clean_accuracy_bound="upper")
    assert best_values(board(partial, bound, line("c", 0.7))) == {"clean_accuracy": 0.7}
    assert best_values(board(partial, bound)) == {"clean_accuracy": 0.8}
    assert best_values(board(partial)) == {}
    lower = (*FIXED, replace(SCORE, higher_is_better=False))
    assert best_values(board(line("c", 0.7), line("d", 0.2), columns=lower)) == {"clean_accuracy": 0.2}
    neutral = (*FIXED, replace(SCORE, higher_is_better=None))
    assert best_values(board(line("c", 0.7), columns=neutral)) == {}


def test_a_cut_board_marks_nothing_as_best() -> None:
    """The best of the first rows need not be the best of the board."""
    assert "\\textbf" not in to_latex(replace(board(line("m")), total=2))


@given(NAMES)
def test_terminal_text_steers_no_terminal(name: str) -> None:
    """No control character, line break or change of direction reaches the terminal."""
    shown = to_rows(board(line(name))).rows[0][1]
    assert len(shown) == len(name)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown)


def test_the_terminal_table_is_lean() -> None:
    """Names begin with the architecture, ranks hold their bounds; numbers are set flush right."""
    table = to_rows(board(line("m")), intervals=False)
    assert table.headers == ("rank", "model", "family", "parameters", "Clean_Accuracy (%)", "status", "flags")
    assert table.rows == (("1", "m", "f", "1,234,567", "50.0", "verified", ""),)
    assert table.right == (True, False, False, True, True, False, False)
