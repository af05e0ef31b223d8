"""Weights that torchvision and timm offer for their networks, as models with cards.

`torchvision:resnet50` takes the package's default weights, `torchvision:resnet50.IMAGENET1K_V1` or
`timm:resnet50.a1_in1k` those of a tag. Files are downloaded once, into the package's own cache; nothing is unpickled.
Mean, standard deviation and image size come from the weights' metadata.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch

from harness.digest import digest_file
from harness.errors import CheckpointError, UnknownName
from models_zoo.adopt import count_parameters
from models_zoo.architectures import ARCHITECTURES
from models_zoo.cards import ModelCard, card_name
from models_zoo.checkpoints import StateDict, fit, read_state_dict, weights_digest
from models_zoo.model import ZooModel

Channels = tuple[float, float, float]
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
"""DenseNet's files are older than its module names: `norm.1` in them is `norm1` in the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Weights that a package offers."""

    tag: str
    state: StateDict
    side: int
    mean: Channels
    std: Channels
    licence: str
    origin: str
    """Where they come from: a URL."""


def load_pretrained(name: str) -> ZooModel:
    """A package's network with the package's weights, downloaded where they are not in its cache.

    Args:
        name: `torchvision:NETWORK[.WEIGHTS]` or `timm:NETWORK[.TAG]`.

    Returns:
        The model in eval mode, on the CPU, with no weight that requires a gradient. Its card is called
        `PACKAGE_NETWORK.WEIGHTS.imagenet`.

    Raises:
        UnknownName: no such package, network or weights.
        MissingDependency: the package is not installed.
        CheckpointError: the weights are neither in the cache nor to be had, or do not fit.
    """
    package, _, rest = name.partition(":")
    network, _, tag = rest.partition(".")
    entry = ARCHITECTURES.get(f"{package}:{network}")
    offer = _torchvision(network, tag) if package == "torchvision" else _timm(network, tag)
    head = offer.state.get(entry.classifier)
    classes = int(head.shape[0]) if head is not None and head.ndim else 1000
    size = (offer.side, offer.side)
    built = entry.build(classes, size)
    fit(offer.state, built, architecture=entry.name)
    dataset = "imagenet" if classes == 1000 else "unknown"
    card = ModelCard(
        name=card_name(entry.name, offer.tag, dataset),
        architecture=entry.name,
        architecture_version=entry.version,
        family=package,
        dataset=dataset,
        classes=classes,
        input_size=size,
        mean=offer.mean,
        std=offer.std,
        weights_digest=weights_digest(built.state_dict()),
        recipe=offer.tag,
        parameters=count_parameters(built),
        licence=offer.licence,
        citation=entry.citation,
        description=f"weights of {package}, {offer.origin}",
    )
    return ZooModel(built, card).eval().requires_grad_(False)


def _torchvision(network: str, tag: str) -> Offer:
    from torchvision import models

    offered = models.get_model_weights(network)
    known = [item.name for item in offered]
    if tag and tag not in known:
        raise UnknownName(f"weights of torchvision:{network}", tag, known)
    weights = offered[tag] if tag else offered.DEFAULT
    preset = weights.transforms()
    mean, std = _channels(preset.mean), _channels(preset.std)
    if network in ("googlenet", "inception_v3"):
        # These weights expect images that were normalised as usual, then by the network's own `transform_input` to
        # mean and deviation 0.5. Both steps together are this one, and the architecture has no such step.
        mean = std = (0.5, 0.5, 0.5)
    state = read_state_dict(fetch(weights.url))
    return Offer(
        tag=weights.name,
        state={_DENSE.sub(r"\1", key): tensor for key, tensor in state.items()},
        side=int(preset.crop_size[0]),
        mean=mean,
        std=std,
        licence="unknown",
        origin=weights.url,
    )


def _timm(network: str, tag: str) -> Offer:
    from models_zoo.architectures.timm_networks import require_timm

    timm = require_timm()
    known = [name.partition(".")[2] for name in timm.list_pretrained(f"{network}.*")]
    tag = tag or timm.get_pretrained_cfg(network).tag or ""
    if tag not in known:
        raise UnknownName(f"weights of timm:{network}", tag, known)
    config = timm.get_pretrained_cfg(f"{network}.{tag}")
    origin = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else str(config.url)
    try:
        state = timm.create_model(f"{network}.{tag}", pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        from huggingface_hub.constants import HF_HUB_CACHE

        raise CheckpointError(_unavailable(origin, HF_HUB_CACHE, error)) from None
    return Offer(
        tag=tag,
        state=dict(state),
        side=int(config.input_size[-1]),
        mean=_channels(config.mean),
        std=_channels(config.std),
        licence=config.license or "unknown",
        origin=origin,
    )


def fetch(url: str) -> Path:
    """A weights file from torch's cache of downloads, or from its URL; checked against the digest in its name.

    torchvision's files end in the first digits of their SHA-256, as in `resnet50-11ad3fa6.pth`.

    Raises:
        CheckpointError: it cannot be downloaded, or has another digest.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(url).path).name
    found = re.search(r"-([0-9a-f]{8,64})\.", path.name)
    prefix = found.group(1) if found else ""
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), prefix or None, progress=True)
        except (OSError, RuntimeError, ValueError) as error:  # URLError is an OSError; a wrong digest a RuntimeError
            raise CheckpointError(_unavailable(url, str(folder), error)) from None
    if not digest_file(path).startswith(prefix):
        raise CheckpointError(f"weights: {path} has not the SHA-256 {prefix}... of {url}; delete it and try again")
    return path


def _unavailable(url: str, cache: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return f"weights: {url} cannot be downloaded ({reason}); put the file into {cache}, or try again with a network"


def _channels(values: Sequence[float]) -> Channels:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
