"""How the bundled models are described: a card is of an entry, photographs need their folder, quickstart has five."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.benchmarks import load_benchmark
from harness.cli.run import QUICKSTART, make_job
from harness.errors import RequestError, UnknownName
from models_zoo import list_models
from models_zoo.bundle import ALPHAS, BUNDLED, PHOTOGRAPHS, SEEDS, Bundled, chosen, main
from models_zoo.recipes import RECIPES
from models_zoo.registry import get_card

ENTRIES = {entry.name: entry for entry in BUNDLED}


@pytest.mark.parametrize("name", list_models())
def test_every_card_is_of_an_entry(name: str) -> None:
    """A bundled card has the recipe, network, seed and settings that its entry would be trained with, in one thread."""
    card, entry = get_card(name), ENTRIES[name]
    assert (card.recipe, card.architecture, card.dataset) == (entry.recipe, entry.architecture, entry.dataset)
    assert card.training is not None
    assert (card.training.seed, card.training.threads, card.training.device) == (entry.seed, 1, "cpu")
    recipe = RECIPES.get(entry.recipe)
    resolved = recipe.resolve(dict(entry.settings))
    assert recipe.resolve(card.hyper_parameters) == resolved


def test_entries() -> None:
    """Names are unique; the sweep has six settings of three seeds, alpha 0 being `supervised`; four on photographs."""
    assert len(ENTRIES) == len(BUNDLED)
    sweep = [
        entry
        for entry in BUNDLED
        if entry.dataset == "digits"
        and entry.architecture == "small_cnn"
        and entry.recipe in {"supervised", "selectivity"}
    ]
    assert len(sweep) == (len(ALPHAS) + 1) * len(SEEDS) == 18
    assert {"small_cnn.selectivity-ap0_5.digits.s2", "small_cnn.selectivity-am2.digits.s1"} <= set(ENTRIES)
    assert sum(entry.dataset == PHOTOGRAPHS for entry in BUNDLED) == 4


def test_alpha_0_is_supervised() -> None:
    """The objective of `selectivity` at alpha 0 is that of `supervised`, settings apart: nothing is left out."""
    zero = RECIPES.get("selectivity").resolve({"alpha": 0})
    plain = RECIPES.get("supervised").resolve({})
    assert {name: zero[name] for name in plain} == plain
    assert set(zero) - set(plain) == {"alpha", "alpha_warmup", "layers"}


def test_what_is_made() -> None:
    """All without photographs; all four more with their folder; by name in the given order, each once."""
    without, given = chosen((), folder=None), chosen((), folder=Path("photographs"))
    assert set(given) - set(without) == {entry for entry in BUNDLED if entry.dataset == PHOTOGRAPHS}
    names = ["small_cnn.augmix.digits.s0", "small_cnn.supervised.digits.s0", "small_cnn.augmix.digits.s0"]
    assert [entry.name for entry in chosen(names, folder=None)] == names[:2]
    with pytest.raises(UnknownName, match=r"did you mean 'small_cnn.augmix.digits.s0'"):
        chosen(["small_cnn.augmx.digits.s0"], folder=None)
    photograph = next(entry for entry in BUNDLED if entry.dataset == PHOTOGRAPHS)
    with pytest.raises(RequestError, match="--photographs"):
        chosen([photograph.name], folder=None)


def test_wrong_requests_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Exit code 2 or 1 and a line that names what was wrong; nothing is written."""
    assert main(["nothing"]) == 2
    photograph = next(entry for entry in BUNDLED if entry.dataset == PHOTOGRAPHS)
    assert main([photograph.name, "--photographs", str(tmp_path / "none")]) != 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: unknown bundled model 'nothing'")
    assert "none" in lines[1]


def test_entries_are_refused_like_settings() -> None:
    """A name is made of settings that the recipe accepts."""
    with pytest.raises(UnknownName):
        _ = Bundled(recipe="selectivity", settings=(("alfa", 1.0),)).name


def test_quickstart_takes_one_of_each_kind() -> None:
    """Five bundled models of five recipes or signs of alpha, all for the digits, and no other."""
    job = make_job(None, load_benchmark("digits"), list(QUICKSTART))
    assert sorted(model.name for model in job.models) == sorted(QUICKSTART)
    assert len(set(QUICKSTART)) == 5
    assert {ENTRIES[name].recipe for name in QUICKSTART} == {"supervised", "selectivity", "adversarial", "augmix"}
