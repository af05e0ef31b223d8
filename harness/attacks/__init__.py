"""White-box and black-box attacks. Importing this package is light; torch comes in when an attack runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.attacks.base import Attack, AttackResult, Numerics
from harness.attacks.catalogue import ATTACKS, ends_with_square
from harness.attacks.flags import square_suspicion
from harness.spec import Scalar

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from harness.types import Classifier

__all__ = ["ATTACKS", "Attack", "AttackResult", "Numerics", "attack_blocks", "run_attack"]


def run_attack(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    attack: str = "autoattack",
    *,
    norm: str = "Linf",
    eps: float | str = 8 / 255,
    seed: int = 0,
    indices: NDArray[np.int64] | torch.Tensor | list[int] | None = None,
    batch_size: int | None = None,
    fixed_batch: int | None = None,
    numerics: Numerics | None = None,
    **options: Scalar,
) -> AttackResult:
    """Attack `model` on labelled images inside the ball of radius `eps`, and judge what the attack proposes.

    The attack proposes, the harness disposes: each proposal is projected to the ball and to [0, 1], predicted again on
    exactly the tensor that is stored, and counts only if it is misclassified there. Images that are misclassified
    clean count as failures and cost nothing more.

    Args:
        model: float images in [0, 1], n x C x H x W, to logits, n x K, in eval mode.
        images: n x C x H x W, float32 in [0, 1], on the model's device.
        labels: n integers in [0, K).
        attack: a name in `ATTACKS`.
        norm: "Linf", "L2" or "L1".
        eps: radius, a number or text such as "8/255".
        seed: of all draws.
        indices: n image indices (positions in the data set) that the draws are keyed by; default 0..n-1.
        batch_size: rows of a physical batch, rounded up to a multiple of 16; outcomes do not depend on it
            (for "autoattack:reference" it is the batch cut, taken as given, and they do).
        fixed_batch: run every batch at exactly this size, for models that fail `harness.attacks.physical.probe`.
        numerics: how the search computes; default folded batch norm and channels-last memory in float32. Every verdict
            is that of the model as given, in float32.
        **options: of the attack; see its `options` table.

    Returns:
        Verdicts, adversarial images and costs, in the order of `images`.

    Raises:
        InvalidArgument: a value outside its domain.
        UnknownName: unknown attack or option.
        ModelError: non-finite logits, wrong shape, no gradient.
    """
    blocks = [len(images)] if hasattr(images, "__len__") else [1]
    found = attack_blocks(
        model,
        images,
        labels,
        blocks,
        attack,
        norm=norm,
        eps=eps,
        seed=seed,
        indices=indices,
        batch_size=batch_size,
        fixed_batch=fixed_batch,
        numerics=numerics,
        **options,
    )
    result = next(found)[1]
    suspicion = {}
    if ends_with_square(attack, ATTACKS.get(attack).complete(options)):
        suspicion = square_suspicion(result.broken_by.count("square"), len(result.broken_by))
    return result.doubted(suspicion) if suspicion else result


def attack_blocks(
    model: Classifier,
    images: torch.Tensor,
    labels: torch.Tensor,
    blocks: Sequence[int],
    attack: str = "autoattack",
    *,
    norm: str = "Linf",
    eps: float | str = 8 / 255,
    seed: int = 0,
    indices: NDArray[np.int64] | torch.Tensor | list[int] | None = None,
    batch_size: int | None = None,
    fixed_batch: int | None = None,
    numerics: Numerics | None = None,
    **options: Scalar,
) -> Iterator[tuple[int, AttackResult]]:
    """`run_attack` on several blocks of images in one pool: each is yielded when its last image is done.

    Slots that become free in one block are refilled from the next, and every block's outcome is bit for bit what it
    would be by itself. An attack that is not per image gets each block by itself. The flag `square_beats_white_box` is
    about all images together and left to the caller.

    Args:
        model: see `run_attack`, as for all but `blocks`.
        images: of all blocks, one after the other.
        labels: of the images.
        blocks: how many images each block has.
        attack: a name in `ATTACKS`.
        norm: of the ball.
        eps: its radius.
        seed: of all draws.
        indices: n image indices that the draws are keyed by.
        batch_size: rows of a physical batch.
        fixed_batch: exact rows of every batch.
        numerics: how the search computes.
        **options: of the attack.

    Yields:
        (number of the block, its result), in the order in which blocks are done.

    Raises:
        InvalidArgument: a value outside its domain.
        UnknownName: unknown attack or option.
        ModelError: non-finite logits, wrong shape, no gradient.
    """
    from harness.attacks import arena

    return arena.attack_blocks(
        model,
        images,
        labels,
        blocks=blocks,
        attack=ATTACKS.get(attack),
        norm=norm,
        eps=eps,
        seed=seed,
        indices=indices,
        batch_size=batch_size,
        fixed_batch=fixed_batch,
        numerics=numerics or Numerics(),
        options=options,
    )
