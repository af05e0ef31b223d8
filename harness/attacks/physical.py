"""The physical batches of all passes, and why outcomes do not depend on how they are cut.

CPU kernels choose other algorithms for tiny batches (measured: 1 to 12 rows give other bits than 16 and more), so every
physical batch has a multiple of 16 rows, filled up where needed. `probe` says whether that makes a model's outcomes
bit-identical; where it does not, the model is run at one fixed batch size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from harness.errors import InvalidArgument, ModelError, NonFinite, NonFiniteGradients
from harness.types import Classifier

ROWS = 16
"""Physical batches are multiples of this many rows."""

FIXED = 64
"""Rows of a physical batch for models that fail the probe."""

DEFAULT_BATCH = 128

Loss = Callable[..., torch.Tensor]
"""(logits, *per-row tensors) -> losses, one a row."""


def round_up(rows: int) -> int:
    """The next multiple of 16."""
    return -(-rows // ROWS) * ROWS


def check_batch(argument: str, value: int | None, default: int | None) -> int | None:
    """A requested batch size, or the default.

    Raises:
        InvalidArgument: not a positive integer.
    """
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**20:
        raise InvalidArgument(argument, value, "an integer from 1 to 1048576")
    return value


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows [start, stop) of a request, run as `rows` physical rows."""

    start: int
    stop: int
    rows: int

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """The chunk's rows of `tensor`, filled up to the physical size with its first row."""
        part = tensor[self.start : self.stop]
        missing = self.rows - (self.stop - self.start)
        if missing == 0:
            return part
        return torch.cat([part, part[:1].expand(missing, *part.shape[1:])])


def chunks(n: int, batch_size: int, fixed_batch: int | None = None) -> Iterator[Chunk]:
    """Cut n rows into physical batches: multiples of 16, or all of exactly `fixed_batch` rows."""
    size = fixed_batch or round_up(batch_size)
    for start in range(0, n, size):
        stop = min(start + size, n)
        yield Chunk(start, stop, fixed_batch or round_up(stop - start))


class Passes:
    """Forward and backward passes of one model in physical batches.

    Args:
        model: the classifier.
        batch_size: requested rows of a batch, rounded up to a multiple of 16.
        fixed_batch: run every batch at exactly this size.
    """

    def __init__(self, model: Classifier, *, batch_size: int = DEFAULT_BATCH, fixed_batch: int | None = None) -> None:
        self.model = model
        self.batch_size = round_up(batch_size)
        self.fixed_batch = fixed_batch
        self.classes: int | None = None

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, n x K, float32, without a graph.

        Raises:
            ModelError: non-finite or wrongly shaped.
        """
        parts = []
        # not inference mode: a model that computes gradients of its own inside would fail there
        with torch.no_grad():
            for chunk in chunks(len(images), self.batch_size, self.fixed_batch):
                out = self._checked(self.model(chunk.take(images)), chunk.rows)
                parts.append(out[: chunk.stop - chunk.start])
        return _join(parts)

    def gradient(
        self, images: torch.Tensor, loss: Loss, *per_row: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (n x K), losses (n) and the gradient of each loss with respect to its image (n x C x H x W).

        Args:
            images: n x C x H x W.
            loss: (logits, *per-row tensors) -> one loss a row, larger for a better attack.
            *per_row: tensors of n rows that `loss` needs.

        Raises:
            ModelError: non-finite or wrongly shaped logits, or no gradient.
        """
        logits, losses, gradients = [], [], []
        for chunk in chunks(len(images), self.batch_size, self.fixed_batch):
            keep = chunk.stop - chunk.start
            batch = chunk.take(images).detach().clone(memory_format=torch.contiguous_format).requires_grad_()
            with torch.enable_grad():
                out = self._checked(self.model(batch), chunk.rows)
                value = loss(out, *(chunk.take(item) for item in per_row))
            gradients.append(_input_gradient(value, batch)[:keep])
            logits.append(out.detach()[:keep])
            losses.append(value.detach()[:keep])
        return _join(logits), _join(losses), _join(gradients)

    def _checked(self, out: torch.Tensor, rows: int) -> torch.Tensor:
        """The model's output, if it is finite logits of the right shape."""
        if not isinstance(out, torch.Tensor):
            raise ModelError(f"model: returned {type(out).__name__}, expected a tensor of logits")
        expected = self.classes
        if out.dim() != 2 or out.shape[0] != rows or out.shape[1] < 2 or expected not in (None, out.shape[1]):
            wanted = f"({rows}, {expected or 'classes, at least 2'})"
            raise ModelError(f"model: returned logits of shape {tuple(out.shape)}, expected {wanted}")
        if not out.is_floating_point():
            raise ModelError(f"model: returned {out.dtype}, expected floating point logits")
        self.classes = out.shape[1]
        if not _finite(out.detach()):
            raise NonFinite("model: returned logits that are not finite (NaN or infinite)")
        return out.float()


def _join(parts: list[torch.Tensor]) -> torch.Tensor:
    """Concatenate, without a copy where there is one part."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _finite(values: torch.Tensor) -> bool:
    """No NaN and no infinity. One is in the sum, too, which is a fifteenth of the work; a sum may overflow without."""
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _input_gradient(value: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Gradient of the sum of `value`, contiguous whatever layout the model works in.

    Raises:
        ModelError: the losses do not depend on the input in a way that autograd sees.
        NonFiniteGradients: the gradient is not finite; its sign would be taken for 0, and the image for robust.
    """
    if not value.requires_grad:
        raise ModelError("model: its logits carry no gradient (detached or computed without autograd)")
    (gradient,) = torch.autograd.grad(value.sum(), batch, allow_unused=True)
    if gradient is None:
        raise ModelError("model: its logits have no gradient with respect to the images")
    if not _finite(gradient):
        raise NonFiniteGradients("model: its gradient with respect to the images is not finite (NaN or infinite)")
    return gradient.contiguous()


def predict(
    model: Classifier,
    images: torch.Tensor,
    *,
    batch_size: int = DEFAULT_BATCH,
    fixed_batch: int | None = None,
) -> torch.Tensor:
    """Logits of `images` by the batching rule of this module.

    Args:
        model: the classifier, in eval mode.
        images: n x C x H x W, float32 in [0, 1], on the model's device.
        batch_size: requested rows of a physical batch.
        fixed_batch: run every batch at exactly this size, for models that fail `probe`.

    Returns:
        n x K, float32, bit-identical for any `batch_size` and order of the images if `probe` says so.

    Raises:
        InvalidArgument: a batch size below 1.
        ModelError: non-finite or wrongly shaped logits.
    """
    size = check_batch("batch_size", batch_size, DEFAULT_BATCH)
    fixed = check_batch("fixed_batch", fixed_batch, None)
    return Passes(model, batch_size=size or DEFAULT_BATCH, fixed_batch=fixed).logits(images)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """Whether a model's outcomes are bit-identical across batch sizes (16 against 64 rows, permuted).

    Attributes:
        identical: both differences are exactly zero.
        logits_difference: largest absolute difference of logits.
        gradient_difference: largest absolute difference of input gradients; infinite where there is none.
        classes: logits that the model returned for an image.
    """

    identical: bool
    logits_difference: float
    gradient_difference: float
    classes: int

    @property
    def fixed_batch(self) -> int | None:
        """What to pass as `fixed_batch`: None where the rule holds, else 64."""
        return None if self.identical else FIXED


def probe(model: Classifier, images: torch.Tensor) -> ProbeResult:
    """Run up to 64 images as one batch and, permuted, in batches of 16, forward and backward.

    Args:
        model: the classifier, in eval mode.
        images: at least one image, n x C x H x W, float32 in [0, 1].
    """
    repeats = -(-FIXED // len(images))
    batch = images.repeat(repeats, 1, 1, 1)[:FIXED]
    order = torch.arange(FIXED - 1, -1, -1, device=batch.device).reshape(4, 16).T.reshape(-1)
    back = torch.argsort(order)
    wide, narrow = Passes(model, batch_size=FIXED), Passes(model, batch_size=ROWS)
    found = wide.logits(batch)
    logits = float((found - narrow.logits(batch[order])[back]).abs().max())
    classes = found.shape[1]
    gradient: float | None
    try:
        one = wide.gradient(batch, _log_sum)[2]
        other = narrow.gradient(batch[order], _log_sum)[2][back]
        gradient = float((one - other).abs().max())
    except ModelError:
        gradient = None  # attacks refuse such a model, and its logits are all that counts
    return ProbeResult(
        identical=logits == 0.0 and gradient in (0.0, None),
        logits_difference=logits,
        gradient_difference=float("inf") if gradient is None else gradient,
        classes=classes,
    )


def _log_sum(logits: torch.Tensor) -> torch.Tensor:
    """A smooth function of all logits: its gradient has no dead entries."""
    return torch.logsumexp(logits, dim=1) + logits[:, 0]
