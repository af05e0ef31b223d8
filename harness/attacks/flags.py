"""Reasons to doubt a robust accuracy, by name; no torch, since plans and pages are made from it."""

from __future__ import annotations

VERSION = "2"
"""Of the checks in `harness.attacks.checks`: bumped when they raise a flag where they did not, or no longer do."""

FLAGS = {
    "inputs_outside_range": "the images are not in [0, 1]",
    "train_mode": "the model is in training mode",
    "nan_logits": "the model returns logits that are not finite",
    "probabilities": "the model returns probabilities (or their logarithms), not logits",
    "randomized": "the same images give different logits",
    "dynamic": "the forward pass changes the model or computes gradients",
    "no_gradient": "the logits carry no gradient",
    "nan_gradients": "the gradients of finite logits are not finite",
    "zero_gradients": "the margin of some images has a gradient of exactly zero",
    "vanishing_gradients": "the cross-entropy has no gradient where the margin has one",
    "more_steps_do_not_help": "thirty steps of an attack find nothing lower than three",
    "large_eps_survivors": "images stand at a radius where nothing can stand",
    "square_beats_white_box": "a black-box attack breaks what white-box attacks could not",
    "ball_covers_images": "the ball is so large that it holds every image",
}
"""Every flag of an attack or of the checks, and what it means."""

SQUARE_SHARE = 0.002
"""AutoAttack's threshold for Square doing better than the white-box attacks."""


def square_suspicion(taken: int, images: int) -> dict[str, str]:
    """A flag if Square broke more than 0.2 % of all images (and more than one) that white-box attacks had left.

    Args:
        taken: images that Square broke.
        images: all that were attacked, of the whole evaluation.
    """
    if taken <= max(1, SQUARE_SHARE * images):
        return {}
    evidence = f"Square broke {taken} of {images} images that stood against the white-box attacks"
    return {"square_beats_white_box": evidence}


SAMPLE = 16
"""Images that the checks look at closely: the first that the model gets right."""

FIRST = 4 * SAMPLE
"""Images among which those are looked for."""

FEW, MANY = 3, 30
"""Steps of the short and the long attack that are compared."""

QUERIES = 300
"""Of the black-box search."""


FORWARDS = FIRST + SAMPLE * (2 + 2 + 2 * (MANY + 1) + QUERIES + 3)
"""At most: rows that the checks pass forward. The outputs; two passes compared; two gradients; two
descents; and the search with its clean pass, its first windows and its last judgement."""

BACKWARDS = SAMPLE * (2 + 2 * (MANY + 1))
"""At most: rows that the checks pass backward."""
