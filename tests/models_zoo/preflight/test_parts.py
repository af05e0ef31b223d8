"""The pre-flight's parts, against closed forms and brute force."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.benchmarks import load_benchmark
from harness.data import ArrayDataset, open_dataset
from harness.jobs.plan import Cost, make_plan
from harness.spec import ModelRef
from harness.target import Target
from models_zoo.preflight.classes import best_order, class_order, in_best_order
from models_zoo.preflight.costs import Speed, costs, fitting_benchmarks, measure_speed, one_thread
from models_zoo.preflight.normalisation import RAW, USUAL, candidates, normalisation_options, own_statistics
from models_zoo.preflight.sample import Sample, differ
from tests.models_zoo.preflight.conftest import CARD, Check, Twist


def mcnemar(b: int, c: int) -> float:
    """The exact two-sided test, from binomial coefficients."""
    n, k = b + c, min(b, c)
    return float(min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n))


@given(b=st.integers(0, 30), c=st.integers(0, 30), both=st.integers(0, 5))
def test_differ_is_mcnemars_exact_test(b: int, c: int, both: int) -> None:
    """Images on which the two agree say nothing; the others decide as the binomial distribution says."""
    one = np.array([True] * b + [False] * c + [True] * both, dtype=np.bool_)
    other = np.array([False] * b + [True] * c + [True] * both, dtype=np.bool_)
    assert differ(one, other) == (mcnemar(b, c) < 0.01)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_best_order_is_the_best_of_all_permutations(pairs: list[tuple[int, int]]) -> None:
    """As many right as the best of the 24; and outputs stay where nothing is gained by moving them."""
    predicted, labels = (np.array(values, dtype=np.int64) for values in zip(*pairs, strict=True))
    order = best_order(predicted, labels, 4)
    assert sorted(order) == [0, 1, 2, 3]
    counts = {p: int((np.array(p)[predicted] == labels).sum()) for p in itertools.permutations(range(4))}
    assert (order[predicted] == labels).sum() == max(counts.values())
    if counts[0, 1, 2, 3] == max(counts.values()):
        assert order.tolist() == [0, 1, 2, 3]


def test_outputs_keep_their_class_where_nothing_is_gained() -> None:
    """Outputs 0 and 4 trade places and the others never occur: of equally good orders, one leaves them alone."""
    predicted, labels = np.array([0, 0, 4]), np.array([2, 4, 0])
    assert best_order(predicted, labels, 5).tolist() == [4, 1, 2, 3, 0]


def test_orders_that_fit_noise_gain_nothing() -> None:
    """Random answers: the order fitted on all images looks better than chance, the cross-fitted one does not."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    fitted, crossed = [], []
    for _ in range(40):
        predicted = rng.integers(0, 10, 200)
        order = best_order(predicted, labels, 10)
        right = in_best_order(predicted, labels, 10)
        assert right is not None
        fitted.append((order[predicted] == labels).mean())
        crossed.append(right.mean())
    assert np.mean(fitted) > 0.17
    assert np.mean(crossed) == pytest.approx(0.1, abs=0.015)


def test_a_permutation_is_undone_and_few_images_are_not_enough() -> None:
    """A perfect model with shuffled outputs is right on all images; one image a class cannot tell."""
    labels = np.arange(40) % 10
    shuffle = np.random.default_rng(1).permutation(10)
    right = in_best_order(shuffle[labels], labels, 10)
    assert right is not None
    assert right.all()
    assert in_best_order(shuffle[labels[:10]], labels[:10], 10) is None


def test_class_order_says_when_it_cannot_tell() -> None:
    """One image a class, and sets with a subset of the classes: ok, and said."""
    names = tuple("abcdefghij")
    images = torch.zeros(10, 3, 2, 2)
    labels = np.arange(10)
    few = class_order(Sample(images=images, labels=labels), labels, names)
    assert few.level == "ok"
    assert "two images of each class" in few.found
    part = class_order(Sample(images=images, labels=labels % 2, present=(0, 1)), labels % 2, names)
    assert "has 2 of them" in part.found


def test_predictions_are_among_the_classes_that_are_present() -> None:
    """The largest logit of a class that the set lacks does not count."""
    sample = Sample(images=torch.zeros(2, 3, 2, 2), labels=np.array([1, 2]), present=(1, 2))
    logits = torch.tensor([[9.0, 1.0, 0.0, 8.0], [9.0, 1.0, 2.0, 8.0]])
    assert sample.predicted(logits).tolist() == [1, 2]
    assert Sample(images=sample.images, labels=sample.labels).predicted(logits).tolist() == [0, 0]


def test_better_than_chance() -> None:
    """Against the most frequent class: of 100 in 10 classes 30 are better, 14 not; nor 90 where 85 are alike."""
    even = Sample(images=torch.zeros(100, 3, 1, 1), labels=np.arange(100) % 10)
    assert even.beats_chance(np.arange(100) < 30)
    assert not even.beats_chance(np.arange(100) < 14)
    skewed = Sample(images=torch.zeros(100, 3, 1, 1), labels=(np.arange(100) >= 85).astype(np.int64))
    assert not skewed.beats_chance(np.arange(100) < 90)


def test_own_statistics_are_numpys() -> None:
    """Mean and standard deviation of each colour; constant colours do not divide by zero."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    pixels[..., 2] = 51
    data = ArrayDataset(name="x", split="test", classes=("a", "b"), labels=np.arange(50) % 2, pixels=pixels)
    mean, std = own_statistics(data)
    flat = pixels.reshape(-1, 3) / 255
    assert mean == pytest.approx(flat.mean(0), abs=5e-5)
    assert std == pytest.approx([flat[:, 0].std(), flat[:, 1].std(), 1e-4], abs=5e-5)


def test_candidates_are_not_repeated() -> None:
    """What was given comes first, and takes the place of an equal one."""
    own = ((0.3, 0.3, 0.3), (0.2, 0.2, 0.2))
    names = [item.name for item in candidates(None, own)]
    assert names == [RAW, "the data set's own", *(name for name, _, _ in USUAL)]
    given_raw = candidates(((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), own)
    assert [item.name for item in given_raw] == ["as given", *names[1:]]


def test_options_are_those_of_models_add() -> None:
    """Raw images need none; others are printed so that they read back as the same numbers."""
    assert normalisation_options((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)) == ()
    words = normalisation_options((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    assert words[0] == "--std"
    assert [float(part) for part in words[1].split(",")] == [1 / 255] * 3


CASES = {name: (mean, std) for name, mean, std in USUAL} | {RAW: ((0.0,) * 3, (1.0,) * 3)}


@pytest.mark.parametrize("name", CASES)
def test_each_normalisation_is_found(check: Check, twisted: Callable[[Twist], str], name: str) -> None:
    """A network that wants these numbers (it undoes them, then applies its own): they are chosen, or tie with it."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in CASES[name])
    own_mean, own_std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CARD.mean, CARD.std))
    architecture = twisted(lambda network, images: network((images * std + mean - own_mean) / own_std))
    report = check(architecture=architecture, given=None, images=100)
    finding = report.finding("input")
    assert finding is not None
    assert name in (finding.facts["chosen"], *finding.facts["ties"])
    right = {item["name"]: item["right"] for item in finding.facts["tried"]}
    assert right[name] >= 97
    assert right[name] == max(right.values())


def test_what_is_given_gives_way_to_what_is_clearly_better(check: Check) -> None:
    """Wrong numbers are a warning that names better ones, and the other checks and the command go on with those."""
    report = check(given=((0.9, 0.9, 0.9), (0.05, 0.05, 0.05)), images=100)
    finding = report.finding("input")
    assert finding is not None
    assert finding.level == "warning"
    assert "as given is clearly worse" in finding.found
    assert finding.facts["chosen"] == "the data set's own"
    assert ",".join(map(repr, finding.facts["mean"])) in report.add
    accuracy = report.finding("accuracy")
    assert accuracy is not None
    assert accuracy.facts["right"] >= 97


def test_ties_are_said(check: Check, twisted: Callable[[Twist], str]) -> None:
    """A network that normalises each image itself cannot tell the candidates apart; what is given stands."""

    def own(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        plain = (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)
        return network(plain)

    name = twisted(own)
    free = check(architecture=name, given=None).finding("input")
    assert free is not None
    assert free.level == "warning"
    assert len(free.facts["ties"]) >= 3
    assert "cannot tell it from" in free.found
    bound = check(architecture=name).finding("input")
    assert bound is not None
    assert (bound.level, bound.facts["chosen"]) == ("ok", "as given")


def test_seconds_of_a_cost() -> None:
    """Backward passes at the rate of both, the other forward passes at their own."""
    rates = Speed(forward=100.0, both=25.0, rows=64)
    assert rates.seconds(Cost(forwards=300, backwards=50)) == pytest.approx(250 / 100 + 50 / 25)
    assert rates.seconds(Cost(forwards=10, backwards=50)) == pytest.approx(2.0)
    blind = Speed(forward=100.0, both=None, rows=64)
    assert blind.seconds(Cost(forwards=300)) == pytest.approx(3.0)
    assert blind.seconds(Cost(forwards=300, backwards=1)) is None


def test_costs_are_the_plans() -> None:
    """The suites of a benchmark together are its plan; clean is one pass over 500 images; seconds follow the speed."""
    data = open_dataset("digits", "test")
    fitting = fitting_benchmarks(data)
    assert {item.name for item in fitting} >= {"digits", "digits-full"}
    assert {item.dataset for item in fitting} == {"digits"}
    assert len({item.name for item in fitting}) == len(fitting)  # the newest version of each
    finding = costs(data, Speed(forward=1000.0, both=500.0, rows=64))
    benchmark = load_benchmark("digits")
    row = next(item for item in finding.facts["benchmarks"] if item["benchmark"] == benchmark.label)
    whole = make_plan(benchmark.requests(ModelRef(name="m", digest="0" * 64), Target.plain(data.ref())), {}).cost
    suites = [row[name] for name in ("clean", "corruptions", "attacks", "measures", "checks")]
    assert sum(item["forwards"] for item in suites) == whole.forwards
    assert sum(item["backwards"] for item in suites) == whole.backwards
    assert sum(item["corrupted_images"] for item in suites) == whole.corrupted == 19 * 5 * 500
    assert row["clean"] == {"seconds": 0.5, "forwards": 500, "backwards": 0, "corrupted_images": 0}


def test_speed_counts_images() -> None:
    """A model that sleeps a known time a pass: the rate is rows over that time, at most; both kinds of pass run."""
    import time

    calls: list[tuple[int, bool]] = []

    def slow(images: torch.Tensor) -> torch.Tensor:
        calls.append((len(images), images.requires_grad))
        time.sleep(0.05)
        return images.flatten(1)

    speed = measure_speed(slow, torch.rand(5, 3, 4, 4), 16)
    assert {rows for rows, _ in calls} == {16}
    assert {flag for _, flag in calls} == {False, True}
    assert speed.both is not None
    assert 0 < speed.forward <= 16 / 0.05
    assert 0 < speed.both <= 16 / 0.05
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
