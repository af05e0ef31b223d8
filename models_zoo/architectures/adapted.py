"""Networks of other packages in our contract: fresh weights by name, named features, the package's own weight names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from harness.errors import InvalidArgument
from models_zoo.architectures.base import Architecture, Network, Record
from models_zoo.architectures.recording import recording

_INNER = "inner."
PROBE = 3
"""Images of the probe: a leading axis of this size is the batch."""


class AdaptedNetwork(Network):
    """Another package's network. Names in its `state_dict` are those of the package: its checkpoints fit as they are.

    It is run once, on black images in eval mode, when it is made: that finds the layers that have one row an image
    (tables of relative positions go through activations too), and refuses what is no classifier of images.

    Args:
        inner: the network, taking normalised images.
        classifier: name of the classifier's weight.
        classes: number of logits that it must give.
        size: (height, width) of the images of the probe.

    Raises:
        InvalidArgument: the network gives something else than logits.
    """

    def __init__(self, inner: nn.Module, classifier: str, classes: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.inner = inner
        self.classifier = classifier
        self.attention = any(isinstance(module, nn.MultiheadAttention) for module in inner.modules())
        after_saving: Callable[..., Any] = self.register_state_dict_post_hook
        before_loading: Callable[..., Any] = self.register_load_state_dict_pre_hook
        after_saving(_outer_names)
        before_loading(_inner_names)
        self.layers = self._probe(classes, size)

    def run(self, images: torch.Tensor, record: Record) -> torch.Tensor:
        """See `Network.run`; names are those of `models_zoo.architectures.recording`."""
        if record is None:
            with _plain_attention(self.attention):
                return _logits(self.inner(images))
        found: dict[str, torch.Tensor] = {}
        with self._recording(found):
            logits = _logits(self.inner(images))
        record.update((name, maps) for name, maps in found.items() if name in self.layers)
        return logits

    @contextmanager
    def _recording(self, found: dict[str, torch.Tensor]) -> Iterator[None]:
        head = self.inner.get_parameter(self.classifier)
        with _plain_attention(self.attention), recording(self.inner, found, classifier=head):
            yield

    def _probe(self, classes: int, size: tuple[int, int]) -> frozenset[str]:
        """Names of the layers that have one row an image."""
        self.eval()
        found: dict[str, torch.Tensor] = {}
        with torch.inference_mode(), self._recording(found):
            logits = _logits(self.inner(torch.zeros(PROBE, 3, *size)))
        if not isinstance(logits, torch.Tensor) or logits.shape != (PROBE, classes):
            shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            raise InvalidArgument("architecture", shape, f"a network that gives {PROBE} x {classes} logits")
        self.train()
        return frozenset(name for name, maps in found.items() if maps.shape[0] == PROBE)


def describe_adapted(
    package: str,
    release: str,
    name: str,
    make: Callable[..., nn.Module],
    *,
    min_size: int,
    side: int,
    citation: str,
) -> Architecture:
    """The architecture `PACKAGE:NAME`.

    Args:
        package: "torchvision" or "timm".
        release: the package's; the same weights may give other logits in another.
        name: the package's name of the network.
        make: (classes, (height, width) or nothing for the network's own) -> network.
        min_size: smallest height and width of images.
        side: the usual height and width.
        citation: source.
    """
    classifier = find_classifier(make)
    return Architecture(
        name=f"{package}:{name}",
        version=f"1+{package}-{release}",
        builder=lambda classes, size: adapt(make, classifier, classes, size),
        min_size=min_size,
        default_size=(side, side),
        classifier=classifier,
        description=f"{name} as {package} has it",
        citation=citation,
    )


def adapt(
    make: Callable[[int, tuple[int, int]], nn.Module], classifier: str, classes: int, size: tuple[int, int]
) -> AdaptedNetwork:
    """A network made by another package, in our contract.

    Args:
        make: (classes, (height, width)) -> network.
        classifier: name of the classifier's weight.
        classes: number of classes.
        size: (height, width) of images.

    Raises:
        InvalidArgument: the package does not make the network for this size, or the network does not take it.
    """
    try:
        return AdaptedNetwork(make(classes, size), classifier, classes, size)
    except InvalidArgument:
        raise
    except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InvalidArgument("input_size", size, f"a size that the network takes ({reason})") from None


def find_classifier(make: Callable[[int], nn.Module]) -> str:
    """Name of the weight whose rows are the classes: the last one that has a row more for one class more.

    Args:
        make: number of classes -> network; called on the meta device, which takes no memory, or where the network
            reads numbers off its tensors while it is made, on the CPU.

    Raises:
        InvalidArgument: the number of classes changes no weight.
    """
    try:
        small, large = _shapes(make, 7, "meta"), _shapes(make, 8, "meta")
    except (RuntimeError, NotImplementedError):
        small, large = _shapes(make, 7, "cpu"), _shapes(make, 8, "cpu")
    rows = [name for name, shape in small.items() if shape != large[name] and len(shape) > 1]
    if not rows:
        raise InvalidArgument("architecture", "no classifier", "a network with a classifier of its own")
    return rows[-1]


def _shapes(make: Callable[[int], nn.Module], classes: int, device: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of a network's weights; torch's global random state is left as it was."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return {name: tuple(item.shape) for name, item in make(classes).named_parameters()}


@contextmanager
def _plain_attention(needed: bool) -> Iterator[None]:
    """Keep torch from its second implementation of attention, which it takes where nothing asks for gradients.

    A pass would give other bits with recording than without, and with gradients than without. The switch is torch's
    own and global; it is put back.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    if needed:
        torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _logits(output: Any) -> torch.Tensor:
    """The main logits: networks with auxiliary heads give a tuple in train mode."""
    logits: torch.Tensor = output.logits if isinstance(output, tuple) and hasattr(output, "logits") else output
    return logits


def _outer_names(_module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Mapping[str, Any]) -> None:
    """After `state_dict`: drop "inner." from the names, in their order."""
    for name in [name for name in state if name.startswith(prefix + _INNER)]:
        state[prefix + name[len(prefix + _INNER) :]] = state.pop(name)


def _inner_names(
    _module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any, _strict: bool, *_lists: list[str]
) -> None:
    """Before `load_state_dict`: put "inner." in again."""
    for name in [name for name in state if name.startswith(prefix)]:
        state[prefix + _INNER + name[len(prefix) :]] = state.pop(name)
