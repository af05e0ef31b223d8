"""Foreign checkpoints: a weights file and the name of its architecture become a model with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from harness.errors import CheckpointError, UnknownName
from models_zoo.architectures import ARCHITECTURES
from models_zoo.architectures.base import Network
from models_zoo.cards import ModelCard
from models_zoo.checkpoints import Checkpoint, fit, misfits, read_checkpoint, weights_digest
from models_zoo.model import ZooModel

CLASSES_LIMIT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Intake:
    """A checkpoint laid out for an architecture.

    Attributes:
        architecture: its name.
        checkpoint: the weights under the architecture's names, with the mapping that led there.
        network: holds the weights if there are no reasons against it; fresh ones otherwise.
        classes: rows of its classifier.
        input_size: (height, width) of images.
        reasons: every reason why the weights do not fit, in words.
    """

    architecture: str
    checkpoint: Checkpoint
    network: Network
    classes: int
    input_size: tuple[int, int]
    reasons: tuple[str, ...]

    def require(self) -> None:
        """Refuse weights that do not fit.

        Raises:
            CheckpointError: with every reason.
        """
        if self.reasons:
            raise CheckpointError(f"weights do not fit {self.architecture}: {'; '.join(self.reasons)}")


def take_in(
    architecture: str, weights: Path, *, input_size: tuple[int, int] | None = None, classes: int | None = None
) -> Intake:
    """Read a checkpoint and lay it out for an architecture; nothing is written anywhere.

    Args:
        architecture: a registered architecture.
        weights: safetensors or .pt file; the number of classes is read off its classifier.
        input_size: (height, width) of images; the architecture's default if None.
        classes: that the weights must tell apart; any number if None.

    Returns:
        The intake, whose `reasons` say why the weights do not fit, if so.

    Raises:
        UnknownName: no such architecture.
        InvalidArgument: images too small for it.
        CheckpointError: unreadable or unsafe.
    """
    if architecture not in ARCHITECTURES:
        raise UnknownName("model or architecture", architecture, ARCHITECTURES)
    entry = ARCHITECTURES.get(architecture)
    checkpoint = read_checkpoint(weights)
    # The usual ten classes stand in until the weights have told their number.
    network = entry.build(classes or 10, input_size)
    checkpoint = checkpoint.named_for(network.state_dict())
    head = checkpoint.state.get(entry.classifier)
    told = None if head is None or head.ndim < 1 or not 2 <= head.shape[0] <= CLASSES_LIMIT else int(head.shape[0])
    if told is not None and told != (classes or 10):
        network = entry.build(told, input_size)
    reasons = misfits(checkpoint.state, network)
    if told is None and not reasons:
        reasons = (f"{entry.classifier} does not tell the number of classes",)
    if told is not None and classes is not None and told != classes:
        reasons = (*reasons, f"{told} classes instead of {classes}")
    if not reasons:
        fit(checkpoint.state, network, architecture=architecture)
    return Intake(
        architecture=architecture,
        checkpoint=checkpoint,
        network=network,
        classes=told or classes or 10,
        input_size=entry.default_size if input_size is None else input_size,
        reasons=reasons,
    )


def count_parameters(network: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def adopt(
    architecture: str,
    weights: Path | Intake,
    *,
    name: str | None = None,
    dataset: str = "unknown",
    class_names: tuple[str, ...] = (),
    input_size: tuple[int, int] | None = None,
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    std: tuple[float, float, float] = (1.0, 1.0, 1.0),
    family: str = "added",
    licence: str = "unknown",
    citation: str = "unknown",
    description: str = "",
) -> ZooModel:
    """A model from a checkpoint that has no card yet; its card is made from what is known.

    Args:
        architecture: a registered architecture.
        weights: safetensors or .pt file, or what `take_in` made of one; the number of classes is read off its
            classifier.
        name: of the model; `ARCHITECTURE.added.DATASET` if None.
        dataset: what it was trained on.
        class_names: in the order of the logits, or empty.
        input_size: (height, width); the architecture's default if None, the intake's if there is one.
        mean: subtracted from images in [0, 1]; 0 for networks that normalise inside or not at all.
        std: divided by.
        family: group on the board.
        licence: of the weights.
        citation: of the weights.
        description: one line.

    Returns:
        The model in eval mode, on the CPU, with no weight that requires a gradient; `.card` is new. Its network's
        `state_dict()` is what is to be stored.

    Raises:
        UnknownName: no such architecture.
        CheckpointError: unreadable, unsafe, or does not fit (the message names tensors).
        CardError: a wrong name or value.
    """
    intake = weights if isinstance(weights, Intake) else take_in(architecture, weights, input_size=input_size)
    intake.require()
    network = intake.network
    card = ModelCard(
        name=f"{architecture}.added.{dataset}" if name is None else name,
        architecture=architecture,
        architecture_version=ARCHITECTURES.get(architecture).version,
        family=family,
        dataset=dataset,
        classes=intake.classes,
        input_size=intake.input_size,
        mean=mean,
        std=std,
        weights_digest=weights_digest(network.state_dict()),
        recipe="added",
        parameters=count_parameters(network),
        licence=licence,
        citation=citation,
        description=description,
        class_names=class_names,
    )
    return ZooModel(network, card).eval().requires_grad_(False)
