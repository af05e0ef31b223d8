"""Drawing SVG as text: escaped, deterministic, and without styles, for pages with a strict content policy.

Colours are presentation attributes, which show the light theme anywhere; each element also has a class by which a page
may recolour it (a stylesheet goes before presentation attributes).
"""

from __future__ import annotations

import html
from typing import TypeAlias

Attributes: TypeAlias = dict[str, str | float | None]

FONT = "system-ui, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', sans-serif"
PAPER, INK, SOFT, RULE = "#ffffff", "#191c20", "#575e67", "#dfe2de"
SERIES: tuple[str, ...] = ("#2a55c8", "#b3410e", "#0d7556", "#8a3ab0")
"""Colours of lines; each has a contrast above 4.5 on white, since their labels have it too."""

SCALE: tuple[str, ...] = (
    "#291459",
    "#243575",
    "#11568a",
    "#007698",
    "#1794a0",
    "#4bb0a3",
    "#7ecaa6",
    "#b6e0af",
    "#e7f7bb",
)
"""A sequential scale from 0 to 1 in equal steps: lightness rises evenly (OKLCH 0.27 to 0.95) while the hue turns from
indigo to yellow-green, so it reads without colour too."""


def element(tag: str, content: str = "", /, **attributes: str | float | None) -> str:
    """One element.

    Args:
        tag: its name.
        content: markup inside, escaped already.
        attributes: values are escaped and numbers rounded to a hundredth; None leaves one out. An underscore in a name
            stands for a hyphen, one at its end for nothing (`class_`).
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is not None:
            shown = escape(value) if isinstance(value, str) else number(value)
            parts.append(f'{name.rstrip("_").replace("_", "-")}="{shown}"')
    opened = " ".join(parts)
    return f"<{opened}>{content}</{tag}>" if content else f"<{opened}/>"


def text(x: float, y: float, content: str, /, **attributes: str | float | None) -> str:
    """A line of text, in ink and at size 12 unless told otherwise."""
    given: Attributes = {"class_": "p-ink", "fill": INK, "font_size": 12, **attributes}
    return element("text", escape(content), x=x, y=y, **given)


def document(body: str, width: float, height: float, label: str, *, paper: bool = True) -> str:
    """A whole SVG; with `paper` on a background of its own, for viewers that have none."""
    back = element("rect", width=width, height=height, class_="p-paper", fill=PAPER) if paper else ""
    return element(
        "svg",
        back + body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        class_="plot",
        role="img",
        aria_label=label,
        font_family=FONT,
    )


def moved(x: float, y: float, body: str) -> str:
    """A group somewhere else."""
    return element("g", body, transform=f"translate({number(x)} {number(y)})")


def escape(content: str) -> str:
    """Text for content and attributes; what XML cannot hold, and what would turn the line round, is replaced."""
    return html.escape(
        "".join(
            sign if sign.isprintable() or sign == "\N{NO-BREAK SPACE}" else "\N{REPLACEMENT CHARACTER}"
            for sign in content
        )
    )


def number(value: float) -> str:
    """A coordinate in a hundredth at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def heat(value: float) -> str:
    """The scale's colour of a value in [0, 1]."""
    place = min(max(value, 0.0), 1.0) * (len(SCALE) - 1)
    below = min(int(place), len(SCALE) - 2)
    share = place - below
    first, second = channels(SCALE[below]), channels(SCALE[below + 1])
    mixed = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)


def ink_on(colour: str) -> str:
    """White or black, whichever has more contrast on `colour`: 4.5 or more on any."""
    return max("#ffffff", "#000000", key=lambda ink: contrast(ink, colour))


def contrast(first: str, second: str) -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2.1, relative luminance)."""
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour, 0 to 1 (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def channels(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of "#rrggbb", each in 0..255."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
