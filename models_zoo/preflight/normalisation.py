"""Which numbers a network wants its images normalised by: found by trying a stated list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.attacks.physical import predict
from harness.data import Dataset
from harness.errors import ModelError
from models_zoo.preflight.classes import in_best_order
from models_zoo.preflight.report import Channels, Finding, Level, share
from models_zoo.preflight.sample import Sample, differ

if TYPE_CHECKING:
    from harness.types import Bits, Classifier

GIVEN = "as given"
RAW = "raw [0, 1]"
OWN_PIXELS = 5_000_000
"""About as many give the data set's own mean and standard deviation, but at least those of 200 images."""
_SMALLEST_STD = 1e-4

USUAL: tuple[tuple[str, Channels, Channels], ...] = (
    ("ImageNet's", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("CIFAR-10's", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ("CIFAR-10's, smaller std", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ("[-1, 1]", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ("0..255", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
)
"""Numbers in public training code. The smaller std of CIFAR-10 is a mean over images of the std inside each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A normalisation: (image - mean) / std."""

    name: str
    mean: Channels
    std: Channels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """A candidate and what the model makes of images that it normalised; `right` is None where the model failed."""

    candidate: Candidate
    right: Bits | None
    reordered: Bits | None = None
    """Verdicts under the best order of classes; None where there are too few images to tell."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The normalisation that the other checks use, whether it fits, and the finding about it."""

    candidate: Candidate
    finding: Finding


def own_statistics(data: Dataset) -> tuple[Channels, Channels]:
    """Mean and standard deviation of each colour over all pixels of the first images, to four decimals."""
    height, width = data.image_size
    count = min(len(data), max(200, OWN_PIXELS // (height * width)))
    pixels = np.asarray(data.images(0, count)).reshape(-1, 3)
    mean, std = (values / 255 for values in (pixels.mean(0, dtype=np.float64), pixels.std(0, dtype=np.float64)))
    return _channels(mean), _channels(np.maximum(std, _SMALLEST_STD))


def _channels(values: Sequence[float]) -> Channels:
    red, green, blue = (round(float(value), 4) for value in values)
    return red, green, blue


def candidates(given: tuple[Channels, Channels] | None, own: tuple[Channels, Channels]) -> tuple[Candidate, ...]:
    """What is tried, without repetitions: as given, raw, the data set's own, and the usual ones."""
    listed = [] if given is None else [(GIVEN, *given)]
    listed += [(RAW, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ("the data set's own", *own), *USUAL]
    found: dict[tuple[Channels, Channels], Candidate] = {}
    for name, mean, std in listed:
        found.setdefault((mean, std), Candidate(name=name, mean=mean, std=std))
    return tuple(found.values())


def attempt(make: Callable[[Candidate], Classifier], candidate: Candidate, sample: Sample) -> Trial:
    """Try a candidate.

    Args:
        make: candidate -> model that takes images in [0, 1].
        candidate: the normalisation.
        sample: the images.
    """
    try:
        with torch.no_grad():
            logits = predict(make(candidate), sample.images)
    except ModelError as error:
        return Trial(candidate=candidate, right=None, error=str(error))
    reordered = None
    if sample.present is None:
        reordered = in_best_order(sample.predicted(logits), sample.labels, logits.shape[1])
    return Trial(candidate=candidate, right=sample.right(logits), reordered=reordered)


def choose(trials: Sequence[Trial], sample: Sample) -> Choice:
    """The normalisation to go on with.

    What was given stands unless another is clearly better; else the one with the highest accuracy, the first of equals.
    Where none is better than chance, one that is so under another order of the classes is taken.

    Args:
        trials: at least one.
        sample: what they were tried on.
    """
    working = [(trial, trial.right) for trial in trials if trial.right is not None]
    if not working:
        return _finish(trials, trials[0], "problem", f"no normalisation works: {trials[0].error}", "check the weights")
    best, best_right = max(working, key=lambda pair: int(pair[1].sum()))
    ties = [trial for trial, right in working if trial is not best and not differ(right, best_right)]
    named = f"{best.candidate.name} fits best, {_accuracy(best)}"
    if not sample.beats_chance(best_right):
        return _none_fits(trials, sample, best)
    given = next((trial for trial in trials if trial.candidate.name == GIVEN), None)
    others = ", ".join(trial.candidate.name for trial in ties if trial is not given)
    if given is not None and (given is best or given in ties):
        note = f"; others that these images cannot tell from the best: {others}" if others else ""
        return _finish(trials, given, "ok", f"as given fits, {_accuracy(given)}{note}", "", ties)
    if given is not None:
        advice = f"use {_options(best.candidate)}; the checks below do"
        return _finish(
            trials, best, "warning", f"as given is clearly worse ({_accuracy(given)}); {named}", advice, ties
        )
    if others:
        advice = f"give the numbers of the training code with --mean and --std; {_options(best.candidate)} is used here"
        return _finish(trials, best, "warning", f"{named}; these images cannot tell it from {others}", advice, ties)
    return _finish(trials, best, "ok", named, "", ties)


def _none_fits(trials: Sequence[Trial], sample: Sample, best: Trial) -> Choice:
    """No candidate is better than chance: perhaps the classes are in another order, perhaps nothing helps."""
    sorted_out = [
        (trial, trial.reordered)
        for trial in trials
        if trial.reordered is not None and sample.beats_chance(trial.reordered)
    ]
    if sorted_out:
        found = max(sorted_out, key=lambda pair: int(pair[1].sum()))[0]
        text = f"none fits with the classes in this order; {found.candidate.name} does in another, see classes"
        return _finish(trials, found, "warning", text, f"with the classes put right, use {_options(found.candidate)}")
    chosen = next((trial for trial in trials if trial.candidate.name == GIVEN), best)
    return _finish(
        trials,
        chosen,
        "problem",
        f"none fits: the best, {best.candidate.name}, gets {_accuracy(best)}, which chance explains",
        "check that the weights are trained, for this data set, and what the training code did to its images",
    )


def _finish(
    trials: Sequence[Trial], chosen: Trial, level: Level, found: str, advice: str, ties: Sequence[Trial] = ()
) -> Choice:
    width = max(len(trial.candidate.name) for trial in trials)
    finding = Finding(
        check="input",
        level=level,
        found=found,
        advice=advice,
        details=tuple(f"{trial.candidate.name:<{width}}  {_accuracy(trial)}" for trial in trials),
        facts={
            "chosen": chosen.candidate.name,
            "mean": list(chosen.candidate.mean),
            "std": list(chosen.candidate.std),
            "ties": [trial.candidate.name for trial in ties],
            "tried": [_facts(trial) for trial in trials],
        },
    )
    return Choice(candidate=chosen.candidate, finding=finding)


def _facts(trial: Trial) -> dict[str, object]:
    right = trial.right
    return {
        "name": trial.candidate.name,
        "mean": list(trial.candidate.mean),
        "std": list(trial.candidate.std),
        "right": None if right is None else int(right.sum()),
        "images": None if right is None else len(right),
        "error": trial.error or None,
    }


def _accuracy(trial: Trial) -> str:
    return trial.error if trial.right is None else share(int(trial.right.sum()), len(trial.right))


def _options(candidate: Candidate) -> str:
    return " ".join(normalisation_options(candidate.mean, candidate.std)) or "no --mean and --std"


def normalisation_options(mean: Channels, std: Channels) -> tuple[str, ...]:
    """The options of `robustboard models add`; none for images in [0, 1] as they are."""
    words: list[str] = []
    if mean != (0.0, 0.0, 0.0):
        words += ["--mean", ",".join(map(repr, mean))]
    if std != (1.0, 1.0, 1.0):
        words += ["--std", ",".join(map(repr, std))]
    return tuple(words)
