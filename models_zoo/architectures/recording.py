"""Named post-activation features of any network: every call of an activation function is seen, none is relied on.

torch hands each function that a network calls to the active `TorchFunctionMode`, whether the call stands in a module
(`nn.ReLU`) or in the forward pass itself (`F.relu`, `x.relu_()`). Activations are recorded there, under the path of the
module that is running:

- an activation module gives its own path: `layer1.0.relu`;
- a call inside another module adds the function's name: `layer1.0` and `F.relu` make `layer1.0.relu`;
- a second firing of the same name is `layer1.0.relu_1`, a third `layer1.0.relu_2`.

These are the names that torchvision's feature extraction gives. What comes after the use of the classifier's weight is
left out. Gates and attention weights (sigmoid, hard sigmoid, tanh, softmax) are no features and are not recorded; the
hidden layer of a squeeze-and-excitation block is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

_NAMES = (
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish",
    "hardtanh", "softplus",
)  # fmt: skip
ACTIVATIONS: dict[Callable[..., Any], str] = {
    getattr(space, name + suffix): name
    for name in _NAMES
    for suffix in ("", "_")
    for space in (F, torch, torch.Tensor)
    if hasattr(space, name + suffix)
}
"""Activation function, in all its spellings -> its name. `hardtanh` is here since torch's ReLU6 is one."""
_UNITS_LAST = (F.linear, F.layer_norm)
"""Functions whose units are the last axis of what they return."""


class Recorder(TorchFunctionMode):
    """Records the activations of one forward pass; made by `recording`.

    A recorded tensor that is about to be overwritten in place is copied first, so that what is recorded is what the
    activation gave. The units of a recorded tensor are its second axis: those of linear layers on tokens or on
    channels-last maps are moved there.

    Args:
        record: gets name -> activations, n x units (x positions), in forward order.
        classifier: the classifier's weight; nothing is recorded after its use.
        path: the path of the module that is running, and whether it has no modules inside.
    """

    def __init__(
        self, record: dict[str, torch.Tensor], classifier: torch.Tensor | None, path: Callable[[], tuple[str, bool]]
    ) -> None:
        super().__init__()
        self._record = record
        self._classifier = classifier
        self._path = path
        self._fired: Counter[str] = Counter()
        self._names: dict[int, list[str]] = {}
        self._units_last: object = None
        self._open = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call `func`, and record what it gives if it is an activation."""
        given = kwargs or {}
        if self._classifier is not None and any(item is self._classifier for item in (*args, *given.values())):
            self._open = False
        if self._names and args and isinstance(args[0], torch.Tensor) and _may_write(func, args, given):
            self._keep(args[0])
        result = func(*args, **given)
        if func in _UNITS_LAST:
            self._units_last = result
        elif self._open and func in ACTIVATIONS and isinstance(result, torch.Tensor):
            source = args[0] if args else given.get("input")
            last = result.ndim == 3 or source is self._units_last
            self._add(ACTIVATIONS[func], result.movedim(-1, 1) if last and result.ndim > 2 else result)
        return result

    def _add(self, function: str, maps: torch.Tensor) -> None:
        path, leaf = self._path()
        name = path if leaf and path else f"{path}.{function}".lstrip(".")
        count = self._fired[name]
        self._fired[name] += 1
        name = f"{name}_{count}" if count else name
        self._record[name] = maps
        self._names.setdefault(maps.untyped_storage().data_ptr(), []).append(name)

    def _keep(self, target: torch.Tensor) -> None:
        """Copy what is recorded in the memory of `target`."""
        for name in self._names.pop(target.untyped_storage().data_ptr(), ()):
            self._record[name] = self._record[name].clone()


def _may_write(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call may write into its first argument; too often yes costs a copy, nothing else."""
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    operator = name.startswith("__i") or name == "__setitem__"
    return in_place or operator or kwargs.get("inplace") is True or any(item is True for item in args[1:])


@contextmanager
def recording(
    network: nn.Module, record: dict[str, torch.Tensor], *, classifier: torch.Tensor | None = None
) -> Iterator[None]:
    """Record the activations of the forward pass inside the `with` block.

    Args:
        network: what runs; a module that it holds under two names goes by the first.
        record: gets name -> activations, in forward order.
        classifier: the classifier's weight; nothing is recorded after its use.
    """
    running: list[tuple[str, bool]] = []
    hooks = []
    for path, module in network.named_modules():
        place = (path, next(module.children(), None) is None)

        def enter(_module: nn.Module, _inputs: Any, place: tuple[str, bool] = place) -> None:
            running.append(place)

        def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
            running.pop()

        hooks.append(module.register_forward_pre_hook(enter))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with Recorder(record, classifier, lambda: running[-1] if running else ("", False)):
            yield
    finally:
        for hook in hooks:
            hook.remove()
