"""What measures say of themselves: options, versions, quantities, expected passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.attacks import ATTACKS
from harness.corruptions import suites
from harness.corruptions.suites import BENCHMARK
from harness.errors import InvalidArgument, UnknownName
from harness.measures import MEASURES, catalogue
from harness.measures.catalogue import conditions
from harness.spec import Scalar
from tests.harness.measures.conftest import TwoMaps

SMALL: dict[str, dict[str, Scalar]] = {
    "dimensionality_corruptions": {"corruptions": "fog", "severities": "1"},
    "dimensionality_attack": {"steps": 1},
}


@pytest.mark.parametrize("name", MEASURES.names())
def test_every_measure_gives_the_quantities_that_it_names(name: str) -> None:
    """For the network, in the same order; the version is the catalogue's, the numbers finite, layers complete."""
    images = torch.randint(0, 256, (20, 3, 32, 32), generator=torch.Generator().manual_seed(0)) / 255
    measure = MEASURES.get(name)
    result = measure.run(TwoMaps().eval(), torch.split(images, 8), np.arange(20) % 6, options=SMALL.get(name))
    assert tuple(entry.quantity for entry in result.entries if not entry.layer) == measure.quantities
    assert (result.measure, result.version, result.images) == (name, measure.version, 20)
    assert np.isfinite([entry.mean for entry in result.entries]).all()
    layers = [entry.quantity for entry in result.entries if entry.layer]
    assert layers in ([], list(measure.quantities))
    passes = measure.passes(measure.complete(SMALL.get(name, {})), 6)
    if name != "unit_gradients":  # a plan sees no layers
        assert (result.forwards or 20, result.backwards) == (20 * passes.forwards, 20 * passes.backwards)


@pytest.mark.parametrize("name", MEASURES.names())
def test_completing_options_twice_changes_nothing(name: str) -> None:
    """Options in the identity are canonical."""
    measure = MEASURES.get(name)
    once = measure.complete({})
    assert measure.complete(once) == once
    assert set(once) == set(measure.options)


def test_selectivity_keeps_its_identity() -> None:
    """Evaluations that are stored stay what they are: no options, version 1."""
    measure = MEASURES.get("selectivity")
    assert measure.complete({}, seed=7) == {}
    assert measure.version_with({}) == "1"


def test_sets_of_corruptions_are_written_out() -> None:
    """Families and sets become names in the suite's order, once each; severities are sorted."""
    measure = MEASURES.get("dimensionality_corruptions")
    assert measure.complete({})["corruptions"] == ",".join(BENCHMARK)
    same = [
        measure.complete({"corruptions": given, "severities": levels})
        for given, levels in (("noise", "3,1"), ("impulse_noise, shot_noise,gaussian_noise,noise", "1,3,3"))
    ]
    assert same[0] == same[1]
    assert conditions(same[0]) == (
        *("gaussian_noise/1", "gaussian_noise/3", "shot_noise/1", "shot_noise/3"),
        *("impulse_noise/1", "impulse_noise/3"),
    )


def test_the_version_covers_the_corruptions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of one corruption that is used makes a new version of the measure; of another one, none."""
    measure = MEASURES.get("dimensionality_corruptions")
    options = measure.complete({"corruptions": "fog,snow"})
    before = measure.version_with(options)
    assert before.startswith("1+")
    monkeypatch.setattr(suites, "ENGINE_VERSIONS", {**suites.ENGINE_VERSIONS, "frost": 99})
    assert measure.version_with(options) == before
    monkeypatch.setattr(suites, "ENGINE_VERSIONS", {**suites.ENGINE_VERSIONS, "fog": 99})
    assert measure.version_with(options) != before


def test_the_version_covers_the_ascent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps, projections and losses are PGD's: another version of it makes another version of the measure."""
    measure = MEASURES.get("dimensionality_attack")
    options = measure.complete({})
    before = measure.version_with(options)
    assert before.startswith("1+")
    newer = {name: replace(ATTACKS.get(name), version="99") for name in ("fgsm", "pgd")}
    monkeypatch.setattr(catalogue, "ATTACKS", {**newer, "pgd": ATTACKS.get("pgd")})
    assert measure.version_with(options) == before
    monkeypatch.setattr(catalogue, "ATTACKS", newer)
    assert measure.version_with(options) != before


def test_radius_and_seed() -> None:
    """A radius has one writing; the benchmark's seed stands in where none is given."""
    measure = MEASURES.get("dimensionality_attack")
    assert measure.complete({"eps": "8/510"})["eps"] == "4/255"
    assert measure.complete({}, seed=3)["seed"] == 3
    assert measure.complete({"seed": 1}, seed=3)["seed"] == 1
    assert measure.complete({"steps": 10})["step_size"] == 0.25


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("selectivity", {"shuffles": 3}, UnknownName, "option of selectivity 'shuffles'"),
        ("selectivity_floor", {"shuffle": 3}, UnknownName, "did you mean 'shuffles'"),
        ("selectivity_floor", {"shuffles": 0}, InvalidArgument, "shuffles: got 0"),
        ("dimensionality_corruptions", {"corruptions": "smog"}, UnknownName, "'smog'"),
        ("dimensionality_corruptions", {"suite": "cifar"}, UnknownName, "suite 'cifar'"),
        ("dimensionality_corruptions", {"severities": "1,6"}, InvalidArgument, "severities: got '1,6'"),
        ("dimensionality_corruptions", {"severities": ""}, InvalidArgument, "severities: got ''"),
        ("dimensionality_attack", {"norm": "L1"}, InvalidArgument, "one of Linf, L2"),
        ("dimensionality_attack", {"eps": "-1"}, InvalidArgument, "eps: got '-1'"),
        ("unit_gradients", {"units": 1.5}, InvalidArgument, "units: got 1.5"),
    ],
)
def test_wrong_options_are_named(name: str, options: dict[str, Scalar], error: type[Exception], message: str) -> None:
    """One line that tells the option, the value and what would be right."""
    with pytest.raises(error, match=message):
        MEASURES.get(name).complete(options)
