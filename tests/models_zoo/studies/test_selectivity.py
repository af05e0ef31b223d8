"""The selectivity study: what follows from cells, and the words for made-up sweeps."""

from __future__ import annotations

import html
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from markdown_it import MarkdownIt
from scipy.stats import spearmanr

from harness.errors import UnknownName
from harness.metrics.correlation import Estimate, PermutationTest
from models_zoo import list_models
from models_zoo.studies import STUDIES
from models_zoo.studies.claims import Claim, Sign, claims, examine, judge, reverse_claims
from models_zoo.studies.selectivity_report import markdown
from models_zoo.studies.subjects import alpha_of, derived
from models_zoo.studies.sweep_plot import PANELS, sweep_svg
from tests.models_zoo.studies.made import ALPHAS, board, cells, subject, sweep


def claim(y: str) -> Claim:
    """The first claim about a quantity."""
    return next(item for item in claims() if item.y == y)


def estimate(low: float, high: float) -> Estimate:
    """An estimate of which only the interval matters."""
    return Estimate(value=0.1, low=low, high=high, low_models=0.0, high_models=0.0, models=18, designs=6)


@pytest.mark.parametrize(
    ("low", "high", "sign", "word"),
    [
        (0.1, 0.5, 1, "agrees"),
        (0.1, 0.5, -1, "disagrees"),
        (-0.5, -0.1, -1, "agrees"),
        (-0.5, -0.1, 1, "disagrees"),
        (-0.1, 0.5, 1, "undecided"),
        (0.0, 0.5, 1, "undecided"),
        (0.1, 0.5, 0, "not judged"),
    ],
)
def test_verdict_words(low: float, high: float, sign: Sign, word: str) -> None:
    """The side of 0 on which the interval is, against the claimed one."""
    assert judge(estimate(low, high), sign) == word


def test_claims_on_a_made_sweep() -> None:
    """Rho is SciPy's over the 18 models; a fall agrees, a rise against the claim disagrees, a hump stays undecided."""
    made = sweep()
    fall = examine(claim("corruption_accuracy"), made)
    assert fall.estimate is not None
    x = [item.values["selectivity"] for item in made.sweep]
    y = [item.values["corruption_accuracy"] for item in made.sweep]
    assert fall.estimate.value == pytest.approx(float(spearmanr(x, y).statistic))
    assert (fall.estimate.models, fall.estimate.designs) == (18, 6)
    assert (fall.verdict, fall.peak) == ("agrees", -2.0)
    assert fall.test == PermutationTest(p_value=2 / 720, exact=True)
    assert examine(claim("fgsm_accuracy_linf_4_255"), made).verdict == "agrees"
    hump = examine(claim("pgd_accuracy_linf_4_255"), made)
    assert (hump.verdict, hump.peak) == ("undecided", 0.0)
    against = replace(claim("corruption_accuracy"), sign=1)
    assert examine(against, made).verdict == "disagrees"
    assert examine(claim("jacobian_norm"), made).verdict == "not judged"
    assert examine(claim("selectivity"), made).estimate is not None


def test_claims_without_numbers() -> None:
    """Nothing measured, too few models, or a constant: undecided without an estimate."""
    made = sweep()
    assert examine(claim("gradient_cv_units"), made).estimate is None
    assert examine(claim("input_gradient_l2"), made).verdict == "not judged"
    few = replace(made, sweep=made.sweep[:3])
    assert examine(claim("corruption_accuracy"), few).estimate is None
    same = tuple(replace(item, values={**item.values, "corruption_accuracy": 0.5}) for item in made.sweep)
    found = examine(claim("corruption_accuracy"), replace(made, sweep=same))
    assert (found.estimate, found.verdict) == (None, "undecided")


def test_mean_claims() -> None:
    """A difference within models is judged by its mean over them."""
    made = sweep()
    gaps = tuple(
        replace(item, values={**item.values, "early_change_gap": 0.1 + 0.01 * at}) for at, item in enumerate(made.sweep)
    )
    found = examine(claim("early_change_gap"), replace(made, sweep=gaps))
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(0.185)
    assert (found.verdict, found.test) == ("agrees", None)


def test_every_claim_names_a_quantity_that_exists() -> None:
    """A column of the benchmark, or something that is derived from them and the measures."""
    columns = {column.name for column in board({}).columns if column.score}
    full = derived(cells(1.0, 0), tables())
    assert {item.y for item in claims()} <= columns | set(full)
    assert {name for name, _, _ in PANELS} <= columns | set(full)


def table(measure: str, layers: Mapping[str, Mapping[str, float]]) -> Any:
    """As much of a table of measures as the study looks at."""
    return SimpleNamespace(
        measure=measure,
        layers=layers,
        over_layers=lambda name: tuple(values[name] for values in layers.values()),
    )


def tables() -> list[Any]:
    """Dimensions of four layers."""
    change = {f"l{at}": {"change_fraction_95": 0.1 * at, "difference_95": 0.01 * at} for at in range(1, 5)}
    more = {f"l{at}": {"change_fraction_95": 0.2 * at, "difference_95": -0.01 * at} for at in range(1, 5)}
    clean = {f"l{at}": {"fraction_95": value} for at, value in enumerate((0.5, 0.3, 0.2, 0.0))}
    return [
        table("dimensionality", clean),
        table("dimensionality_corruptions", change),
        table("dimensionality_attack", more),
    ]


def test_derived_by_hand() -> None:
    """Ratios to clean accuracy; early layers are the first two of four; gaps are PGD minus corruptions."""
    made = {"clean_accuracy": 0.8, "corruption_accuracy": 0.4, "pgd_accuracy_linf_4_255": 0.2}
    found = derived(made | {"selectivity": 0.3, "selectivity_floor": 0.1}, tables())
    expected = {
        "above_floor": 0.2,
        "retention": 0.5,
        "on_correct_4": 0.25,
        "dimension": 0.25,
        "early_dimension": 0.4,
        "early_change_corruptions": 0.15,
        "early_change_pgd": 0.3,
        "early_change_gap": 0.15,
        "early_difference_gap": -0.03,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert derived({"clean_accuracy": 0.0, "corruption_accuracy": 0.1}, ()) == {}


@pytest.mark.parametrize(
    ("card", "alpha"),
    [
        ({"recipe": "supervised"}, 0.0),
        ({"recipe": "selectivity", "hyper_parameters": {"alpha": -1}}, -1.0),
        ({"recipe": "selectivity", "hyper_parameters": {"alpha": 2.0, "layers": "all", "alpha_warmup": 0.0}}, 2.0),
        ({"recipe": "selectivity", "hyper_parameters": {"alpha": 2.0, "layers": "first3"}}, None),
        ({"recipe": "selectivity", "hyper_parameters": {"alpha": 2.0, "alpha_warmup": 5}}, None),
        ({"recipe": "selectivity"}, None),
        ({"recipe": "augmix"}, None),
    ],
)
def test_alpha_of_a_card(card: dict[str, object], alpha: float | None) -> None:
    """Controls with a warm-up or a part of the layers are no models of the sweep."""
    assert alpha_of(card) == alpha


def test_reverse_direction() -> None:
    """Above the supervised seeds agrees for adversarial training, inside their range is undecided, below disagrees."""
    made = sweep()
    assert [(item.subject.recipe, item.verdict) for item in reverse_claims(made)] == [
        ("adversarial", "agrees"),
        ("augmix", "undecided"),
    ]
    lower = replace(made, others=(subject("x", "adversarial", None, {"selectivity": 0.1}),))
    assert [item.verdict for item in reverse_claims(lower)] == ["disagrees"]
    assert reverse_claims(replace(made, sweep=made.sweep[:3])) == ()


def test_report_holds_the_numbers() -> None:
    """Tables parse, means and ranges are those of the subjects, every claim has its verdict, names are escaped."""
    made = sweep()
    evil = subject("x.<script>|`evil`", "augmix", None, {"selectivity": 0.01}, "zero_gradients")
    made = replace(made, others=(*made.others, evil))
    tested = [examine(item, made) for item in claims()]
    text = markdown(made, tested, reverse_claims(made), ("s-sweep.svg",))
    page = MarkdownIt("commonmark").enable("table").render(text)
    assert "<script>" not in page
    assert "x.&lt;script&gt;|`evil`" in page
    values = [100 * item.values["corruption_accuracy"] for item in made.at(-2.0)]
    assert f"{sum(values) / 3:.1f} ({min(values):.1f} to {max(values):.1f})" in page
    assert page.count("<strong>agrees</strong>") == sum(item.verdict == "agrees" for item in tested) + 1 + 1
    widths = {len(row.split("<td")) for table in page.split("<table>")[1:2] for row in table.split("<tr>")[2:]}
    assert len(widths) == 1
    for item in claims():
        assert item.text.replace("'", "&#39;") in page or item.text in page
    assert 'src="s-sweep.svg"' in page
    assert "6 settings of alpha with 3 seeds each" in page.replace("\n", " ")
    assert "of 21 models not everything is evaluated yet" in page  # the made sweep has no dimensions


def test_report_says_which_test_p_is_of() -> None:
    """Nothing beside p over all orders, a mark over random ones, and "-" where settings cannot be exchanged."""
    made = sweep()
    more = tuple(
        subject(f"m{alpha}.s{seed}", "selectivity", alpha, cells(alpha, seed))
        for alpha in (-1.5, 1.5)
        for seed in range(3)
    )
    for models, ending in ((made.sweep, ""), ((*made.sweep, *more), " (sampled)"), (made.sweep[1:], "-")):
        found = examine(claim("corruption_accuracy"), replace(made, sweep=models))
        text = markdown(made, [found], (), ())
        (row,) = [line for line in text.splitlines() if line.startswith("| more selective, worse under corruptions")]
        shown = row.split(" | ")[6]
        number = "" if found.test is None else f"{found.test.p_value:.3f}"
        assert shown == number + ending
        assert (found.test is None) == (ending == "-")


def test_report_links_its_pictures_and_can_be_copied() -> None:
    """A picture's name is an address whatever the file is called; commands hold the data set's name as it is typed."""
    made = replace(sweep(), dataset="my_photos")
    text = markdown(made, (), (), ("my report (2)-sweep.svg", "x`y-question.svg"))
    page = MarkdownIt("commonmark").render(text)
    pictures = re.findall(r'<img src="([^"]+)" alt="([^"]+)"', page)
    assert pictures == [("my%20report%20%282%29-sweep.svg", "sweep"), ("x%60y-question.svg", "question")]
    assert "<code>robustboard study run selectivity --dataset my_photos</code>" in page
    assert "<h1>Class selectivity and robustness: my_photos</h1>" in page
    for name in ("a`b", "two words", "``"):
        page = MarkdownIt("commonmark").render(markdown(replace(made, dataset=name), (), (), ()))
        (shown,) = re.findall(r"<code>robustboard study run selectivity --dataset (.*)</code>", page)
        assert shlex.split(html.unescape(shown)) == [name]


def test_pictures() -> None:
    """A dot a model in each panel that has values, names as titles; constant values make no empty axis."""
    picture = sweep_svg(sweep())
    panels = [name for name, _, _ in PANELS if name in sweep().sweep[0].values]
    assert picture.count("<circle") == 18 * len(panels)
    assert "small_cnn.sweep-0.5.digits.s2: " in picture
    flat = replace(sweep(), sweep=tuple(replace(item, values={"selectivity": 0.5}) for item in sweep().sweep))
    assert sweep_svg(flat).count("<circle") == 18
    assert "nan" not in sweep_svg(flat)


def test_bundled_models_take_part() -> None:
    """All of the sweep's bundled models, of one architecture; the study is listed without torch."""
    study = STUDIES.get("selectivity")
    assert set(study.models()) <= set(list_models("small_cnn.*.digits.*"))
    assert {"small_cnn.selectivity-am1.digits.s0", "small_cnn.supervised.digits.s0"} <= set(study.models())
    assert "resnet20.supervised.digits.s0" not in study.models()
    assert study.models("nothing") == ()
    assert study.citation.endswith("2010.07693")
    assert len(ALPHAS) == 6
    code = (
        "import sys; from models_zoo.studies import STUDIES; STUDIES.get('selectivity').models();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(UnknownName, match="did you mean 'selectivity'"):
        STUDIES.get("selektivity")
