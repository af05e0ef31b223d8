"""Foreign checkpoints: a weights file and the name of its architecture become a model with a card."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from harness.errors import CheckpointError, UnknownName
from models_zoo.architectures import ARCHITECTURES
from models_zoo.cards import ModelCard
from models_zoo.checkpoints import fit, read_state_dict, weights_digest
from models_zoo.model import ZooModel


def count_parameters(network: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def adopt(
    architecture: str,
    weights: Path,
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
        weights: safetensors or .pt file; the number of classes is read off its classifier.
        name: of the model; `ARCHITECTURE.added.DATASET` if None.
        dataset: what it was trained on.
        class_names: in the order of the logits, or empty.
        input_size: (height, width); the architecture's default if None.
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
    if architecture not in ARCHITECTURES:
        raise UnknownName("model or architecture", architecture, ARCHITECTURES)
    entry = ARCHITECTURES.get(architecture)
    state = read_state_dict(weights)
    head = state.get(entry.classifier)
    if head is None or head.ndim < 1 or not 2 <= head.shape[0] <= 100_000:
        # Let the strict fit say what is missing or misshapen, against the usual ten classes.
        fit(state, entry.build(10, input_size), architecture=architecture)
        raise CheckpointError(f"weights: {entry.classifier} does not tell the number of classes")
    network = entry.build(int(head.shape[0]), input_size)
    fit(state, network, architecture=architecture)
    card = ModelCard(
        name=f"{architecture}.added.{dataset}" if name is None else name,
        architecture=architecture,
        architecture_version=entry.version,
        family=family,
        dataset=dataset,
        classes=int(head.shape[0]),
        input_size=entry.default_size if input_size is None else input_size,
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
