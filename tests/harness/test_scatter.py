"""One score against another: which models are shown, where their dots lie, and what strangers' names may do."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InvalidArgument, UnknownName
from harness.leaderboard import Board, Column
from harness.scatter import Scatter, scatter, usual_scatter
from harness.scatter_plot import dot_title, nice_step, scatter_svg
from harness.svg import SCALE, channels, heat
from tests.api.fake import BOARD

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def board() -> Board:
    """A board with six models, hostile names among them, one model without robust accuracy."""
    return BOARD


def parsed(picture: str) -> ET.Element:
    """The document, if it is well-formed."""
    return ET.fromstring(picture.encode("utf-8"))  # noqa: S314 - our own text


def shapes(picture: str) -> list[tuple[str, ET.Element]]:
    """(title, mark) of each dot."""
    root = parsed(picture)
    groups = [group for group in root.iter(f"{SVG}g") if any("p-mark" in str(item.get("class")) for item in group)]
    return [(str(group.findtext(f"{SVG}title")), group[1]) for group in groups if group.find(f"{SVG}text") is None]


def centre(mark: ET.Element) -> tuple[float, float]:
    """The middle of a circle or regular polygon."""
    if mark.tag == f"{SVG}circle":
        return float(mark.get("cx", "")), float(mark.get("cy", ""))
    points = [tuple(map(float, pair.split(","))) for pair in mark.get("points", "").split()]
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def test_usual_columns(board: Board) -> None:
    """Corruption accuracy across, robust accuracy upwards, selectivity as colour; models without both are named."""
    found = scatter(board)
    assert (found.x.name, found.y.name) == ("corruption_accuracy", "robust_accuracy_linf")
    assert found.colour is not None
    assert found.colour.name == "selectivity"
    rows = {str(row["model"]): row for row in board.rows}
    assert {dot.model for dot in found.dots} | set(found.left_out) == set(rows)
    for dot in found.dots:
        assert dot.x.value == rows[dot.model]["corruption_accuracy"]
        assert dot.y.low == rows[dot.model]["robust_accuracy_linf_low"]
    for name in found.left_out:
        row = rows[name]
        assert row["robust_accuracy_linf_n"] != 32 or row["corruption_accuracy_n"] != 500
    assert usual_scatter(board) == found


def test_other_columns_and_refusals(board: Board) -> None:
    """Any score column; a wrong name gets the nearest; a board without the usual ones says what it has."""
    found = scatter(board, x="selectivity", y="clean_accuracy", colour="pgd_accuracy_linf")
    assert (found.x.name, found.y.name, found.colour and found.colour.name) == (
        "selectivity",
        "clean_accuracy",
        "pgd_accuracy_linf",
    )
    with pytest.raises(
        UnknownName, match=r"score column for x 'corruption_accurcy'.*did you mean 'corruption_accuracy'"
    ):
        scatter(board, x="corruption_accurcy")
    with pytest.raises(UnknownName, match="score column for colour"):
        scatter(board, colour="model")
    bare = replace(board, columns=tuple(column for column in board.columns if column.name == "clean_accuracy"))
    with pytest.raises(InvalidArgument, match="x: got None, expected one of the board's score columns: clean_accuracy"):
        scatter(bare)
    assert usual_scatter(bare) is None
    assert usual_scatter(replace(board, rows=())) is None
    plain = replace(board, columns=tuple(column for column in board.columns if column.name != "selectivity"))
    assert scatter(plain).colour is None


def test_dots_lie_where_their_scores_are(board: Board) -> None:
    """Coordinates are one straight line of the scores on each axis; titles hold names and scores."""
    found = scatter(board)
    drawn = {title: centre(mark) for title, mark in shapes(scatter_svg(found))}
    assert set(drawn) == {dot_title(found, dot) for dot in found.dots}
    for axis in (0, 1):
        pairs = sorted(((dot.x, dot.y)[axis].value or 0.0, drawn[dot_title(found, dot)][axis]) for dot in found.dots)
        (low, start), (high, end) = pairs[0], pairs[-1]
        assert (end > start) == (axis == 0)
        for value, place in pairs:
            assert place == pytest.approx(start + (value - low) / (high - low) * (end - start), abs=0.05)


def test_colours_follow_the_scale(board: Board) -> None:
    """Dark is the least selective, light the most; models without the measure are grey, and the key says so."""
    found = scatter(board)
    rows = tuple(
        {**row, "selectivity": None, "selectivity_n": None} if at == 1 else row for at, row in enumerate(board.rows)
    )
    picture = scatter_svg(scatter(replace(board, rows=rows)))
    fills = {title.split(" ")[0]: mark.get("fill") for title, mark in shapes(picture)}
    measured = {dot.model: dot.colour.value for dot in found.dots if dot.colour is not None and dot.colour.value}
    unmeasured = str(board.rows[1]["model"])
    values = {name: value for name, value in measured.items() if name != unmeasured}
    assert fills[min(values, key=lambda name: values[name]).split(" ")[0]] == SCALE[0]
    assert fills[max(values, key=lambda name: values[name]).split(" ")[0]] == SCALE[-1]
    grey = fills[unmeasured]
    assert grey is not None
    assert max(channels(grey)) - min(channels(grey)) <= 12
    colourful = [max(channels(heat(at / 50))) - min(channels(heat(at / 50))) for at in range(51)]
    assert min(colourful) > 40
    assert "not measured" in picture


def test_hostile_names_stay_text(board: Board) -> None:
    """Markup in names of models, families and boards comes out as text; the document stays well-formed."""
    evil = "</title><script>alert(1)</script>&\"'\x00\u202e"
    rows = tuple({**row, "model": f"{evil}{at}", "family": evil} for at, row in enumerate(board.rows))
    picture = scatter_svg(scatter(replace(board, rows=rows, dataset=evil, benchmark=evil)))
    root = parsed(picture)
    assert not list(root.iter(f"{SVG}script"))
    assert "<script" not in picture
    assert "\x00" not in picture
    assert any("<script>alert(1)</script>" in title for title, _ in shapes(picture))


def test_axes_say_what_is_shown(board: Board) -> None:
    """Unit, threat model where the title lacks it, and that values are upper bounds where any is."""
    texts = [item.text for item in parsed(scatter_svg(scatter(board, y="pgd_accuracy_linf"))).iter(f"{SVG}text")]
    assert "PGD-20 accuracy, Linf 4/255 (%, upper bounds)" in texts
    assert "Corruption accuracy (%)" in texts
    assert "Class selectivity" in [
        item.text for item in parsed(scatter_svg(scatter(board, x="selectivity"))).iter(f"{SVG}text")
    ]


def test_names_beside_few_dots_only(board: Board) -> None:
    """Up to ten models have their names as text; of twenty, only titles do."""
    few = scatter(board)
    many = replace(few, dots=tuple(replace(few.dots[0], model=f"model_number_{at}") for at in range(20)))
    texts = [item.text or "" for item in parsed(scatter_svg(few)).iter(f"{SVG}text")]
    assert any(dot.model in texts for dot in few.dots)
    assert not [item for item in parsed(scatter_svg(many)).iter(f"{SVG}text") if "model_number" in str(item.text)]
    assert len(shapes(scatter_svg(many))) == 20


@pytest.mark.parametrize("count", [0, 1])
def test_empty_and_single(board: Board, count: int) -> None:
    """No dot and one dot are pictures too."""
    found = scatter(board)
    picture = scatter_svg(replace(found, dots=found.dots[:count]))
    assert len(shapes(picture)) == count
    assert "nan" not in picture


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1e6, 1e6)), min_size=1, max_size=6))
def test_any_scores_fit_inside(values: list[tuple[float, float]]) -> None:
    """Whatever the scores, dots and ticks are inside the picture and ticks are few."""
    board = BOARD
    number = Column(name="any", title="Any", help="", kind="number", score=True)
    rows = tuple(
        {**board.rows[0], "model": f"m{at}", "clean_accuracy": share, "clean_accuracy_low": share,
         "clean_accuracy_high": share, "any": value}
        for at, (share, value) in enumerate(values)
    )  # fmt: skip
    found: Scatter = scatter(replace(board, columns=(*board.columns, number), rows=rows), x="clean_accuracy", y="any")
    picture = scatter_svg(found)
    for _, mark in shapes(picture):
        x, y = centre(mark)
        assert 60 <= x <= 534
        assert 50 <= y <= 404
    assert sum("p-rule" in str(item.get("class")) for item in parsed(picture).iter()) <= 20


@given(st.floats(1e-9, 1e9))
def test_nice_steps(least: float) -> None:
    """1, 2, 2.5 or 5 times a power of ten, at least what was asked for and at most 2.5 times it."""
    step = nice_step(least)
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - good) for good in (1, 2, 2.5, 5, 10)) < 1e-6
    assert least * (1 - 1e-8) <= step <= 2.5 * least
