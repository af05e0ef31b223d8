"""Best-known figures against a plain loop over images, and the judging of claims."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.adaptive import BestKnown, best_known, broken_before, check_attribution, judge
from harness.attacks.catalogue import attack_version, is_current
from harness.attacks.examples import Claim
from harness.data import open_dataset
from harness.errors import InvalidArgument, UnknownName
from harness.jobs.context import find_models
from harness.jobs.subject import open_subject
from harness.outcome import BlockOutcome, Cost, Examples
from harness.spec import (
    AttackSpec,
    CleanSpec,
    DataRef,
    EvaluationSpec,
    ModelRef,
    Scalar,
    Scope,
    as_norm,
    freeze_options,
)
from harness.storage import open_store
from harness.storage.adversarial import StoredClaim
from harness.storage.store import Store

DATA = DataRef(name="d", split="test", digest="d" * 64, images=20, classes=10)
MODEL = ModelRef(name="small.x.d", digest="a" * 64)
CARD = {"name": MODEL.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
COST = Cost(seconds=1.0, forwards=1, backwards=0, device="cpu", batch_size=16)


@dataclass
class World:
    """A store with one model, and short ways to fill it."""

    store: Store
    run: int

    def attack(
        self,
        right: str,
        eps: float = 0.1,
        attack: str = "pgd",
        norm: str = "Linf",
        version: str = "",
        stop: int = 0,
        **options: Scalar,
    ) -> str:
        """Verdicts as text, one sign an image (1 right); returns the evaluation's digest."""
        scope = Scope(start=0, stop=stop, batch=20) if stop else None
        made = AttackSpec(
            attack=attack,
            norm=as_norm(norm),
            eps=eps,
            seed=0,
            version=version or attack_version(attack, options),
            options=freeze_options(options),
            scope=scope,
        )
        spec = EvaluationSpec(model=MODEL, data=DATA, perturbation=made)
        self._put(spec, right)
        return spec.digest

    def _put(self, spec: EvaluationSpec, right: str) -> None:
        bits = np.array([sign == "1" for sign in right])
        outcome = BlockOutcome(evaluation=spec.digest, block=0, start=0, stop=len(right), correct=bits, cost=COST)
        self.store.put_outcome(self.run, spec, outcome)

    def claim(self, broken: dict[int, float], norm: str = "Linf", author: str = "", data: DataRef = DATA) -> None:
        """Images broken, each with the size at which it is."""
        claim = StoredClaim(
            model=MODEL.digest,
            data=data,
            norm=norm,
            eps=max(broken.values()),
            blob=self.store.blobs.put_bytes(repr((broken, author)).encode()),
            images=len(broken),
            indices=np.array(sorted(broken)),
            radius=np.array([broken[index] for index in sorted(broken)]),
            author=author,
            source="",
            added_at="2026-01-01T00:00:00Z",
        )
        assert self.store.put_claim(MODEL, claim, b"")

    def only(self) -> BestKnown:
        """The one figure."""
        (figure,) = best_known(self.store, MODEL.name)
        return figure


def world(path: Path) -> World:
    """An empty one."""
    store = open_store(str(path))
    store.put_model(CARD, MODEL.digest, blob=None)
    return World(store=store, run=store.start_run("test", {}))


@pytest.fixture
def empty(tmp_path: Path) -> World:
    """A store with a model and nothing else."""
    return world(tmp_path / "results.db")


def test_without_an_attack_there_is_no_figure(empty: World) -> None:
    """Clean accuracy is no robust accuracy, and a claim alone covers no images."""
    empty._put(EvaluationSpec(model=MODEL, data=DATA, perturbation=CleanSpec()), "1" * 20)
    empty.claim({0: 0.1})
    assert best_known(empty.store, MODEL.name) == ()
    with pytest.raises(UnknownName, match="did you mean"):
        best_known(empty.store, "small.y.d")


def test_a_claim_lowers_the_figure_and_is_named(empty: World) -> None:
    """By hand: 6 of 8 stand, two of three claimed images are news, one lies beyond the images that are covered."""
    digest = empty.attack("11011110")
    empty.claim({0: 0.05, 2: 0.1, 5: 0.1, 9: 0.1}, author="A")
    figure = empty.only()
    assert (figure.images, figure.store_value, figure.attack, figure.evaluation) == (8, 0.75, "pgd Linf 0.1", digest)
    assert figure.value == 0.5
    assert (figure.broken_by_examples, figure.broken_by_others) == (2, 0)
    interval = binomtest(4, 8).proportion_ci(method="wilson")
    assert (figure.low, figure.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    (credit,) = figure.attributions
    assert (credit.author, credit.broken, credit.first) == ("A", 3, 2)


def test_who_was_first_gets_the_credit(empty: World) -> None:
    """The same image again is broken by both and first by one."""
    empty.attack("1111")
    empty.claim({0: 0.1, 1: 0.1}, author="A")
    empty.claim({1: 0.1, 2: 0.1}, author="B")
    assert [(item.author, item.first, item.broken) for item in empty.only().attributions] == [("A", 2, 2), ("B", 1, 2)]
    assert empty.only().value == 0.25


def test_a_smaller_ball_is_inside_a_larger_one(empty: World) -> None:
    """An image broken at size r counts from r on, in its norm, on its data set; attacks of the store likewise."""
    empty.attack("1111", eps=0.1)
    empty.attack("1110", eps=0.2)
    empty.attack("1111", eps=0.3)
    empty.attack("1111", eps=0.2, norm="L2")
    empty.claim({0: 0.15})
    empty.claim({1: 0.01}, data=replace(DATA, digest="e" * 64))
    found = {(item.norm, item.eps): item for item in best_known(empty.store, MODEL.name)}
    assert {key: item.value for key, item in found.items()} == {
        ("Linf", 0.1): 1.0,
        ("Linf", 0.2): 0.5,
        ("Linf", 0.3): 0.5,
        ("L2", 0.2): 1.0,
    }
    assert (found["Linf", 0.3].broken_by_others, found["Linf", 0.3].broken_by_examples) == (1, 1)
    assert found["Linf", 0.1].attributions == ()


def test_the_attack_that_covers_most_images_is_the_stores(empty: World) -> None:
    """Then the one that breaks most; what others broke is subtracted and said."""
    empty.attack("1111111")
    strong = empty.attack("1111110", attack="apgd-ce")
    empty.attack("0011", attack="autoattack")
    figure = empty.only()
    assert (figure.evaluation, figure.images, figure.store_value) == (strong, 7, 6 / 7)
    assert (figure.value, figure.broken_by_others) == (4 / 7, 2)


def test_an_attack_around_another_counts(empty: World) -> None:
    """`bisect` as benchmarks write it, the attack inside in its version; not around an older one."""
    empty.attack("1111")
    empty.attack("0111", attack="bisect", inner="pgd", levels=3)
    empty.attack("1011", attack="bisect", version="1+pgd-0", inner="pgd", levels=3)
    assert empty.only().value == 0.75
    assert np.flatnonzero(broken_before(empty.store, MODEL, DATA, "Linf", 0.1)).tolist() == [0]
    assert not is_current("bisect", {"inner": "gone", "levels": 3}, "1+gone-1")
    assert not is_current("gone", {}, "1")


def test_older_components_do_not_count(empty: World) -> None:
    """Neither as the figure nor as a break; nor does an attack that this version does not have."""
    empty.attack("0000", version="0")
    assert best_known(empty.store, MODEL.name) == ()
    empty.attack("1111")
    assert empty.only().value == 1.0
    assert not broken_before(empty.store, MODEL, DATA, "Linf", 0.1).any()


@settings(max_examples=8)
@given(
    attacks=st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.3]), st.text("01", min_size=1, max_size=9)), min_size=1, max_size=4
    ),
    claims=st.lists(
        st.dictionaries(st.integers(0, 11), st.sampled_from([0.05, 0.1, 0.15, 0.3, 0.4]), min_size=1, max_size=5),
        max_size=3,
    ),
)
def test_figures_equal_a_loop_over_images(
    tmp_path_factory: pytest.TempPathFactory, attacks: list[tuple[float, str]], claims: list[dict[int, float]]
) -> None:
    """Image by image: does anything of the store, or anybody, break it within the radius?"""
    made = world(tmp_path_factory.mktemp("world") / "results.db")
    names = ["pgd", "fgsm", "apgd-ce", "square"]
    for name, (eps, right) in zip(names, attacks, strict=False):
        made.attack(right, eps=eps, attack=name)
    for number, broken in enumerate(claims):
        made.claim(broken, author=str(number))
    figures = best_known(made.store, MODEL.name)
    assert [figure.eps for figure in figures] == sorted({eps for eps, _ in attacks})
    for figure in figures:
        n = max(len(right) for eps, right in attacks if eps == figure.eps)
        assert figure.images == n
        standing = 0
        for image in range(n):
            ours = any(eps <= figure.eps and image < len(right) and right[image] == "0" for eps, right in attacks)
            theirs = any(broken.get(image, 1.0) <= figure.eps for broken in claims)
            standing += not ours and not theirs
        assert figure.value == standing / n
        lost = round(figure.store_value * n) - standing
        assert figure.broken_by_others + figure.broken_by_examples == lost
        assert sum(item.first for item in figure.attributions) == figure.broken_by_examples
    made.store.close()


def test_what_was_known_before(empty: World) -> None:
    """Of every image of the data set: broken by the store within the radius, or by somebody."""
    empty.attack("1011", eps=0.1)
    empty.attack("0111", eps=0.2)
    empty.claim({15: 0.1, 16: 0.15})
    assert np.flatnonzero(broken_before(empty.store, MODEL, DATA, "Linf", 0.1)).tolist() == [1, 15]
    assert np.flatnonzero(broken_before(empty.store, MODEL, DATA, "Linf", 0.2)).tolist() == [0, 1, 15, 16]
    assert not broken_before(empty.store, MODEL, DATA, "L2", 9.0).any()
    assert not broken_before(empty.store, ModelRef(name=MODEL.name, digest="c" * 64), DATA, "Linf", 1.0).any()
    assert not broken_before(None, MODEL, DATA, "Linf", 1.0).any()


def test_judging_counts_only_what_the_model_gets_wrong_because_of_it() -> None:
    """Clean images break nothing; another class's image does; one that is wrong clean counts for nobody."""
    data = open_dataset("digits")
    (source,) = find_models(None, ["small_cnn.supervised.digits.s0"])
    subject = open_subject(source, data)
    everything = np.arange(len(data))
    clean = np.ascontiguousarray(subject.images(0, len(data)).numpy())
    right = subject.right(clean, everything, 100)
    wrong = int(np.flatnonzero(~right)[0])
    other = int(np.flatnonzero(right & (np.asarray(data.labels) != data.labels[0]))[0])
    indices = np.array([5, 0, wrong])
    assert right[[5, 0]].all()
    pixels = np.stack([clean[5], clean[other], clean[wrong]])
    claim = Claim(
        examples=Examples(adversarial=pixels, indices=indices, labels=np.asarray(data.labels)[indices]),
        radius=np.array([0.1, 0.2, 0.3]),
    )
    found = judge(subject, claim)
    assert found.indices.tolist() == [0]
    assert found.radius.tolist() == [0.2]
    assert found.wrong_clean == 1


@pytest.mark.parametrize(
    ("author", "source", "message"),
    [
        ("x" * 201, "", "by: got"),
        ("a\nb", "", "by: got"),
        ("a\x1b[31m", "", "by: got"),
        ("", "javascript:alert(1)", "source: got 'javascript:alert"),
        ("", "example.org", "http or https"),
        ("", "https://", "http or https"),
        ("", "https://a b", "http or https"),
        ("", "https://a/\u202e", "http or https"),
        ("", "https://" + "a" * 500, "at most 500"),
    ],
)
def test_attributions_are_bounded(author: str, source: str, message: str) -> None:
    """Length, control characters, and addresses that a browser would run."""
    with pytest.raises(InvalidArgument, match=message):
        check_attribution(author, source)


def test_ordinary_attributions_are_taken() -> None:
    """Any script, and addresses with queries."""
    check_attribution("", "")
    check_attribution("Å. Näme <a@example.org>", "https://example.org/paper?id=1#x")
