"""The bundled models: which there are, and how to make them again (`python -m models_zoo.bundle`).

Each is trained from scratch, on the embedded digits or on a folder of photographs that is named on the command line;
nobody else's weights are in this package.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from harness.data import open_dataset
from harness.errors import RequestError, RobustboardError, UnknownName
from harness.spec import Scalar
from models_zoo.checkpoints import save_state_dict
from models_zoo.registry import CARDS, bundled_cards, bundled_weights
from models_zoo.train import Progress, TrainingData, TrainResult, train

PHOTOGRAPHS: Final = "cifar10-jpeg"
"""Name of the data set of photographs: a folder with `train/CLASS/*` and `test/CLASS/*`, 32x32, ten classes."""

ALPHAS: Final = (-2.0, -1.0, 0.5, 1.0, 2.0)
"""Scales of the selectivity regulariser in the sweep. Alpha 0 is the recipe `supervised`: the same loss, the same
weights bit by bit, so a second copy of them would only put the same row on a board twice."""
SEEDS: Final = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """What makes one bundled model."""

    recipe: str
    architecture: str = "small_cnn"
    dataset: str = "digits"
    settings: tuple[tuple[str, Scalar], ...] = ()
    seed: int = 0

    @property
    def name(self) -> str:
        """The name that the model has."""
        from models_zoo.recipes import RECIPES

        recipe = RECIPES.get(self.recipe)
        settings = recipe.resolve(dict(self.settings))
        return recipe.model_name(
            architecture=self.architecture, dataset=self.dataset, settings=settings, seed=self.seed
        )


def photographs(recipe: str, *settings: tuple[str, Scalar]) -> Bundled:
    """A `resnet20` on photographs, with what all of them share."""
    shared: tuple[tuple[str, Scalar], ...] = (
        ("shift", 4),
        ("flip", True),
        ("validation_share", 0.05),
        ("precision", "bf16"),
    )
    return Bundled(recipe=recipe, architecture="resnet20", dataset=PHOTOGRAPHS, settings=(*settings, *shared))


BUNDLED: Final[tuple[Bundled, ...]] = (
    *(Bundled(recipe="supervised", seed=seed) for seed in SEEDS),
    *(Bundled(recipe="selectivity", settings=(("alpha", alpha),), seed=seed) for alpha in ALPHAS for seed in SEEDS),
    Bundled(recipe="adversarial", settings=(("eps", "8/255"),)),
    Bundled(recipe="augmix"),
    Bundled(recipe="supervised", architecture="resnet20", settings=(("epochs", 10), ("shift", 0))),
    photographs("supervised", ("epochs", 10)),
    photographs("selectivity", ("alpha", -1.0), ("epochs", 10)),
    photographs("selectivity", ("alpha", 2.0), ("epochs", 10)),
    photographs("adversarial", ("eps", "4/255"), ("steps", 1), ("relative_step", 1.25), ("epochs", 12)),
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
    """Train one bundled model in one thread, with a line of progress on standard error."""

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


def chosen(names: Sequence[str], *, folder: Path | None) -> tuple[Bundled, ...]:
    """The entries to make: those named, or all that there are images for.

    Args:
        names: of bundled models; all if empty.
        folder: of the photographs, None if they are not at hand.

    Raises:
        UnknownName: no such bundled model.
        RequestError: a model of photographs was named without their folder.
    """
    known = {entry.name: entry for entry in BUNDLED}
    for name in names:
        if name not in known:
            raise UnknownName("bundled model", name, known)
        if known[name].dataset == PHOTOGRAPHS and folder is None:
            raise RequestError(f"photographs: {name} is trained on {PHOTOGRAPHS}; give their folder: --photographs")
    if names:
        return tuple(known[name] for name in dict.fromkeys(names))
    return tuple(entry for entry in BUNDLED if entry.dataset != PHOTOGRAPHS or folder is not None)


def main(arguments: Sequence[str]) -> int:
    """Make bundled models and write their cards and weights.

    Returns:
        The exit code: 0 fine, 1 the work failed, 2 the request was wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m models_zoo.bundle", description=__doc__)
    parser.add_argument("names", nargs="*", help="models to make; all that there are images for if none is given")
    parser.add_argument(
        "--photographs", type=Path, metavar="FOLDER", help=f"{PHOTOGRAPHS}: train/CLASS/* and test/CLASS/*"
    )
    options = parser.parse_args(arguments)
    try:
        _make_all(chosen(options.names, folder=options.photographs), folder=options.photographs)
    except RobustboardError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return error.exit_code
    return 0


def _make_all(entries: Sequence[Bundled], *, folder: Path | None) -> None:
    readers: dict[str, Callable[[], TrainingData]] = {"digits": digits}
    if folder is not None:
        from models_zoo.training_files import read_training_data

        readers[PHOTOGRAPHS] = lambda: read_training_data(folder, name=PHOTOGRAPHS)
    loaded: dict[str, TrainingData] = {}
    known = bundled_cards()
    for entry in entries:
        if entry.dataset not in loaded:
            loaded[entry.dataset] = readers[entry.dataset]()
        result = make(entry, loaded[entry.dataset])
        before = known.get(entry.name)
        same = before is not None and before.weights_digest == result.card.weights_digest
        save_state_dict(result.state_dict, bundled_weights(entry.name))
        (CARDS / f"{entry.name}.toml").write_text(result.card.to_toml(), encoding="utf-8")
        sys.stdout.write(f"{entry.name}: {'the same weights as before' if same else 'new weights'}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
