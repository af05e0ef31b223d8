"""The selectivity study as Markdown: claims with their verdicts, tables by alpha, and reasons to doubt both."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import quote

from harness.formats import escape_markdown
from harness.metrics.correlation import Estimate, spearman
from models_zoo.studies.claims import MODELS, Reverse, Tested
from models_zoo.studies.selectivity_prose import DIFFERENCES, DOUBTS, HEAD, REVERSE, STATEMENTS, SUMMARY
from models_zoo.studies.subjects import EPS, Subject, Subjects

Show = Callable[[float], str]


def percent(value: float) -> str:
    """A fraction in percent with one decimal."""
    return f"{100 * value:.1f}"


def three(value: float) -> str:
    """Three decimals."""
    return f"{value:.3f}"


def whole(value: float) -> str:
    """No decimals, but for means of counts."""
    return f"{value:.0f}" if value == round(value) else f"{value:.1f}"


TABLES: Final[tuple[tuple[str, str, tuple[tuple[str, str, Show], ...]], ...]] = (
    (
        "Selectivity and accuracy",
        "Accuracies in percent. Floor: the index under permuted labels. Retention: corruption over clean accuracy.",
        (
            ("selectivity", "selectivity", three),
            ("selectivity_floor", "floor", three),
            ("above_floor", "above floor", three),
            ("dead_units", "dead units", whole),
            ("clean_accuracy", "clean", percent),
            ("corruption_accuracy", "corruptions", percent),
            ("retention", "retention", three),
        ),
    ),
    (
        "FGSM",
        "Share of all images that are right clean and under the attack, in percent.",
        tuple((f"fgsm_accuracy_linf_{eps}_255", f"{eps}/255", percent) for eps in EPS),
    ),
    (
        "PGD-40",
        "40 steps, random start. The same share, in percent.",
        tuple((f"pgd_accuracy_linf_{eps}_255", f"{eps}/255", percent) for eps in EPS),
    ),
    (
        "PGD-40 among images that are right clean",
        "Share in percent; takes differences of clean accuracy out.",
        tuple((f"on_correct_{eps}", f"{eps}/255", percent) for eps in EPS),
    ),
    (
        "Dimensionality",
        """\
Share of principal components that hold 95 % of the variance of units' responses, mean over layers; early layers are the
first half. Change: of responses to perturbed images minus clean ones.""",
        (
            ("early_dimension", "clean, early", three),
            ("dimension", "clean, all", three),
            ("early_change_corruptions", "change, corruptions, early", three),
            ("change_corruptions", "change, corruptions, all", three),
            ("early_change_pgd", "change, PGD, early", three),
            ("change_pgd", "change, PGD, all", three),
        ),
    ),
    (
        "Gradients",
        """\
Coefficients of variation of units' input gradients; norms of the logits' Jacobian and of the loss gradient with respect
to the image; logit margin.""",
        (
            ("gradient_cv_samples", "CV over samples", three),
            ("gradient_cv_units", "CV over units", three),
            ("jacobian_norm", "Jacobian", three),
            ("input_gradient_l2", "input gradient", three),
            ("margin", "margin", three),
        ),
    ),
)


def markdown(subjects: Subjects, tested: Sequence[Tested], reverse: Sequence[Reverse], pictures: Sequence[str]) -> str:
    """The whole report."""
    parts = [
        *_head(subjects),
        *_summary(tested, reverse),
        *(f"![{name.rpartition('-')[2].removesuffix('.svg')}]({quote(name)})\n" for name in pictures),
        *_claims(tested),
        *_reverse(reverse),
        "## By alpha\n",
        "Mean over the seeds, with their range.\n",
        *(part for title, about, columns in TABLES for part in _table(subjects, title, about, columns)),
        *_by_corruption(subjects),
        *_flags(subjects),
        *_differences(subjects),
    ]
    return "\n".join(parts)


def _head(subjects: Subjects) -> list[str]:
    board = subjects.board
    images = sorted({item.images for item in (*subjects.sweep, *subjects.others)})
    named = f"--dataset {shlex.quote(subjects.dataset)}"
    return [
        HEAD.format(
            dataset=escape_markdown(subjects.dataset),
            architecture=escape_markdown(subjects.architecture),
            alphas=", ".join(f"{alpha:g}" for alpha in subjects.alphas),
            seeds=_seeds(subjects),
            sweep=len(subjects.sweep),
            others=len(subjects.others),
            benchmark=f"{board.benchmark}@{board.version}",
            images=_range(images),
            run=_code(f"robustboard study run selectivity {named}"),
            report=_code(f"robustboard study report selectivity {named} --out FILE.md --plots"),
        ),
        *_incomplete(subjects),
    ]


def _incomplete(subjects: Subjects) -> list[str]:
    """A warning where models lack anything that the tables show."""
    wanted = {name for _, _, columns in TABLES for name, _, _ in columns}
    lacking = [item.name for item in (*subjects.sweep, *subjects.others) if not wanted <= set(item.values)]
    if not lacking:
        return []
    names = ", ".join(escape_markdown(name) for name in lacking)
    return [f"**Not finished**: of {len(lacking)} models not everything is evaluated yet: {names}.\n"]


def _summary(tested: Sequence[Tested], reverse: Sequence[Reverse]) -> list[str]:
    words = Counter([*(item.verdict for item in tested), *(item.verdict for item in reverse)])
    judged = sum(item.estimate is not None and item.verdict != "not judged" for item in tested)
    told = ", ".join(f"{words[word]} {word}" for word in ("agrees", "disagrees", "undecided", "not judged"))
    count = len(tested) + len(reverse)
    return [SUMMARY.format(told=told, count=count, judged=judged, chance=judged * 0.05)]


def _claims(tested: Sequence[Tested]) -> list[str]:
    rows = [
        (
            item.claim.text,
            item.claim.source,
            {1: "+", -1: "-", 0: "none"}[item.claim.sign],
            "-" if item.estimate is None else _signed(item.estimate.value) + ("" if item.claim.x else " (mean)"),
            "-" if item.estimate is None else _interval(item.estimate.low, item.estimate.high),
            "-" if item.estimate is None else _interval(item.estimate.low_models, item.estimate.high_models),
            "-" if item.test is None else f"{item.test.p_value:.3f}" + ("" if item.test.exact else " (sampled)"),
            "-" if item.peak is None else f"{item.peak:g}",
            _models(item.estimate),
            f"**{item.verdict}**",
        )
        for item in tested
    ]
    heads = (
        "statement",
        "source",
        "sign",
        "rho",
        "95 %, designs",
        "95 %, models",
        "p",
        "highest at",
        "models",
        "verdict",
    )
    return [
        STATEMENTS,
        *_rows(heads, rows, right=(3, 6, 7, 8)),
    ]


def _reverse(reverse: Sequence[Reverse]) -> list[str]:
    if not reverse:
        return []
    rows = [
        (item.text, escape_markdown(item.subject.name), three(item.value), f"{three(item.low)} to {three(item.high)}",
         f"**{item.verdict}**")
        for item in reverse
    ]  # fmt: skip
    return [
        REVERSE,
        *_rows(("statement", "model", "selectivity", "supervised seeds", "verdict"), rows, right=(2, 3)),
    ]


def _table(subjects: Subjects, title: str, about: str, columns: Sequence[tuple[str, str, Show]]) -> list[str]:
    rows = [
        (f"{alpha:g}", *(_spread(subjects.at(alpha), name, show) for name, _, show in columns))
        for alpha in subjects.alphas
    ]
    rows += [
        (escape_markdown(item.name), *(_spread((item,), name, show) for name, _, show in columns))
        for item in subjects.others
    ]
    heads = ("alpha", *(head for _, head, _ in columns))
    return [f"### {title}\n", f"{about}\n", *_rows(heads, rows, right=range(1, len(heads)))]


def _by_corruption(subjects: Subjects) -> list[str]:
    names = list(
        dict.fromkeys(name for item in subjects.sweep for name in item.values if name.startswith("corruption:"))
    )
    rows, negative = [], 0
    for name in names:
        have = [item for item in subjects.sweep if name in item.values and "selectivity" in item.values]
        if len(have) < MODELS:
            continue
        rho = spearman([item.values["selectivity"] for item in have], [item.values[name] for item in have])
        negative += rho is not None and rho < 0
        means = [_spread(subjects.at(alpha), name, percent, ranged=False) for alpha in subjects.alphas]
        rows.append((name.partition(":")[2], *means, "-" if rho is None else _signed(rho)))
    if not rows:
        return []
    heads = ("corruption", *(f"alpha {alpha:g}" for alpha in subjects.alphas), "rho")
    return [
        "### By corruption\n",
        f"Mean over severities and seeds (%), and rho with selectivity: below 0 for {negative} of {len(rows)}.\n",
        *_rows(heads, rows, right=range(1, len(heads))),
    ]


def _flags(subjects: Subjects) -> list[str]:
    counted: dict[str, list[str]] = {}
    for item in (*subjects.sweep, *subjects.others):
        for flag in item.flags:
            counted.setdefault(flag, []).append(item.name)
    rows = [
        (f"`{flag}`", str(len(names)), ", ".join(escape_markdown(name) for name in names))
        for flag, names in sorted(counted.items())
    ]
    found = _rows(("flag", "models", "which"), rows, right=(1,)) if rows else ["None of them raised a flag.\n"]
    return [DOUBTS, *found]


def _differences(subjects: Subjects) -> list[str]:
    return [
        DIFFERENCES.format(
            architecture=escape_markdown(subjects.architecture),
            dataset=escape_markdown(subjects.dataset),
            epochs=_range(sorted({item.epochs for item in subjects.sweep})),
            alphas=len(subjects.alphas),
            seeds=_seeds(subjects),
        )
    ]


def _seeds(subjects: Subjects) -> str:
    return _range(sorted({len(subjects.at(alpha)) for alpha in subjects.alphas}))


def _range(ascending: Sequence[int]) -> str:
    """The number, or both ends of several: 3, or 2 to 3."""
    return f"{ascending[0]}" if ascending[0] == ascending[-1] else f"{ascending[0]} to {ascending[-1]}"


def _spread(items: Sequence[Subject], name: str, show: Show, *, ranged: bool = True) -> str:
    values = [item.values[name] for item in items if name in item.values]
    if not values:
        return "-"
    mean = show(sum(values) / len(values))
    return f"{mean} ({show(min(values))} to {show(max(values))})" if ranged and len(values) > 1 else mean


def _models(estimate: Estimate | None) -> str:
    return "-" if estimate is None else f"{estimate.models} of {estimate.designs}"


def _code(text: str) -> str:
    """A code span, in which nothing is escaped: fenced by more backticks than the text has in a row."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _signed(value: float) -> str:
    return f"{value:+.2f}"


def _interval(low: float, high: float) -> str:
    return f"{_signed(low)} to {_signed(high)}"


def _rows(heads: Iterable[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> list[str]:
    heads, aligned = list(heads), set(right)
    lines = ["| " + " | ".join(heads) + " |"]
    lines.append("|" + "|".join("---:" if at in aligned else "---" for at in range(len(heads))) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return ["\n".join(lines) + "\n"]
