"""Identity: canonical JSON, digests and specs."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.digest import canonical_json, digest, digest_arrays
from harness.errors import InvalidArgument
from harness.spec import (
    AttackSpec,
    ChecksSpec,
    CleanSpec,
    CorruptionSpec,
    DataRef,
    EvaluationSpec,
    MeasureSpec,
    ModelRef,
    Perturbation,
    Scope,
    eps_text,
    parse_eps,
    perturbation_from_identity,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation_digests.json"
MODEL = ModelRef(name="m", digest="a" * 64)
DATA = DataRef(name="d", split="test", digest="b" * 64, images=500, classes=10)

PERTURBATIONS: dict[str, Perturbation] = {
    "clean": CleanSpec(),
    "corruption": CorruptionSpec(suite="imagecorruptions", name="fog", severity=3, seed=0, version="1"),
    "attack": AttackSpec(attack="pgd", norm="Linf", eps=4 / 255, seed=0, version="1", options=(("steps", 20),)),
    "reference": AttackSpec(
        attack="autoattack:reference",
        norm="L2",
        eps=0.5,
        seed=1,
        version="1+x",
        scope=Scope(start=0, stop=32, batch=32),
    ),
    "measure": MeasureSpec(measure="selectivity", version="1", start=0, stop=500),
    "checks": ChecksSpec(norm="L2", eps=0.5, seed=3, version="1", start=0, stop=64),
}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)


def evaluation(perturbation: Perturbation) -> EvaluationSpec:
    """An evaluation of a made-up model on a made-up data set."""
    return EvaluationSpec(model=MODEL, data=DATA, perturbation=perturbation)


def test_evaluation_digests_are_pinned() -> None:
    """A change of any of these breaks every store: it needs a new SCHEMA."""
    found = {name: evaluation(item).digest for name, item in PERTURBATIONS.items()}
    assert found == json.loads(GOLDEN.read_text("utf-8"))


@pytest.mark.parametrize("perturbation", PERTURBATIONS.values(), ids=PERTURBATIONS)
def test_perturbations_are_read_back(perturbation: Perturbation) -> None:
    """`perturbation_from_identity` inverts `identity`, through JSON."""
    assert perturbation_from_identity(json.loads(canonical_json(perturbation.identity()))) == perturbation


def test_numbers_are_coerced_before_they_are_hashed() -> None:
    """1 and 1.0, 0.0 and -0.0 are equal values, so they have equal digests."""
    assert digest(1) == digest(1.0)
    assert digest([0.0]) == digest([-0.0]) == digest([0])
    assert digest(True) != digest(1)
    attack = PERTURBATIONS["attack"]
    assert isinstance(attack, AttackSpec)
    whole, text = (dataclasses.replace(attack, eps=eps) for eps in (12, 12.0))
    assert evaluation(whole).digest == evaluation(text).digest


@given(values)
def test_canonical_json_survives_a_round_trip(value: object) -> None:
    """Parsing canonical JSON and writing it again gives the same text: equal values, equal digests."""
    text = canonical_json(value)
    assert canonical_json(json.loads(text)) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: 2}, object(), b"x"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    """NaN, infinities, non-string keys and foreign objects never enter a digest."""
    with pytest.raises((TypeError, ValueError)):
        digest(value)


def test_options_are_equal_in_any_order() -> None:
    """Options are sorted by name."""
    one = AttackSpec(attack="pgd", norm="Linf", eps=0.1, seed=0, version="1", options=(("b", 1), ("a", 2)))
    two = AttackSpec(attack="pgd", norm="Linf", eps=0.1, seed=0, version="1", options=(("a", 2), ("b", 1)))
    assert one == two


def test_each_field_of_a_perturbation_changes_the_digest() -> None:
    """Nothing that decides an outcome is left out of the identity."""
    base = PERTURBATIONS["attack"]
    assert isinstance(base, AttackSpec)
    changes: dict[str, Any] = {
        "attack": "fgsm",
        "norm": "L2",
        "eps": 0.3,
        "seed": 9,
        "version": "2",
        "options": (("steps", 21),),
        "search_precision": "bfloat16",
        "scope": Scope(start=0, stop=1, batch=1),
    }
    assert set(changes) == {item.name for item in dataclasses.fields(base)} - {"kind"}
    digests = {evaluation(dataclasses.replace(base, **{name: value})).digest for name, value in changes.items()}
    assert len(digests | {evaluation(base).digest}) == len(changes) + 1


def test_names_are_not_identity() -> None:
    """A renamed model or data set has the same evaluations."""
    renamed = EvaluationSpec(
        model=dataclasses.replace(MODEL, name="x"),
        data=dataclasses.replace(DATA, name="y", split="train"),
        perturbation=CleanSpec(),
    )
    assert renamed.digest == evaluation(CleanSpec()).digest


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.5 / 255", 0.5 / 255), ("0.5", 0.5), (12, 12.0), ("1e-3", 0.001)]
)
def test_eps_is_read_as_written(text: str | float, value: float) -> None:
    """Fractions and decimals alike."""
    assert parse_eps(text) == value


@pytest.mark.parametrize("text", ["0", "-1/255", "x", "1/0", "1/2/3", "/2", "1/", "", "nan", "inf", math.nan, -0.0])
def test_eps_must_be_positive(text: str | float) -> None:
    """A radius of zero or below, or no number, is refused with what would be right."""
    with pytest.raises(InvalidArgument, match=r"eps: got .* expected a positive number or fraction such as 8/255"):
        parse_eps(text)


@pytest.mark.parametrize(
    "text", ["8/255", "0.5/255", "1/255", "128/255", "0.5", "0.6", "0.2", "1", "12", "0.25", "1e-05", "0.03"]
)
def test_eps_is_shown_as_people_write_it(text: str) -> None:
    """Steps of 1/255 as fractions, unless decimals are shorter (0.6 is 153/255)."""
    assert eps_text(parse_eps(text)) == text


def test_array_digests_see_names_types_shapes_and_bytes() -> None:
    """Any difference shows; byte order in memory does not."""
    base: dict[str, NDArray[Any]] = {"w": np.arange(6, dtype=np.float32)}
    same = {"w": np.arange(6, dtype=">f4")}
    others: list[dict[str, NDArray[Any]]] = [
        {"v": base["w"]},
        {"w": base["w"].astype(np.float64)},
        {"w": base["w"].reshape(2, 3)},
        {"w": base["w"] + 1},
    ]
    assert digest_arrays(base) == digest_arrays(same)
    assert len({digest_arrays(item) for item in [base, *others]}) == 5
