"""The bundled models: which there are, and how to make them again (`python -m models_zoo.bundle`).

Each is trained from scratch on the embedded digits; nobody else's weights are in this package.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.data import open_dataset
from harness.spec import Scalar
from models_zoo.checkpoints import save_state_dict
from models_zoo.registry import CARDS, bundled_cards, bundled_weights
from models_zoo.train import Progress, TrainingData, TrainResult, train


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """What makes one bundled model."""

    recipe: str
    architecture: str = "small_cnn"
    settings: tuple[tuple[str, Scalar], ...] = ()
    seed: int = 0


BUNDLED: tuple[Bundled, ...] = (
    Bundled(recipe="supervised"),
    Bundled(recipe="selectivity", settings=(("alpha", -1.0),)),
    Bundled(recipe="selectivity", settings=(("alpha", 2.0),)),
    Bundled(recipe="adversarial", settings=(("eps", "8/255"),)),
    Bundled(recipe="supervised", architecture="resnet20", settings=(("epochs", 10), ("shift", 0))),
)


def digits() -> TrainingData:
    """The embedded digits as training data."""
    parts = {split: open_dataset("digits", split) for split in ("train", "test")}
    return TrainingData(
        name="digits",
        images=np.array(parts["train"].images()),
        labels=np.array(parts["train"].labels),
        class_names=parts["train"].classes,
        test_images=np.array(parts["test"].images()),
        test_labels=np.array(parts["test"].labels),
    )


def make(entry: Bundled, data: TrainingData) -> TrainResult:
    """Train one bundled model, with a line of progress on standard error."""

    def show(progress: Progress) -> None:
        sys.stderr.write(
            f"\r{entry.architecture} {entry.recipe}: epoch {progress.epoch}/{progress.epochs}, "
            f"loss {progress.loss:.3f}, accuracy {progress.accuracy:.3f}, {progress.eta_seconds:.0f} s left "
        )

    result = train(
        entry.recipe,
        dataset=data,
        architecture=entry.architecture,
        settings=dict(entry.settings),
        seed=entry.seed,
        progress=show,
    )
    sys.stderr.write("\n")
    return result


def main(names: Sequence[str]) -> None:
    """Make bundled models and write their cards and weights.

    Args:
        names: of the models to make; all if empty.
    """
    data = digits()
    known = bundled_cards()
    for entry in BUNDLED:
        name = planned_name(entry, data)
        if names and name not in names:
            continue
        result = make(entry, data)
        before = known.get(name)
        same = before is not None and before.weights_digest == result.card.weights_digest
        save_state_dict(result.state_dict, bundled_weights(name))
        (CARDS / f"{name}.toml").write_text(result.card.to_toml(), encoding="utf-8")
        sys.stdout.write(f"{name}: {'the same weights as before' if same else 'new weights'}\n")


def planned_name(entry: Bundled, data: TrainingData) -> str:
    """The name that the model will have."""
    from models_zoo.recipes import RECIPES

    recipe = RECIPES.get(entry.recipe)
    settings = recipe.resolve(dict(entry.settings))
    return recipe.model_name(architecture=entry.architecture, dataset=data.name, settings=settings, seed=entry.seed)


if __name__ == "__main__":
    main(sys.argv[1:])
