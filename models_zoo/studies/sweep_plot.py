"""Quantities against alpha as SVG: one panel each, a dot a model, a line through the means, as `harness.svg` draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from harness.scatter_plot import nice_step
from harness.svg import INK, PAPER, RULE, SERIES, SOFT, Attributes, document, element, escape, moved, number, text
from models_zoo.studies.subjects import Subject, Subjects

WIDTH, HEIGHT, COLUMNS = 236, 190, 4
_LEFT, _TOP, _PLOT_WIDTH, _PLOT_HEIGHT = 38, 30, 186, 118

PANELS: Final = (
    ("selectivity", "Selectivity index", False),
    ("clean_accuracy", "Clean accuracy (%)", True),
    ("corruption_accuracy", "Corruption accuracy (%)", True),
    ("retention", "Corruption / clean", False),
    ("fgsm_accuracy_linf_4_255", "FGSM 4/255 (%)", True),
    ("pgd_accuracy_linf_2_255", "PGD-40 2/255 (%)", True),
    ("pgd_accuracy_linf_4_255", "PGD-40 4/255 (%)", True),
    ("on_correct_4", "PGD-40 4/255, clean-correct", False),
    ("early_dimension", "Dimension, early layers", False),
    ("change_corruptions", "Change dim., corruptions", False),
    ("change_pgd", "Change dim., PGD", False),
    ("gradient_cv_samples", "Gradient CV over samples", False),
)
"""Quantity, title, and whether it is shown in percent."""


def sweep_svg(subjects: Subjects) -> str:
    """All panels of which any value is known, four in a row."""
    shown = [panel for panel in PANELS if any(panel[0] in item.values for item in subjects.sweep)]
    parts = []
    for at, (name, title, percent) in enumerate(shown):
        place = moved(WIDTH * (at % COLUMNS) + 8, HEIGHT * (at // COLUMNS) + 8, _panel(subjects, name, title, percent))
        parts.append(place)
    lines = max(1, math.ceil(len(shown) / COLUMNS))
    label = f"{', '.join(title for _, title, _ in shown)} against alpha, {len(subjects.sweep)} models"
    return document("".join(parts), WIDTH * COLUMNS + 16, HEIGHT * lines + 16, label)


def _panel(subjects: Subjects, name: str, title: str, percent: bool) -> str:
    have = [item for item in subjects.sweep if name in item.values]
    scale = 100.0 if percent else 1.0
    values = [item.values[name] * scale for item in have]
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    step = nice_step((high - low) / 3)
    bottom, top = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step

    def y(value: float) -> float:
        return _TOP + (top - value) / (top - bottom) * _PLOT_HEIGHT

    parts = [text(_LEFT, 16, title, font_size=12, font_weight="600")]
    for at in range(round((top - bottom) / step) + 1):
        tick = bottom + at * step
        ends: Attributes = {"x1": _LEFT, "x2": _LEFT + _PLOT_WIDTH, "y1": y(tick), "y2": y(tick)}
        parts += [
            element("line", **ends, class_="p-rule", stroke=RULE),
            _small(_LEFT - 5, y(tick) + 4, f"{tick:.3g}", "end"),
        ]
    for alpha in subjects.alphas:
        parts.append(_small(_x(subjects.alphas, alpha), _TOP + _PLOT_HEIGHT + 16, f"{alpha:g}", "middle"))
    means = [
        (alpha, _mean([item.values[name] * scale for item in have if item.alpha == alpha])) for alpha in subjects.alphas
    ]
    path = " ".join(f"{number(_x(subjects.alphas, a))},{number(y(m))}" for a, m in means if m is not None)
    look: Attributes = {"fill": "none", "stroke": SERIES[0], "stroke_width": 1.8, "class_": "p-line s0"}
    parts.append(element("polyline", points=path, **look))
    parts += [_dot(subjects.alphas, item, item.values[name] * scale, y(item.values[name] * scale)) for item in have]
    return "".join(parts) + _small(_LEFT + _PLOT_WIDTH / 2, _TOP + _PLOT_HEIGHT + 31, "alpha", "middle")


def _dot(alphas: Sequence[float], item: Subject, value: float, y: float) -> str:
    label = element("title", escape(f"{item.name}: {value:.4g}"))
    place: Attributes = {"cx": _x(alphas, item.alpha or 0.0), "cy": y, "r": 3}
    return element("circle", label, **place, class_="p-clean", fill=PAPER, stroke=INK, stroke_width=1.1)


def _x(alphas: Sequence[float], alpha: float) -> float:
    return _LEFT + 10 + (alpha - alphas[0]) / (alphas[-1] - alphas[0]) * (_PLOT_WIDTH - 20)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _small(x: float, y: float, label: str, anchor: str) -> str:
    return text(x, y, label, class_="p-soft", fill=SOFT, font_size=10.5, text_anchor=anchor)
