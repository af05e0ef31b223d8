"""The order of the checks, and how much of a minute each may take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from harness.attacks.physical import ROWS, predict
from harness.data import Dataset
from harness.errors import CheckpointError, InvalidArgument, ModelError, UnknownName
from harness.metrics.intervals import wilson
from models_zoo.adopt import Intake, adopt, count_parameters, take_in
from models_zoo.architectures import ARCHITECTURES
from models_zoo.cards import card_name
from models_zoo.checkpoints import check_file, weights_digest
from models_zoo.model import ZooModel
from models_zoo.preflight import behaviour, costs
from models_zoo.preflight.classes import class_order
from models_zoo.preflight.normalisation import (
    Candidate,
    attempt,
    candidates,
    choose,
    normalisation_options,
    own_statistics,
)
from models_zoo.preflight.report import Channels, Finding, Level, Report, share
from models_zoo.preflight.sample import Sample

IMAGES = 200
FEWEST = 20
MOST = 100_000
SECONDS = 8.0
"""For each of the two parts that depend on the number of images: trying normalisations, and all images once."""
FAST = 200.0
"""Images a second from which batches of 64 are timed; slower models are timed in batches of 16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a pre-flight, checked.

    Attributes:
        path: the checkpoint.
        architecture: a registered architecture.
        data: whose classes it tells apart; the test split.
        reference: images whose mean and standard deviation are the data set's own: the train split, if there is one.
        given: (mean, std) that its owner gave; None if none.
        claim: clean accuracy, a fraction; None if none.
        images: how many at the most; fewer for a network that would take over a minute, unless asked for by number.
        device: where to run.
    """

    path: Path
    architecture: str
    data: Dataset
    reference: Dataset
    given: tuple[Channels, Channels] | None = None
    claim: float | None = None
    images: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise UnknownName("architecture", self.architecture, ARCHITECTURES)
        if self.claim is not None and not 0.0 <= self.claim <= 1.0:
            raise InvalidArgument("claim", self.claim, "a fraction from 0 to 1, such as 0.93")
        if self.images is not None and not FEWEST <= self.images <= MOST:
            raise InvalidArgument("images", self.images, f"{FEWEST} to {MOST}")
        if self.given is not None:
            mean, std = self.given
            for name, values, low in (("mean", mean, float("-inf")), ("std", std, 0.0)):
                if not all(low < value < float("inf") for value in values):
                    raise InvalidArgument(name, values, "three finite numbers" + (" above 0" if low == 0 else ""))
        check_file(self.path)


def preflight(wanted: Wanted) -> Report:
    """Check a checkpoint; nothing is stored.

    Returns:
        A finding a check. What cannot be read or does not fit ends the checks; anything else is looked at to the end.

    Raises:
        DataError: images that cannot be read.
    """
    started = time.perf_counter()
    count = wanted.images or IMAGES
    findings: list[Finding] = []
    candidate: Candidate | None = None
    intake = _take_in(wanted, findings)
    if intake is not None:
        candidate = _run(wanted, intake, count, findings)
    report = Report(
        file=str(wanted.path),
        architecture=wanted.architecture,
        dataset=wanted.data.name,
        images=min(count, len(wanted.data)),
        findings=tuple(findings),
        seconds=time.perf_counter() - started,
    )
    if candidate is None or not report.passed:
        return report
    return replace(report, add=_add_command(wanted, candidate))


def _take_in(wanted: Wanted, findings: list[Finding]) -> Intake | None:
    """Read the file and lay it out; None where that failed, with the findings that say why."""
    try:
        intake = take_in(
            wanted.architecture, wanted.path, input_size=wanted.data.image_size, classes=len(wanted.data.classes)
        )
    except CheckpointError as error:
        advice = "save the state_dict alone, best as safetensors"
        findings.append(Finding(check="checkpoint", level="problem", found=str(error), advice=advice))
        return None
    checkpoint = intake.checkpoint
    facts = {
        "container": checkpoint.container,
        "tensors": len(checkpoint.state),
        "bytes": checkpoint.bytes,
        "unwrapped": list(checkpoint.unwrapped),
        "left_out": list(checkpoint.left_out),
        "prefixes": list(checkpoint.prefixes),
        "renamed": [list(pair) for pair in checkpoint.renamed],
    }
    findings.append(Finding(check="checkpoint", level="ok", found=checkpoint.describe(), facts=facts))
    if intake.reasons:
        findings.append(
            Finding(
                check="fit",
                level="problem",
                found=f"the weights do not fit {wanted.architecture} with {len(wanted.data.classes)} classes",
                advice="name the architecture that they were trained in, or give its layout's names to the tensors",
                details=intake.reasons,
                facts={"reasons": list(intake.reasons)},
            )
        )
        return None
    digest = weights_digest(intake.network.state_dict())
    parameters = count_parameters(intake.network)
    found = f"{wanted.architecture}, {parameters:,} parameters, {intake.classes} classes, weights {digest[:12]}"
    facts = {"parameters": parameters, "classes": intake.classes, "weights_digest": digest}
    findings.append(Finding(check="fit", level="ok", found=found, facts=facts))
    return intake


def _run(wanted: Wanted, intake: Intake, count: int, findings: list[Finding]) -> Candidate:
    """The checks that run the network; the normalisation they ended up with."""
    intake.network.to(wanted.device)
    findings.append(behaviour.statistics(intake.network, intake.checkpoint))

    def make(candidate: Candidate) -> ZooModel:
        name = suggested_name(wanted.architecture, wanted.data.name)
        model = adopt(wanted.architecture, intake, name=name, mean=candidate.mean, std=candidate.std)
        return model.to(wanted.device)

    sample = Sample.of(wanted.data, count, wanted.device)
    tried = candidates(wanted.given, own_statistics(wanted.reference))
    screened = sample
    if wanted.images is None:
        sample, screened = _within_a_minute(make(tried[0]), sample, len(tried))
    choice = choose([attempt(make, candidate, screened) for candidate in tried], screened)
    findings.append(choice.finding)
    model = make(choice.candidate)
    try:
        _judge(wanted, model, sample, findings)
    except ModelError as error:
        findings.append(behaviour.guarded("output", error))
    return choice.candidate


def _within_a_minute(model: ZooModel, sample: Sample, trials: int) -> tuple[Sample, Sample]:
    """Fewer images for networks that are slow here: (of the checks, of the trials of normalisations)."""
    try:
        with torch.no_grad():
            rate = costs.forward_rate(model, sample.images)
    except ModelError:
        return sample, sample  # the trials will say what is wrong
    most = max(FEWEST * 2, int(rate * SECONDS))
    return sample.first(most), sample.first(max(FEWEST * 2, most // trials))


def _judge(wanted: Wanted, model: ZooModel, sample: Sample, findings: list[Finding]) -> None:
    """Everything that is asked of the normalised model.

    Raises:
        ModelError: logits that are not finite or of a wrong shape.
    """
    with torch.no_grad():
        logits = predict(model, sample.images)
    right = sample.right(logits)
    findings.append(class_order(sample, sample.predicted(logits), wanted.data.classes))
    findings.append(accuracy(int(right.sum()), len(sample), wanted.claim))
    findings.append(behaviour.output_kind(logits))
    findings.append(behaviour.modes(model, sample, right, logits))
    findings.append(behaviour.determinism(model, sample))
    with costs.one_thread():
        findings.append(behaviour.batches(model, sample))
        rows = 4 * ROWS if costs.forward_rate(model, sample.images) >= FAST else ROWS
        measured = costs.measure_speed(model, sample.images, rows)
    findings += [costs.speed(measured), costs.costs(wanted.data, measured)]


def accuracy(right: int, n: int, claim: float | None) -> Finding:
    """The clean accuracy with Wilson's 95 % interval, against a claim.

    Args:
        right: images that are classified right.
        n: images.
        claim: a fraction, or None.
    """
    low, high = wilson(right, n)
    found = f"{share(right, n)}, 95 % interval {low:.3f} to {high:.3f}"
    facts: dict[str, object] = {"right": right, "images": n, "low": low, "high": high, "claim": claim, "verdict": None}
    if claim is None:
        return Finding(check="accuracy", level="ok", found=found, facts=facts)
    verdict = "below" if high < claim else "above" if low > claim else "agrees"
    facts["verdict"] = verdict
    if verdict == "agrees":
        found += f"; agrees with the claim of {claim:g}"
        return Finding(check="accuracy", level="ok", found=found, facts=facts)
    found += f"; {verdict} the claim of {claim:g}"
    advice = "one honest claim in forty falls outside on this side by chance: try more --images"
    if verdict == "above":
        advice += "; if it stays so, the claim is of other images, or these were trained on"
    level: Level = "problem" if verdict == "below" else "warning"
    return Finding(check="accuracy", level=level, found=found, advice=advice, facts=facts)


def suggested_name(architecture: str, dataset: str) -> str:
    """A name that the grammar of names allows: `ARCHITECTURE.added.DATASET`."""
    return card_name(architecture[:40], "added", dataset[:40])


def _add_command(wanted: Wanted, candidate: Candidate) -> tuple[str, ...]:
    """The words of `robustboard models add` for what was checked."""
    return (
        "robustboard", "models", "add", suggested_name(wanted.architecture, wanted.data.name),
        "--arch", wanted.architecture, "--weights", str(wanted.path), "--dataset", wanted.data.name,
        *normalisation_options(candidate.mean, candidate.std),
    )  # fmt: skip
