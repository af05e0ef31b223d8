"""What is best known of a model's robustness: the store's own attacks, and adversarial images that others handed in.

A robust accuracy is an upper bound: somebody may come with images that our attacks did not find. Such images are
checked (`harness.attacks.examples`) and judged like any proposal of our own; then they count.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.attacks.catalogue import is_current
from harness.attacks.examples import Claim, as_float, gather
from harness.errors import InvalidArgument
from harness.metrics.intervals import wilson
from harness.spec import AttackSpec, ModelRef, eps_text, perturbation_from_identity
from harness.storage.adversarial import StoredClaim
from harness.storage.queries import Reader
from harness.types import Json, Norm

if TYPE_CHECKING:
    from harness.jobs.subject import Subject
    from harness.spec import DataRef

MAX_AUTHOR = 200
MAX_SOURCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Whose images count in a figure.

    Attributes:
        author: as given; may be empty.
        source: an address; may be empty.
        added_at: when they were checked, ISO 8601, UTC.
        sha256: of the file.
        broken: images of the figure that they break within its radius.
        first: those of them that nobody had broken before.
    """

    author: str
    source: str
    added_at: str
    sha256: str
    broken: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BestKnown:
    """The smallest robust accuracy that is known of a model in one threat model.

    Attributes:
        data: the data set.
        norm: of the threat model.
        eps: its radius.
        images: that the store's attack covers, the first of the data set.
        store_value: robust accuracy by that attack.
        attack: its label.
        evaluation: its digest.
        value: share of the images that nobody broke within eps.
        low: lower end of Wilson's 95 % interval.
        high: its upper end.
        broken_by_others: images that only other attacks of the store broke.
        broken_by_examples: images that only somebody's checked examples broke.
        attributions: whose, in the order in which they were checked.
    """

    data: DataRef
    norm: Norm
    eps: float
    images: int
    store_value: float
    attack: str
    evaluation: str
    value: float
    low: float
    high: float
    broken_by_others: int
    broken_by_examples: int
    attributions: tuple[Attribution, ...]

    def to_dict(self) -> dict[str, Json]:
        """Plain data; the data set by its name."""
        plain = asdict(self)
        return {"dataset": plain.pop("data")["name"], "norm": plain.pop("norm"), "eps_text": eps_text(self.eps)} | plain


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attacked:
    """An attack evaluation of the store: its verdicts on the first images."""

    data: DataRef
    spec: AttackSpec
    digest: str
    right: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Which of somebody's images break the model.

    Attributes:
        indices: k, int64: positions of the broken images, ascending.
        radius: k, float64: the smallest eps at which each is taken.
        wrong_clean: images of the file that are misclassified without any perturbation; they count for nobody.
    """

    indices: NDArray[np.int64]
    radius: NDArray[np.float64]
    wrong_clean: int


def judge(subject: Subject, claim: Claim, batch_size: int = 128) -> Judged:
    """Predict on exactly the claimed tensors, in float32 by the model as given.

    Raises:
        ModelError: non-finite or wrongly shaped logits.
    """
    examples = claim.examples
    clean = subject.right(as_float(gather(subject.data, examples.indices)), examples.indices, batch_size)
    held = subject.right(examples.adversarial, examples.indices, batch_size)
    rows = np.flatnonzero(clean & ~held)
    rows = rows[np.argsort(examples.indices[rows])]
    return Judged(indices=examples.indices[rows], radius=claim.radius[rows], wrong_clean=int((~clean).sum()))


def check_attribution(author: str, source: str) -> None:
    """See that names and addresses are short, printable and harmless.

    Raises:
        InvalidArgument: too long, control characters, or an address that is not http or https.
    """
    if len(author) > MAX_AUTHOR or not author.isprintable():
        raise InvalidArgument("by", author, f"printable text of at most {MAX_AUTHOR} characters")
    if source and not (re.fullmatch(r"https?://\S+", source) and source.isprintable() and len(source) <= MAX_SOURCE):
        raise InvalidArgument("source", source, f"an http or https address of at most {MAX_SOURCE} characters")


def best_known(store: Reader, name: str) -> tuple[BestKnown, ...]:
    """The best-known figures of a model, one for each data set, norm and radius that the store has an attack for.

    The figure of the store is that of the attack that covers most images; of several, the one with the lowest
    robust accuracy. From its robust images are taken those that any other attack of the store broke at this radius or a
    smaller one, and those that checked examples break within it. Attacks by older versions of a component do not count.

    Args:
        store: where the evaluations are.
        name: the model's.

    Raises:
        UnknownName: no such model.
    """
    attacked = _attacked(store, name)
    claims = store.claims(store.find_ref(name))
    keys = {(item.data.name, item.data.digest, item.spec.norm, item.spec.eps) for item in attacked}
    figures = []
    for _, digest, norm, eps in sorted(keys):
        inside = [item for item in attacked if (item.data.digest, item.spec.norm) == (digest, norm)]
        figures.append(_figure(inside, eps, [claim for claim in claims if _same(claim, digest, norm)]))
    return tuple(figures)


def broken_before(store: Reader | None, model: ModelRef, data: DataRef, norm: Norm, eps: float) -> NDArray[np.bool_]:
    """Which images of a data set are known to be wrong or broken within a radius: one bit an image."""
    known = np.zeros(data.images, dtype=np.bool_)
    found = None if store is None else store.find_model(model.name)
    if store is None or found is None or found.digest != model.digest:
        return known
    for item in _attacked(store, model.name):
        if (item.data.digest, item.spec.norm) == (data.digest, norm) and item.spec.eps <= eps:
            known[: len(item.right)] |= ~item.right
    for claim in store.claims(model):
        if _same(claim, data.digest, norm):
            known[claim.indices[claim.radius <= eps]] = True
    return known


def _attacked(store: Reader, name: str) -> tuple[_Attacked, ...]:
    """Attack evaluations of a model by current components that cover the first images."""
    items = [item for item in store.evaluations(model=name) if item.kind == "attack"]
    verdicts = store.verdicts(item.digest for item in items)
    found = []
    for item in items:
        spec = perturbation_from_identity(item.perturbation)
        right = verdicts.get(item.digest)
        if not isinstance(spec, AttackSpec) or right is None or not right.size:
            continue
        current = is_current(spec.attack, dict(spec.options), spec.version)
        if current and (spec.scope is None or spec.scope.start == 0):
            found.append(_Attacked(data=item.data, spec=spec, digest=item.digest, right=right))
    return tuple(found)


def _same(claim: StoredClaim, data: str, norm: str) -> bool:
    return (claim.data.digest, claim.norm) == (data, norm)


def _figure(attacked: Iterable[_Attacked], eps: float, claims: Iterable[StoredClaim]) -> BestKnown:
    """The figure at one radius from all attacks on a data set in a norm, and the claims about it."""
    within = [item for item in attacked if item.spec.eps <= eps]
    at = [item for item in within if item.spec.eps == eps]
    main = max(at, key=lambda item: (item.right.size, -int(item.right.sum())))
    n = main.right.size
    robust = main.right.copy()
    for item in within:
        shared = min(n, item.right.size)
        robust[:shared] &= item.right[:shared]
    by_store = int(robust.sum())
    attributions = []
    for claim in claims:
        broken = claim.indices[(claim.radius <= eps) & (claim.indices < n)]
        first = int(robust[broken].sum())
        robust[broken] = False
        if broken.size:
            attributions.append(
                Attribution(
                    author=claim.author,
                    source=claim.source,
                    added_at=claim.added_at,
                    sha256=claim.blob,
                    broken=int(broken.size),
                    first=first,
                )
            )
    standing = int(robust.sum())
    low, high = wilson(standing, n)
    return BestKnown(
        data=main.data,
        norm=main.spec.norm,
        eps=eps,
        images=n,
        store_value=int(main.right.sum()) / n,
        attack=main.spec.label,
        evaluation=main.digest,
        value=standing / n,
        low=low,
        high=high,
        broken_by_others=int(main.right.sum()) - by_store,
        broken_by_examples=by_store - standing,
        attributions=tuple(attributions),
    )
