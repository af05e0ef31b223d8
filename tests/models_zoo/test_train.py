"""The training loop: deterministic, from its card alone, and honest about validation."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import InvalidArgument, ModelError, UnknownName
from harness.spec import Scalar
from models_zoo.architectures import ARCHITECTURES
from models_zoo.augmentation import (
    epoch_order,
    flip_at_random,
    shift_at_random,
    split_validation,
    validation_pieces,
)
from models_zoo.checkpoints import fit, weights_digest
from models_zoo.model import ZooModel
from models_zoo.recipes import RECIPES
from models_zoo.train import Progress, TrainingData, accuracy, learning_rate_at, retrain, to_tensor, train
from tests.models_zoo.tiny import quarters

TINY: dict[str, Scalar] = {"epochs": 2, "batch_size": 32, "learning_rate": 0.05}


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """160 images of 12 x 12, four classes told apart by the brightest quarter."""
    return quarters()


@pytest.mark.parametrize("recipe", RECIPES.names())
def test_same_seed_same_weights(data: TrainingData, recipe: str) -> None:
    """A card alone makes the same weights again, whatever torch's global state; another seed makes others."""
    settings = TINY | ({"steps": 2} if recipe in ("adversarial", "trades") else {})
    torch.manual_seed(1)
    first = train(recipe, dataset=data, architecture="small_cnn", settings=settings, seed=5)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again = retrain(first.card, dataset=data)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.card == first.card
    assert weights_digest(again.state_dict) == first.card.weights_digest
    other = train(recipe, dataset=data, architecture="small_cnn", settings=settings, seed=6)
    assert other.card.weights_digest != first.card.weights_digest


@pytest.mark.parametrize("recipe", ["supervised", "selectivity", "adversarial", "trades"])
def test_mixed_precision(data: TrainingData, recipe: str) -> None:
    """Mixed precision learns the task, is as repeatable as float32, and keeps float32 weights in the usual layout."""
    settings = TINY | {"epochs": 6, "precision": "bf16"}
    if recipe in ("adversarial", "trades"):
        settings["steps"] = 1
    first = train(recipe, dataset=data, architecture="small_cnn", settings=settings, seed=5)
    again = retrain(first.card, dataset=data)
    assert again.card == first.card
    plain = train(recipe, dataset=data, architecture="small_cnn", settings=settings | {"precision": "float32"}, seed=5)
    assert plain.card.weights_digest != first.card.weights_digest
    assert first.card.training is not None
    assert first.card.training.clean_accuracy is not None
    assert first.card.training.clean_accuracy > 0.9
    for tensor in first.state_dict.values():
        assert tensor.is_contiguous()
        assert tensor.dtype in (torch.float32, torch.int64)


def test_recipes_differ(data: TrainingData) -> None:
    """The regulariser and the attack reach the weights: three digests; alpha 0 is plain cross-entropy."""
    runs = {
        "supervised": train("supervised", dataset=data, architecture="small_cnn", settings=TINY),
        "low": train("selectivity", dataset=data, architecture="small_cnn", settings=TINY | {"alpha": -1}),
        "none": train("selectivity", dataset=data, architecture="small_cnn", settings=TINY | {"alpha": 0}),
        "attacked": train("adversarial", dataset=data, architecture="small_cnn", settings=TINY | {"steps": 1}),
    }
    digests = {name: run.card.weights_digest for name, run in runs.items()}
    assert digests["none"] == digests["supervised"]
    assert len({digests[name] for name in ("supervised", "low", "attacked")}) == 3


def test_training_learns_and_keeps_the_best_epoch(data: TrainingData) -> None:
    """The task is learnt, the card tells the truth about it, and the kept epoch has the lowest validation objective."""
    seen: list[Progress] = []
    result = train(
        "supervised", dataset=data, architecture="small_cnn", settings=TINY | {"epochs": 8}, progress=seen.append
    )
    record = result.card.training
    assert record is not None
    assert [progress.epoch for progress in seen] == list(range(1, 9))
    assert tuple(seen) == result.history
    assert record.best_epoch == 1 + int(np.argmin([progress.objective for progress in seen]))
    assert seen[-1].eta_seconds == 0
    network = ARCHITECTURES.get("small_cnn").build(4, (12, 12))
    fit(result.state_dict, network, architecture="small_cnn")
    model = ZooModel(network, result.card).eval()
    assert data.test_images is not None
    assert data.test_labels is not None
    assert accuracy(model, data.test_images, data.test_labels) == record.clean_accuracy
    assert record.clean_accuracy is not None
    assert record.clean_accuracy > 0.9
    _, validation = split_validation(data.labels, 0.1, seed=0)
    assert record.validation_images == len(validation) == 16
    assert record.train_images == 144
    assert accuracy(model, data.images[validation], data.labels[validation]) == record.validation_accuracy


def test_the_test_split_decides_nothing(data: TrainingData) -> None:
    """Without a test split, and with a wrong one, the weights are the same; only the recorded accuracy differs."""
    assert data.test_labels is not None
    runs = [
        train("supervised", dataset=variant, architecture="small_cnn", settings=TINY)
        for variant in (
            data,
            dataclasses.replace(data, test_images=None, test_labels=None),
            dataclasses.replace(data, test_labels=(data.test_labels + 1) % 4),
        )
    ]
    assert len({run.card.weights_digest for run in runs}) == 1
    records = [run.card.training for run in runs]
    assert records[1] is not None
    assert records[1].clean_accuracy is None


def test_threads_are_set_and_put_back(data: TrainingData) -> None:
    """The run has the asked number of threads, the caller keeps its own, and the card tells."""
    before = torch.get_num_threads()
    inside: list[int] = []
    result = train(
        "supervised", dataset=data, architecture="small_cnn", settings=TINY, threads=2,
        progress=lambda _progress: inside.append(torch.get_num_threads()),
    )  # fmt: skip
    assert inside == [2, 2]
    assert torch.get_num_threads() == before
    assert result.card.training is not None
    assert result.card.training.threads == 2


def test_divergence_is_an_error(data: TrainingData) -> None:
    """An objective that is not finite ends the run with advice."""
    settings = TINY | {"learning_rate": 100.0, "warmup_epochs": 0, "weight_decay": 1.0, "momentum": 0.999, "epochs": 40}
    with pytest.raises(ModelError, match="lower learning_rate"):
        train("supervised", dataset=data, architecture="small_cnn", settings=settings)


def test_signed_activations_are_refused_before_the_first_step(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is not defined on them: the layer is named; without the regulariser, and after ReLUs, all is well."""

    class Entered(Exception):
        """The first step was about to be taken."""

    def enter(*_: object) -> None:
        raise Entered

    monkeypatch.setattr("models_zoo.training_run.TrainingRun._train_epoch", enter)
    with pytest.raises(ModelError, match=r"layer 'features\.0\.2' of torchvision:mobilenet_v3_small: .*negative"):
        train("selectivity", dataset=data, architecture="torchvision:mobilenet_v3_small", settings=TINY)
    with pytest.raises(Entered):
        train("selectivity", dataset=data, architecture="torchvision:mobilenet_v3_small", settings=TINY | {"alpha": 0})
    for architecture in ("resnet20", "torchvision:resnet18"):
        with pytest.raises(Entered):
            train("selectivity", dataset=data, architecture=architecture, settings=TINY)


def test_bad_requests_are_named(data: TrainingData) -> None:
    """Unknown names, wrong arrays and a foreign data set are refused before any work."""
    with pytest.raises(UnknownName, match="recipe"):
        train("supervize", dataset=data, architecture="small_cnn")
    with pytest.raises(UnknownName, match="architecture"):
        train("supervised", dataset=data, architecture="small_cmm")
    with pytest.raises(InvalidArgument, match="threads"):
        train("supervised", dataset=data, architecture="small_cnn", threads=0)
    with pytest.raises(InvalidArgument, match="seed"):
        train("supervised", dataset=data, architecture="small_cnn", seed=-1)
    with pytest.raises(InvalidArgument, match="uint8"):
        dataclasses.replace(data, images=data.images.astype(np.float32))
    with pytest.raises(InvalidArgument, match="one for each of 160"):
        dataclasses.replace(data, labels=data.labels[:3])
    with pytest.raises(InvalidArgument, match="classes from 0 to 2"):
        dataclasses.replace(data, class_names=("a", "b", "c"))
    with pytest.raises(InvalidArgument, match="labels: got -1, expected classes from 0 to 3"):
        dataclasses.replace(data, labels=np.where(np.arange(160) == 7, -1, data.labels))
    card = train("supervised", dataset=data, architecture="small_cnn", settings=TINY | {"epochs": 1}).card
    with pytest.raises(InvalidArgument, match="dataset: got 'other', expected quarters"):
        retrain(card, dataset=dataclasses.replace(data, name="other"))
    with pytest.raises(InvalidArgument, match="training record"):
        retrain(dataclasses.replace(card, training=None), dataset=data)


def test_the_test_split_is_checked_before_training(data: TrainingData) -> None:
    """Floats, another layout, another size, labels too few or out of range, and half a pair are named."""
    images, labels = data.test_images, data.test_labels
    assert images is not None
    assert labels is not None
    cases: list[tuple[dict[str, Any], str]] = [
        ({"test_images": (images / 255).astype(np.float32)}, r"test_images: got 'float32 \(40, 12, 12, 3\)', .*uint8"),
        ({"test_images": images.transpose(0, 3, 1, 2)}, r"test_images: got 'uint8 \(40, 3, 12, 12\)'"),
        ({"test_images": images[:, :8]}, r"test_images: got '\(40, 8, 12, 3\)', expected 12 x 12 pixels"),
        ({"test_labels": labels[:30]}, r"test_labels: got \(30,\), expected one for each of 40 images"),
        ({"test_labels": labels + 1}, "test_labels: got 4, expected classes from 0 to 3"),
        ({"test_labels": labels - 1}, "test_labels: got -1, expected classes from 0 to 3"),
        ({"test_labels": None}, "both or none"),
        ({"test_images": None}, "both or none"),
    ]
    for changed, message in cases:
        with pytest.raises(InvalidArgument, match=message):
            dataclasses.replace(data, **changed)


def test_learning_rate_schedule() -> None:
    """Rises in equal steps to the peak, halves midway, ends near zero, and never jumps up again."""
    rates = [learning_rate_at(step, peak=0.8, warmup=3, total=11) for step in range(11)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[7] == pytest.approx(0.4)
    assert rates[10] == pytest.approx(0.4 * (1 + np.cos(np.pi * 7 / 8)))
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[3:]))


def test_validation_part_is_stratified() -> None:
    """A tenth of each class, disjoint from the rest, the same for the same seed and another for another."""
    labels = np.repeat(np.arange(3), [100, 50, 7]).astype(np.int64)
    train_part, validation = split_validation(labels, 0.1, seed=0)
    assert sorted([*train_part, *validation]) == list(range(157))
    assert np.bincount(labels[validation]).tolist() == [10, 5, 1]
    assert np.array_equal(split_validation(labels, 0.1, seed=0)[1], validation)
    assert not np.array_equal(split_validation(labels, 0.1, seed=1)[1], validation)
    with pytest.raises(InvalidArgument, match="one image of class 1"):
        split_validation(np.array([0, 0, 1]), 0.1, seed=0)


def test_validation_batches_hold_every_class() -> None:
    """Sorted by class, or with one class in nine tenths of the images: each batch gets its share of each class."""
    turns = np.arange(1000) % 4
    skewed = np.where(np.arange(1000) < 200, np.arange(1000) % 2, 0)
    for labels in (np.sort(turns), skewed):
        pieces = validation_pieces(np.arange(1000), labels, size=256)
        assert sorted(np.concatenate(pieces)) == list(range(1000))
        counts = np.array([np.bincount(labels[piece]) for piece in pieces])
        assert (counts.max(0) - counts.min(0)).max() <= 1
        assert counts.min() > 0
        assert all((np.diff(piece) > 0).all() for piece in pieces)


def test_validation_batches_of_bundled_cards_are_consecutive() -> None:
    """The best epochs of the bundled models were chosen on consecutive images: one batch of digits, ten of photos."""
    photos = np.arange(50_000) % 10
    _, validation = split_validation(photos, 0.05, seed=0)
    assert len(validation) == 2500
    pieces = validation_pieces(validation, photos, size=256)
    assert [piece.tolist() for piece in pieces] == [piece.tolist() for piece in np.split(validation, 10)]
    labels = np.sort(np.arange(129) % 10)
    (piece,) = validation_pieces(np.arange(129), labels, size=256)
    assert piece.tolist() == list(range(129))


def test_selectivity_trains_on_data_sorted_by_class() -> None:
    """Two classes one after the other, more validation images than one batch holds: no batch has a single class."""
    data = quarters(1100)
    two = np.concatenate([np.flatnonzero(data.labels == label) for label in (0, 1)])
    ordered = dataclasses.replace(
        data, images=data.images[two], labels=data.labels[two], class_names=("a", "b"), test_images=None,
        test_labels=None,
    )  # fmt: skip
    settings = TINY | {"epochs": 1, "validation_share": 0.5}
    result = train("selectivity", dataset=ordered, architecture="small_cnn", settings=settings)
    assert result.card.training is not None
    assert result.card.training.validation_images == 276


def test_order_is_a_fresh_permutation_each_epoch() -> None:
    """Every position once, in an order that changes with epoch and seed."""
    orders = [epoch_order(100, seed=seed, epoch=epoch).tolist() for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_shift_against_a_plain_loop() -> None:
    """Each image is a window of its padded self, by offsets that cover the range."""
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
    indices = np.arange(100, 140)
    moved = shift_at_random(images, indices, 2, seed=0, epoch=1)
    found = []
    for image, shifted in zip(images, moved, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        windows = {(y, x): padded[y : y + 6, x : x + 5] for y in range(5) for x in range(5)}
        matches = [offset for offset, window in windows.items() if np.array_equal(window, shifted)]
        assert len(matches) == 1
        found += matches
    assert {y for y, _ in found} == {x for _, x in found} == set(range(5))
    assert np.array_equal(shift_at_random(images[7:9], indices[7:9], 2, seed=0, epoch=1), moved[7:9])
    assert shift_at_random(images, indices, 0, seed=0, epoch=1) is images


def test_flip_mirrors_about_half() -> None:
    """Each image is itself or its mirror image; of 200, between 70 and 130 are mirrored."""
    images = np.random.default_rng(0).integers(0, 256, (200, 4, 5, 3), dtype=np.uint8)
    moved = flip_at_random(images, np.arange(200), seed=0, epoch=1)
    same = np.array([np.array_equal(a, b) for a, b in zip(moved, images, strict=True)])
    mirrored = np.array([np.array_equal(a, b[:, ::-1]) for a, b in zip(moved, images, strict=True)])
    assert (same ^ mirrored).all()
    assert 70 <= mirrored.sum() <= 130


def test_images_to_tensor() -> None:
    """NHWC bytes become NCHW floats: 255 is 1."""
    images = np.zeros((1, 2, 3, 3), dtype=np.uint8)
    images[0, 1, 2, 0] = 255
    tensor = to_tensor(images)
    assert tensor.shape == (1, 3, 2, 3)
    assert float(tensor[0, 0, 1, 2]) == 1.0
    assert float(tensor.sum()) == 1.0
