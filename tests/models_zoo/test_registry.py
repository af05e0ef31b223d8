"""Models by name: the bundled ones, a store's, and foreign checkpoints."""

from __future__ import annotations

import dataclasses
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import open_dataset
from harness.errors import CardError, CheckpointError, InvalidArgument, UnknownName
from harness.measures import MEASURES
from harness.types import Json
from models_zoo import list_models, load_model
from models_zoo.adopt import adopt, count_parameters
from models_zoo.architectures import ARCHITECTURES
from models_zoo.checkpoints import save_state_dict, weights_digest
from models_zoo.recipes import RECIPES
from models_zoo.registry import WEIGHTS, bundled_cards, bundled_weights, get_card, load_from_card
from models_zoo.train import accuracy, to_tensor

SUPERVISED = "small_cnn.supervised.digits.s0"
LOW = "small_cnn.selectivity-am1.digits.s0"
HIGH = "small_cnn.selectivity-ap2.digits.s0"
PHOTOGRAPHS = Path(__file__).parents[1] / "fixtures" / "photos"


class OneModel:
    """A store with a single model."""

    def __init__(self, name: str, card: Mapping[str, Json], path: Path) -> None:
        self.name, self.card, self.path = name, card, path

    def model_card(self, name: str) -> tuple[Mapping[str, Json], Path] | None:
        """The one model, or None."""
        return (self.card, self.path) if name == self.name else None


def test_listing_imports_no_torch() -> None:
    """Names and cards are read, and unknown models refused, without importing torch."""
    code = (
        "import sys, models_zoo, models_zoo.registry as r, models_zoo.recipes as p, harness.measures as m\n"
        "assert len(models_zoo.list_models()) >= 5 and r.bundled_cards() and list(p.RECIPES)\n"
        "assert m.MEASURES.get('selectivity').version\n"
        "try:\n    models_zoo.load_model('nothing')\nexcept ValueError: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_bundled_files_belong_together() -> None:
    """Each card has its weights and each weights file its card, within the limits of size; at least five in all."""
    weights = {path.stem: path.stat().st_size for path in WEIGHTS.glob("*.safetensors")}
    assert set(weights) == set(bundled_cards())
    assert {SUPERVISED, LOW, HIGH, "small_cnn.adversarial-linf8.digits.s0", "resnet20.supervised.digits.s0"} <= set(
        weights
    )
    assert max(weights.values()) <= 1_200_000
    assert sum(weights.values()) <= 25_000_000


@pytest.mark.parametrize("name", list_models())
def test_bundled_model_is_what_its_card_says(name: str) -> None:
    """Weights match the digest; size, classes and clean accuracy match the card.

    To a point on the test digits; on 64 of the 10,000 test photographs to three standard errors.
    """
    model = load_model(name)
    card = get_card(name)
    test = open_dataset(card.dataset, "test", folders={"cifar10-jpeg": PHOTOGRAPHS})
    assert model.card == card
    assert weights_digest(model.network.state_dict()) == card.weights_digest
    assert count_parameters(model.network) == card.parameters
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert card.class_names == test.classes
    assert card.training is not None
    assert card.training.clean_accuracy is not None
    claim = card.training.clean_accuracy
    allowed = 0.01 if card.dataset == "digits" else 3 * (claim * (1 - claim) / test.images().shape[0]) ** 0.5
    assert accuracy(model, test.images(), test.labels) == pytest.approx(claim, abs=allowed)
    recipe = RECIPES.get(card.recipe)
    # A card may be older than a setting, which then has its default; what it says is never read in another way.
    settings = recipe.resolve(card.hyper_parameters)
    assert settings == recipe.resolve({}) | dict(card.hyper_parameters)
    made = recipe.model_name(
        architecture=card.architecture, dataset=card.dataset, settings=settings, seed=card.training.seed
    )
    assert made == name


def test_selectivity_of_the_bundled_models_is_ordered() -> None:
    """The regulariser has worked: low < supervised < high on the test digits, clearly."""
    test = open_dataset("digits", "test")
    batches = torch.split(to_tensor(test.images()), 250)
    low, plain, high = (
        MEASURES.get("selectivity").run(load_model(name), batches, test.labels).value("selectivity_index")
        for name in (LOW, SUPERVISED, HIGH)
    )
    assert low < plain - 0.05
    assert high > plain + 0.2


def test_model_survives_pickling() -> None:
    """A model can be sent to a worker process: same card, same logits."""
    model = load_model(SUPERVISED)
    twin = pickle.loads(pickle.dumps(model))  # noqa: S301  our own bytes
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(twin(images), model(images))
    assert twin.card == model.card


def test_unknown_names_get_a_hint() -> None:
    """A slip of the finger gets the nearest model."""
    with pytest.raises(UnknownName, match=re.escape(f"did you mean '{SUPERVISED}'?")):
        load_model("small_cnn.supervized.digits.s0")
    with pytest.raises(UnknownName, match=r"unknown model 'nothing'"):
        load_model("nothing", store=OneModel("a.b.c", {}, Path("none")))


def test_patterns() -> None:
    """Shell patterns choose among the names."""
    assert set(list_models("small_cnn.selectivity-*")) >= {LOW, HIGH}
    assert list_models("none*") == ()
    assert SUPERVISED in list_models()


def test_architecture_needs_weights() -> None:
    """The bare name of an architecture says what is missing."""
    with pytest.raises(InvalidArgument, match="weights: got None, expected a weights file"):
        load_model("resnet20")


def test_store_is_asked_after_the_bundled_models(tmp_path: Path) -> None:
    """A stored model is loaded by its card; a bundled name never comes from the store."""
    card = dataclasses.replace(get_card(SUPERVISED), name="small_cnn.mine.digits")
    store = OneModel(card.name, card.to_dict(), bundled_weights(SUPERVISED))
    assert load_model(card.name, store=store).card == card
    impostor = OneModel(SUPERVISED, card.to_dict(), tmp_path / "none")
    assert load_model(SUPERVISED, store=impostor).card.name == SUPERVISED


def test_weights_that_are_not_the_cards_are_refused(tmp_path: Path) -> None:
    """Other weights of the right shape do not pass for the model; nor does another version of the architecture."""
    card = get_card(SUPERVISED)
    with pytest.raises(CheckpointError, match="has digest"):
        load_from_card(card, bundled_weights(LOW))
    with pytest.raises(CheckpointError, match="do not fit small_cnn"):
        load_model(SUPERVISED, weights=bundled_weights("resnet20.supervised.digits.s0"))
    with pytest.raises(CardError, match="version '9'"):
        load_from_card(dataclasses.replace(card, architecture_version="9"), bundled_weights(SUPERVISED))
    with pytest.raises(UnknownName, match="architecture"):
        load_from_card(dataclasses.replace(card, architecture="small_cnm"), bundled_weights(SUPERVISED))


def test_adopted_checkpoint_has_a_card(tmp_path: Path) -> None:
    """Classes are read off the file, and the same weights under other numbers of normalisation are another model."""
    torch.manual_seed(0)
    network = ARCHITECTURES.get("small_cnn").build(7)
    save_state_dict(network.state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": network.state_dict()}, tmp_path / "a.pt")
    plain = load_model("small_cnn", weights=tmp_path / "a.safetensors")
    assert (plain.card.classes, plain.card.mean, plain.card.std) == (7, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(plain(images), network.eval()(images))
    assert adopt("small_cnn", tmp_path / "a.pt", name="small_cnn.mine.x").card.digest == plain.card.digest
    assert adopt("small_cnn", tmp_path / "a.pt", mean=(0.5, 0.5, 0.5)).card.digest != plain.card.digest


def test_adopt_refuses_what_does_not_fit(tmp_path: Path) -> None:
    """Unknown architecture, foreign tensors, a bad name: each by name."""
    path = tmp_path / "a.safetensors"
    save_state_dict({"head.weight": torch.from_numpy(np.zeros((10, 4), dtype=np.float32))}, path)
    with pytest.raises(CheckpointError, match=r"missing \(conv1.weight.*1 unexpected \(head.weight\)"):
        adopt("resnet20", path)
    with pytest.raises(UnknownName, match="did you mean 'resnet20'"):
        load_model("resnet_20", weights=path)
    with pytest.raises(CardError, match="name"):
        adopt("small_cnn", bundled_weights(SUPERVISED), name="../../etc")
