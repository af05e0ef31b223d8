"""Faster forms of a model for the search: folded batch norm, channels-last memory, reduced precision.

Only the search uses them. Whatever it finds is judged by the model as given, in float32. A form is taken only if it
computes the same function, checked on images when it is made.
"""

from __future__ import annotations

import copy
import operator
import warnings
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from harness import rng
from harness.attacks.base import Numerics
from harness.errors import InvalidArgument
from harness.spec import Precision
from harness.types import Classifier

TOLERANCE = 1e-4
"""Largest difference of logits, relative to the largest logit, at which a folded model counts as the same."""

GRADIENT_TOLERANCE = 0.01
"""The same for input gradients, which rounding moves further: it opens or shuts rectifiers."""

_SAMPLE = 4
"""Images on which a form is compared with its model; a wrong fold shows on any image."""

_TYPES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16}


class Faster(nn.Module):
    """A model in another memory layout or precision that takes and returns what the original does.

    Args:
        model: the network, which becomes part of this one; a traced one is laid out from inside.
        channels_last: work in NHWC memory.
    """

    def __init__(self, model: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.model = model
        self.kind: torch.dtype | None = None
        self.convert = False
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
            self.convert = not (isinstance(model, fx.GraphModule) and lay_out(model))

    def lower(self, precision: Precision) -> None:
        """Compute in reduced precision from now on; float32 changes nothing."""
        self.kind = _TYPES.get(precision)
        if self.kind is None:
            return
        for module in self.model.modules():
            # cast once what autocast would cast at every pass
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.to(self.kind)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 logits of float32 images."""
        if self.convert:
            images = to_channels_last(images)
        if self.kind is None:
            logits: torch.Tensor = self.model(images)
            return logits
        with torch.autocast(images.device.type, dtype=self.kind):
            low: torch.Tensor = self.model(images)
        return low.float()


def to_channels_last(maps: torch.Tensor) -> torch.Tensor:
    """The same n x C x H x W values in NHWC memory."""
    return maps.contiguous(memory_format=torch.channels_last) if maps.dim() == 4 else maps


def keep_layout(maps: torch.Tensor) -> torch.Tensor:
    """The same tensor, whose gradient will come in NHWC memory.

    The backward pass of a mean over positions and that of a reshape give NCHW, and everything pointwise between them
    and the next convolution then runs over two layouts, which is slow.
    """
    if maps.requires_grad and maps.dim() == 4:
        maps.register_hook(to_channels_last)  # type: ignore[no-untyped-call]
    return maps


_NORMALISING = (operator.sub, operator.add, operator.mul, operator.truediv, torch.sub, torch.add, torch.mul, torch.div)
_REDUCING = ("mean", "flatten", "view", "reshape", torch.mean, torch.flatten, torch.reshape, F.adaptive_avg_pool2d)


def lay_out(traced: fx.GraphModule) -> bool:
    """Change to NHWC memory after the normalisation of the images, and keep gradients in it.

    Arithmetic with one number a channel is several times faster in NCHW.

    Returns:
        Whether it was done: a graph whose input is not one tensor is left as it is.
    """
    graph = traced.graph
    place = next(node for node in graph.nodes if node.op == "placeholder")
    if str(place.target).startswith("*"):
        return False
    while len(place.users) == 1 and _normalises(user := next(iter(place.users)), place):
        place = user
    with graph.inserting_after(place):
        entry = graph.call_function(to_channels_last, (place,))
    place.replace_all_uses_with(entry, delete_user_cb=lambda user: user is not entry)
    for node in list(graph.nodes):
        if _reduces(node, traced) and node.args and isinstance(node.args[0], fx.Node):
            with graph.inserting_before(node):
                kept = graph.call_function(keep_layout, (node.args[0],))
            node.args = (kept, *node.args[1:])
    traced.recompile()
    return True


def _reduces(node: fx.Node, traced: fx.GraphModule) -> bool:
    """A mean or a reshape, as a method, a function or a module."""
    if node.op == "call_module":
        return isinstance(traced.get_submodule(str(node.target)), (nn.AdaptiveAvgPool2d, nn.Flatten))
    return node.op in ("call_method", "call_function") and node.target in _REDUCING


def _normalises(node: fx.Node, images: fx.Node) -> bool:
    """Arithmetic of the images with constants."""
    others = [item for item in node.all_input_nodes if item is not images]
    return node.op == "call_function" and node.target in _NORMALISING and all(item.op == "get_attr" for item in others)


def prepare(model: Classifier, like: torch.Tensor, numerics: Numerics) -> Classifier:
    """The fastest form of `model` that is allowed and computes the same function.

    It is compared on images drawn at random, always the same, so that the choice does not depend on what is attacked.

    Args:
        model: the classifier, in eval mode; it is copied, never changed.
        like: images, n x C x H x W, whose size and device are taken.
        numerics: what is allowed.

    Raises:
        InvalidArgument: reduced precision of something that is not a module, or of which no form is the same.
    """
    if not isinstance(model, nn.Module):
        if numerics.precision != "float32":
            raise InvalidArgument("search_precision", numerics.precision, "float32 for a model that is no torch module")
        return model
    drawn = rng.uniform(0, "attack/speed", range(_SAMPLE), tuple(like.shape[1:]))
    sample = torch.from_numpy(drawn).to(like.device)
    expected = _respond(model, sample)
    for make in (fold, _copied) if numerics.fold else (_copied,):
        form = _form(make(model), sample, expected, channels_last=numerics.channels_last)
        if form is not None:
            form.lower(numerics.precision)
            return form
    if numerics.precision != "float32":
        expected_kind = "float32 for a model of which no copy gives the same logits and gradients"
        raise InvalidArgument("search_precision", numerics.precision, expected_kind)
    return model


Response = tuple[torch.Tensor, torch.Tensor | None]
"""Logits, and the gradient of a smooth function of them with respect to the images; None where there is none."""


def _respond(model: Classifier, images: torch.Tensor) -> Response:
    """What a model gives for images, forward and backward; no gradient where its backward pass fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what the model does; its attack will say so
        with torch.no_grad():
            logits = model(images.clone())
        batch = images.clone().requires_grad_()
        try:
            with torch.enable_grad():
                out = model(batch)
                smooth = torch.logsumexp(out, dim=1) + out[:, 0]
                (gradient,) = torch.autograd.grad(smooth.sum(), batch, allow_unused=True)
        except RuntimeError:
            gradient = None  # black-box attacks ask for none
    return logits, gradient


def _form(body: nn.Module | None, sample: torch.Tensor, expected: Response, *, channels_last: bool) -> Faster | None:
    """A faster form around `body`, or None where it does not respond as the model does.

    Gradients are compared, too: tracing loses a backward pass of the model's own (a straight-through estimate, say),
    and the search would follow the slope of another function.
    """
    if body is None:
        return None
    try:
        form = Faster(body, channels_last=channels_last)
        logits, gradient = _respond(form, sample)
    except Exception:  # noqa: BLE001  somebody's model on another memory layout may raise anything
        return None
    close = _near(logits, expected[0], TOLERANCE) and torch.equal(logits.argmax(dim=1), expected[0].argmax(dim=1))
    if gradient is None or expected[1] is None:
        return form if close and gradient is expected[1] else None
    return form if close and _near(gradient, expected[1], GRADIENT_TOLERANCE) else None


def _near(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    """Finite, of one shape, and apart by no more than a share of the largest value."""
    if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
        return False
    return bool((found - expected).abs().amax() <= tolerance * expected.abs().amax())


def _copied(model: nn.Module) -> nn.Module | None:
    """A frozen deep copy, or None for a model that cannot be copied."""
    try:
        return copy.deepcopy(model).eval().requires_grad_(False)
    except (TypeError, RuntimeError, AttributeError):
        return None


def fold(model: nn.Module) -> nn.Module | None:
    """A copy with every batch norm that follows a convolution folded into it; None where torch.fx cannot trace it."""
    copied = _copied(model)
    if copied is None:
        return None
    try:
        traced = fx.symbolic_trace(copied)
    except Exception:  # noqa: BLE001  tracing runs the model's own code on proxies, which may raise anything
        return None
    modules: dict[str, Any] = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        first, second = modules[str(before.target)], modules[str(node.target)]
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d) and second.track_running_stats:
            _replace(modules, str(before.target), fuse_conv_bn_eval(first, second))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval().requires_grad_(False)


def _replace(modules: dict[str, Any], path: str, module: nn.Module) -> None:
    """Put `module` at a dotted path."""
    parent, _, name = path.rpartition(".")
    setattr(modules[parent], name, module)
    modules[path] = module
