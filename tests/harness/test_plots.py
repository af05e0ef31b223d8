"""Pictures of grids: well-formed, escaped, legible, and telling the grid's numbers."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.corruptions.suites import BENCHMARK
from harness.curves import CorruptionGrid, GridValue
from harness.plots import corruptions_svg, family_curves_svg, heat_map_svg, severity_curves_svg
from harness.svg import PAPER, SERIES, contrast, heat, ink_on, luminance
from tests.api.fake import HOSTILE, corruption_grid

NAMESPACE = "{http://www.w3.org/2000/svg}"
GRID = corruption_grid("small_cnn.supervised.digits")


def with_cell(grid: CorruptionGrid, name: str, at: int, value: GridValue | None) -> CorruptionGrid:
    """The same grid with another cell."""
    row = list(grid.cells[name])
    row[at] = value
    return replace(grid, cells={**grid.cells, name: tuple(row)})


def texts(svg: str) -> list[str]:
    """What an SVG shows in words, without tooltips."""
    return [node.text or "" for node in ET.fromstring(svg).iter(f"{NAMESPACE}text")]  # noqa: S314 - our own text


def pictures(grid: CorruptionGrid) -> list[str]:
    """Every kind of picture of a grid."""
    return [
        heat_map_svg(grid),
        heat_map_svg(grid, titled=False),
        severity_curves_svg(grid),
        *(family_curves_svg(grid, family) for family in grid.families),
        corruptions_svg([grid, grid]),
    ]


@pytest.mark.parametrize("name", [HOSTILE, "a\x00b\x1b[31m\u202e]]>\ud800", "&lt;", "x" * 500])
def test_hostile_names_stay_text(name: str) -> None:
    """Whatever the names, each picture is well-formed XML in UTF-8 without scripts, styles, links or handlers."""
    grid = replace(GRID, model=name, suite=name, dataset=name, versions=(name,))
    for svg in pictures(grid):
        root = ET.fromstring(svg.encode("utf-8"))  # noqa: S314 - our own text
        tags = {node.tag.removeprefix(NAMESPACE) for node in root.iter()}
        assert tags <= {"svg", "g", "rect", "text", "title", "line", "circle", "polyline", "polygon"}
        attributes = {name for node in root.iter() for name in node.attrib}
        assert not {name for name in attributes if name.startswith("on") or name in ("style", "href")}
    if name == HOSTILE:
        assert HOSTILE in ET.fromstring(heat_map_svg(grid)).attrib["aria-label"]  # noqa: S314 - our own text


def test_the_same_grid_gives_the_same_bytes() -> None:
    """Pictures hold no dates and no order of chance."""
    assert pictures(GRID) == pictures(corruption_grid("small_cnn.supervised.digits"))


def test_the_heat_map_tells_every_number() -> None:
    """Its numbers, row by row, are the grid's: cells and means of 19 corruptions, then severities and the whole."""
    shown = texts(heat_map_svg(GRID))
    for name, row in GRID.cells.items():
        at = shown.index(name.replace("_", " "))
        mean = GRID.means[name]
        assert mean is not None
        values = [cell.value for cell in row if cell] + [mean]
        assert shown[at + 1 : at + 7] == [f"{100 * value:.1f}" for value in values]
    at = shown.index("mean of 15")
    assert GRID.overall is not None
    means = [mean for mean in (*GRID.severity_means, GRID.overall.value) if mean is not None]
    assert shown[at + 1 : at + 7] == [f"{100 * value:.1f}" for value in means]
    for family, value in GRID.family_values.items():
        assert value is not None
        assert shown[shown.index(family) + 1] == f"{100 * value.value:.1f}"


def test_missing_cells_are_dashes_and_break_the_curve() -> None:
    """Nothing is drawn where nothing was computed: a dash in the map, two lines instead of one in the curves."""

    def lines(grid: CorruptionGrid) -> int:
        return severity_curves_svg(grid).count("<polyline")

    broken = with_cell(GRID, "fog", 2, None)
    shown = texts(heat_map_svg(broken))
    assert shown[shown.index("fog") + 3] == "–"
    assert lines(GRID) == len(BENCHMARK)
    assert lines(broken) == len(BENCHMARK) + 1
    empty = replace(
        GRID,
        clean=None,
        cells=dict.fromkeys(GRID.cells, (None,) * 5),
        means=dict.fromkeys(GRID.cells),
        severity_means=(None,) * 5,
        family_values=dict.fromkeys(GRID.families),
        overall=None,
    )
    for svg in pictures(empty):
        ET.fromstring(svg)  # noqa: S314 - our own text
    assert "speckle noise" not in texts(heat_map_svg(empty))
    assert "not complete" in " ".join(texts(heat_map_svg(empty)))


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    """Four lines that end at 0, or at 100 %, have their names a line of text apart and inside the panel."""
    for value in (0.0, 1.0):
        cell = GridValue(value=value, low=0.0, high=1.0, n=9)
        grid = replace(GRID, cells={**GRID.cells, **dict.fromkeys(GRID.families["blur"], (cell,) * 5)})
        root = ET.fromstring(family_curves_svg(grid, "blur"))  # noqa: S314 - our own text
        named = [node for node in root.iter(f"{NAMESPACE}text") if "p-name" in node.attrib["class"]]
        heights = sorted(float(node.attrib["y"]) for node in named)
        assert len(heights) == 4
        assert all(second - first >= 13 for first, second in itertools.pairwise(heights))
        assert 0 < heights[0] < heights[-1] < float(root.attrib["height"])


def test_colours_can_be_read() -> None:
    """On the scale lightness rises all the way; numbers on it, and labels in the lines' colours, reach 4.5 to 1."""
    colours = [heat(at / 200) for at in range(201)]
    assert all(luminance(a) <= luminance(b) for a, b in itertools.pairwise(colours))
    assert luminance(colours[-1]) > 10 * luminance(colours[0])
    assert min(contrast(ink_on(colour), colour) for colour in colours) >= 4.5
    assert min(contrast(colour, PAPER) for colour in SERIES) >= 4.5
    assert (heat(-1), heat(2)) == (colours[0], colours[-1])
    assert contrast("#ffffff", "#000000") == pytest.approx(21)  # WCAG 2.1's own extreme
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)  # its best known near miss
