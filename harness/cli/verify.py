"""`robustboard attack verify`: check somebody's adversarial images, and record which images they break."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.attack import DataOption, EpsOption, ModelArgument, NormOption, find_subject
from harness.cli.options import BatchOption, DbOption, DeviceOption, JsonOption
from harness.cli.output import emit, emit_json, emit_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.jobs.context import ModelSource
    from harness.storage.adversarial import StoredClaim
    from harness.types import Json


def verify(
    model: ModelArgument,
    file: Annotated[Path, typer.Option("--examples", help="Adversarial images: an .npz file (see docs/attacks.md).")],
    norm: NormOption,
    eps: EpsOption,
    by: Annotated[str, typer.Option("--by", help="Who made them; shown beside the figure.")] = "",
    source: Annotated[str, typer.Option("--source", help="Where they come from: an http or https address.")] = "",
    dataset: DataOption = None,
    batch_size: BatchOption = 128,
    device: DeviceOption = "cpu",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and judge; store nothing.")] = False,
    as_json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Check adversarial images of others and update the best-known figure, with attribution.

    The file is checked as hostile, then every image is predicted on exactly the tensor that was handed in. If any
    image is outside the ball, out of range or out of place, all reasons are given and nothing is stored.

    Example:
        robustboard attack verify small_cnn.supervised.digits.s0 --examples theirs.npz --norm Linf --eps 8/255
    """
    from harness.adaptive import broken_before, check_attribution, judge
    from harness.archive import read_file
    from harness.attacks.examples import check
    from harness.cli.run import existing
    from harness.errors import InvalidArgument
    from harness.jobs.subject import open_subject
    from harness.spec import as_norm, parse_eps
    from harness.storage.adversarial import StoredClaim
    from harness.storage.store import now

    check_attribution(by, source)
    ball, radius = as_norm(norm), parse_eps(eps)
    if not 1 <= batch_size <= 2**20:
        raise InvalidArgument("batch-size", batch_size, "1 to 1048576")
    content = read_file(file)
    with existing(db) as reader:
        found, data = find_subject(reader, model, dataset)
        claimed = check(content, data, ball, radius)
        judged = judge(open_subject(found, data, device), claimed, batch_size)
        before = broken_before(reader, found.ref, data.ref(), ball, radius)
    claim = StoredClaim(
        model=found.digest,
        data=data.ref(),
        norm=ball,
        eps=radius,
        blob=hashlib.sha256(content).hexdigest(),
        images=len(claimed.examples),
        indices=judged.indices,
        radius=judged.radius,
        author=by,
        source=source,
        added_at=now(),
    )
    added, figures = False, ()
    if judged.indices.size and not dry_run:
        added, figures = _record(db, found, claim, content)
    new = int((~before[judged.indices]).sum())
    _report(found, claim, judged.wrong_clean, new, added, figures, dry_run=dry_run, as_json=as_json)


def _record(db: str | None, model: ModelSource, claim: StoredClaim, content: bytes) -> tuple[bool, tuple[Json, ...]]:
    """Store the claim; whether it is new, and the figures of its threat model as they are now."""
    from harness.adaptive import best_known
    from harness.storage import open_store

    with contextlib.closing(open_store(db)) as store:
        if model.weights is None:  # bundled models are registered on first use
            store.put_model(model.card, model.digest, blob=None, replace=True)
        added = store.put_claim(model.ref, claim, content)
        figures = best_known(store, model.name)
    own = [item for item in figures if (item.data.digest, item.norm) == (claim.data.digest, claim.norm)]
    return added, tuple(item.to_dict() for item in own)


def _report(
    model: ModelSource,
    claim: StoredClaim,
    wrong: int,
    new: int,
    added: bool,
    figures: tuple[Json, ...],
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from harness.spec import eps_text

    broken = len(claim.indices)
    if as_json:
        emit_json(
            {
                "model": model.name,
                "digest": model.digest,
                "dataset": claim.data.name,
                "norm": claim.norm,
                "eps": claim.eps,
                "sha256": claim.blob,
                "by": claim.author,
                "source": claim.source,
                "images": claim.images,
                "broken": broken,
                "broken_images": claim.indices.tolist(),
                "misclassified_clean": wrong,
                "new": new,
                "recorded": added,
                "best_known": list(figures),
            }
        )
        return
    place = f"within {claim.norm} {eps_text(claim.eps)} of {claim.data.name}"
    emit(f"{claim.images} images {place}: {broken} break {model.name}, {new} of them nobody had broken")
    if wrong:
        emit(f"{wrong} are misclassified clean and count for nobody")
    emit_best_known(figures)
    if dry_run:
        say("nothing was stored (--dry-run)")
    elif not broken:
        say("nothing was stored: none of the images is broken")
    elif not added:
        say("this file is recorded already; nothing was changed")
    elif not figures:
        say("recorded; a best-known figure needs an attack of the store in this norm: `robustboard run` makes one")


def emit_best_known(figures: Sequence[Json]) -> None:
    """A table of best-known figures; nothing where there is none."""
    if not figures:
        return
    rows = [
        (
            item["dataset"],
            f"{item['norm']} {item['eps_text']}",
            str(item["images"]),
            f"{item['store_value']:.4f} ({item['attack']})",
            f"{item['value']:.4f}",
            f"{item['low']:.4f} .. {item['high']:.4f}",
            str(item["broken_by_others"]),
            str(item["broken_by_examples"]),
            "; ".join(_credit(credit) for credit in item["attributions"]),
        )
        for item in figures
    ]
    head = ("best known on", "within", "images", "attack of the store", "best known", "95 %")
    emit_table((*head, "other attacks", "examples", "whose"), rows, right=(2, 4, 5, 6, 7))


def _credit(credit: Json) -> str:
    who = credit["author"] or "no name given"
    where = f", {credit['source']}" if credit["source"] else ""
    return f"{who}{where} ({credit['first']} first of {credit['broken']}, {credit['added_at'][:10]})"
