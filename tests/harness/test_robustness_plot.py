"""Pictures of robust accuracy over eps: well-formed, escaped, and telling the numbers that they are made of."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from harness.robustness_plot import norm_svg, robustness_svg, shown, union_line
from tests.api.attacks import attacked, plain, share, threat
from tests.api.fake import HOSTILE

NAMESPACE = "{http://www.w3.org/2000/svg}"
BOARD = attacked("small_cnn.supervised.digits")


def parsed(svg: str) -> ET.Element:
    """The picture as a tree."""
    return ET.fromstring(svg.encode("utf-8"))  # noqa: S314 - our own text


def words(svg: str, tag: str = "text") -> list[str]:
    """What an SVG says in its texts or tooltips."""
    return [node.text or "" for node in parsed(svg).iter(f"{NAMESPACE}{tag}")]


def corners(svg: str, tag: str, series: int) -> list[tuple[float, float]]:
    """Points of the first line or band of a series."""
    kind = {"polyline": "p-line", "polygon": "p-band"}[tag]
    node = next(item for item in parsed(svg).iter(f"{NAMESPACE}{tag}") if item.get("class") == f"{kind} s{series}")
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in node.attrib["points"].split())]


@pytest.mark.parametrize("name", [HOSTILE, "a\x00b\x1b[31m\u202e]]>\ud800", "&lt;", "x" * 500])
def test_hostile_names_stay_text(name: str) -> None:
    """Whatever the names, each picture is well-formed XML in UTF-8 without scripts, styles, links or handlers."""
    hostile = replace(BOARD, model=name, dataset=name, threats=(replace(BOARD.threats[0], attack=name),), curves=())
    for svg in (robustness_svg([hostile, BOARD]), norm_svg(hostile, "Linf")):
        root = parsed(svg)
        tags = {node.tag.removeprefix(NAMESPACE) for node in root.iter()}
        assert tags <= {"svg", "g", "rect", "text", "title", "line", "circle", "polyline", "polygon"}
        attributes = {key for node in root.iter() for key in node.attrib}
        assert not {key for key in attributes if key.startswith("on") or key in ("style", "href")}
        assert root.attrib["role"] == "img"


def test_the_same_results_give_the_same_bytes() -> None:
    """Pictures hold no dates and no order of chance."""
    assert robustness_svg([BOARD]) == robustness_svg([attacked("small_cnn.supervised.digits")])


def test_a_curve_is_a_step_function() -> None:
    """Between two radii the first one's height is kept; the line goes through every point, inside its band."""
    svg = norm_svg(BOARD, "Linf")
    curve = BOARD.curves[0]
    line = corners(svg, "polyline", 0)
    assert len(line) == 2 * len(curve.points) - 1
    tops = line[::2]
    heights = [y for _, y in tops]
    scale = (heights[-1] - heights[0]) / (curve.points[0][1].value - curve.points[-1][1].value)
    for (x, y), (eps, value) in zip(tops, curve.points, strict=True):
        assert y == pytest.approx(heights[0] + scale * (curve.points[0][1].value - value.value), abs=0.02)
        assert x == pytest.approx(tops[0][0] + (tops[-1][0] - tops[0][0]) * eps / curve.eps, abs=0.02)
    for (x, y), before, after in zip(line[1::2], tops, tops[1:], strict=False):
        assert (x, y) == (after[0], before[1])
    band = corners(svg, "polygon", 0)
    assert len(band) == 2 * len(line)
    upper, lower = band[: len(line)], band[len(line) :][::-1]
    assert all(high[1] <= middle[1] <= low[1] for high, middle, low in zip(upper, line, lower, strict=True))


def test_marks_tell_bounds_by_shape_and_word() -> None:
    """A triangle and "<=" for upper bounds, a dot without it for others; tooltips have intervals and images."""
    told = " | ".join(words(norm_svg(BOARD, "Linf")))
    assert "bisect (fast) at 15/255: <= 26.0 (22.3 to 30.0)" in told
    assert "pgd at 4/255: 62.0 (57.7 to 66.1)" in told
    tips = words(norm_svg(BOARD, "Linf"), "title")
    assert any("16 images" in tip and tip.startswith("autoattack:reference, eps 4/255: 56.2 %") for tip in tips)
    assert any("an upper bound: a stronger attack may lower it" in tip for tip in tips)
    triangles = [
        node for node in parsed(norm_svg(BOARD, "L1")).iter(f"{NAMESPACE}polygon") if "p-dot" in str(node.get("class"))
    ]
    assert len(triangles) == 2  # the mark and its key
    assert not list(parsed(norm_svg(plain("m"), "L1")).iter(f"{NAMESPACE}polygon"))
    with pytest.raises(KeyError):
        norm_svg(plain("m"), "L2")


def test_axes_have_short_names() -> None:
    """255ths in Linf, decimals elsewhere, the largest radius at the end."""
    assert [word for word in words(norm_svg(BOARD, "Linf")) if word.endswith("/255")] == [
        f"{at}/255" for at in (3, 6, 9, 12, 15)
    ]
    assert {"0", "0.3", "0.6", "0.9", "1.2", "1.5"} <= set(words(norm_svg(BOARD, "L2")))
    board = replace(plain("m"), threats=(threat("a", "pgd", "Linf", 0.123456, 3),))
    assert "0.123" in words(norm_svg(board, "Linf"))


def test_the_whole_picture_names_unions_and_every_board() -> None:
    """Union with its members and interval; the label tells screen readers every end of every panel."""
    svg = robustness_svg([BOARD, plain("other")])
    union = "right under all of pgd Linf 4/255, fast L2 0.5, fast L1 12: <= 36.0 (31.9 to 40.3) % of 500 images"
    assert union in words(svg)
    assert union_line(BOARD.unions[0]) == union
    partly = replace(BOARD.unions[0], robust=share(1, 4))
    assert union_line(partly).endswith("% of 4 of 500 images")
    label = parsed(svg).attrib["aria-label"]
    for part in ("Linf on digits (digits@1): bisect (fast) <= 26.0", "L2 on digits", "(tiny@2): pgd 44.4"):
        assert part in label
    assert shown(share(1, 2), "exact") == "50.0 (9.5 to 90.5)"
