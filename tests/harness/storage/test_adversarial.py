"""Kept adversarial images and claims in the store; on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.attacks.examples import decode
from harness.errors import StoreError, StoreNotReady
from harness.maintenance import problems
from harness.outcome import BlockOutcome, Cost, Examples
from harness.spec import AttackSpec, DataRef, EvaluationSpec, ModelRef
from harness.storage import adversarial, open_store
from harness.storage.adversarial import StoredClaim
from harness.storage.blobs import EXAMPLES, BlobStore
from harness.storage.store import Store

DATA = DataRef(name="d", split="test", digest="d" * 64, images=500, classes=10)
MODEL = ModelRef(name="small.x.d", digest="a" * 64)
CARD = {"name": MODEL.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
COST = Cost(seconds=1.0, forwards=10, backwards=5, device="cpu", batch_size=128)
ATTACK_SPEC = AttackSpec(attack="pgd", norm="Linf", eps=1.0, seed=0, version="1")
SPEC = EvaluationSpec(model=MODEL, data=DATA, perturbation=ATTACK_SPEC)
BROKEN = (3, 40, 41, 130, 200, 255, 256, 380)


@pytest.fixture
def store(db: str) -> Iterator[Store]:
    """An empty store with one model."""
    opened = open_store(db)
    opened.put_model(CARD, MODEL.digest, blob=None)
    yield opened
    opened.close()


def images(*indices: int) -> Examples:
    """Images that carry their position."""
    rows = np.array(indices, dtype=np.int64)
    pixels = np.broadcast_to(rows[:, None, None, None] / np.float32(1000), (len(rows), 3, 2, 2)).astype(np.float32)
    return Examples(adversarial=pixels, indices=rows, labels=rows % 10)


def block(number: int, keep: int, *, spec: EvaluationSpec = SPEC, stop: int | None = None) -> BlockOutcome:
    """A block of 128 images of which BROKEN are broken, with the first `keep` of them."""
    start, stop = 128 * number, min(128 * (number + 1), 500) if stop is None else stop
    own = [index for index in BROKEN if start <= index < stop]
    correct = ~np.isin(np.arange(start, stop), own)
    kept = images(*own[:keep]) if keep else None
    return BlockOutcome(
        evaluation=spec.digest,
        block=number,
        start=start,
        stop=stop,
        correct=correct,
        cost=COST,
        examples=kept,
        keep=keep,
    )


def kept(store: Store) -> Examples:
    """What the store has of the evaluation; its row says the same."""
    (found,) = store.kept_examples([SPEC.digest])
    path = store.blobs.checked_path(found.blob, EXAMPLES)
    examples = decode(path.read_bytes())
    assert (found.images, found.bytes) == (len(examples), path.stat().st_size)
    assert (found.evaluation, found.model, found.data) == (SPEC.digest, MODEL.name, DATA)
    return examples


def test_the_first_broken_images_stay_whatever_the_order_of_the_blocks(tmp_path: Path) -> None:
    """All orders of three blocks end at the same file, and leave no other beside it."""
    seen = set()
    for number, order in enumerate(permutations(range(3))):
        store = open_store(str(tmp_path / f"{number}.db"))
        store.put_model(CARD, MODEL.digest, blob=None)
        run = store.start_run("test", {})
        for at in order:
            store.put_outcome(run, SPEC, block(at, 5))
        examples = kept(store)
        assert tuple(examples.indices) == BROKEN[:5]
        assert np.array_equal(examples.adversarial, images(*BROKEN[:5]).adversarial)
        assert examples.labels.tolist() == [index % 10 for index in BROKEN[:5]]
        (path,) = store.blobs.folder.iterdir()
        seen.add(path.name)
        store.close()
    assert len(seen) == 1


def test_outcomes_are_the_same_with_and_without(store: Store) -> None:
    """Keeping images changes no verdict; without the request nothing is kept."""
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 0))
    assert store.kept_examples([SPEC.digest]) == ()
    assert not store.blobs.folder.exists()
    store.put_outcome(run, SPEC, block(1, 2))
    assert tuple(kept(store).indices) == (130, 200)
    expected = ~np.isin(np.arange(256), BROKEN)
    assert np.array_equal(store.verdicts([SPEC.digest])[SPEC.digest], expected)


def test_a_later_run_extends_and_never_takes_away(store: Store) -> None:
    """More images when more are asked for, none fewer when fewer are; blocks that break nothing change nothing."""
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 3, stop=60))
    store.put_outcome(run, SPEC, block(1, 4))
    assert tuple(kept(store).indices) == (3, 40, 41, 130)
    store.put_outcome(run, SPEC, block(3, 1))
    assert tuple(kept(store).indices) == (3, 40, 41, 130)
    store.put_outcome(run, SPEC, block(2, 7))
    assert tuple(kept(store).indices) == (3, 40, 41, 130, 256, 380)


def test_a_file_that_was_taken_away_is_made_anew(store: Store) -> None:
    """The images of later blocks are kept again, and reading a missing file is an error, not a surprise."""
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 5))
    (found,) = store.kept_examples([SPEC.digest])
    store.blobs.discard(found.blob)
    with pytest.raises(StoreError, match=r"examples blob .* is missing"):
        kept(store)
    store.put_outcome(run, SPEC, block(1, 5))
    assert tuple(kept(store).indices) == (130, 200, 255)


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> list[int]:
    """Let another process do something after this one has merged its images; returns how many each merge had."""
    real, calls = adversarial.merge, list[int]()

    def interrupted(*arguments: Any) -> adversarial.Merged:
        merged = real(*arguments)
        calls.append(merged.images)
        if len(calls) == 1:
            do()
        return merged

    monkeypatch.setattr(adversarial, "merge", interrupted)
    return calls


def test_two_writers_lose_none_of_each_others_images(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process kept after this one merged is in the next file; no file is left over."""
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 5))
    calls = meanwhile(monkeypatch, lambda: store.put_outcome(run, SPEC, block(1, 5)))
    store.put_outcome(run, SPEC, block(2, 7))
    assert calls == [5, 5, 7]
    assert tuple(kept(store).indices) == (3, 40, 41, 130, 200, 256, 380)
    assert len(list(store.blobs.folder.iterdir())) == 1


def test_a_file_that_another_evaluation_gives_up_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two evaluations with the same images share a file: one moves on while the other is about to refer to it."""
    other = replace(SPEC, perturbation=replace(ATTACK_SPEC, attack="fgsm"))
    run = store.start_run("test", {})
    store.put_outcome(run, other, block(0, 5, spec=other))
    meanwhile(monkeypatch, lambda: store.put_outcome(run, other, block(1, 5, spec=other)))
    store.put_outcome(run, SPEC, block(0, 5))
    assert tuple(kept(store).indices) == (3, 40, 41)
    assert not [line for line in problems(store) if "examples" in line]
    assert len(list(store.blobs.folder.iterdir())) == 2


def test_a_file_that_goes_while_it_is_read_is_merged_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its successor, of another process, is what counts."""
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 5))
    real, calls = BlobStore.checked_path, list[str]()

    def found(blobs: BlobStore, sha: str, suffix: str) -> Path:
        path = real(blobs, sha, suffix)
        calls.append(sha)
        if len(calls) == 1:
            store.put_outcome(run, SPEC, block(1, 5))
        return path

    monkeypatch.setattr(BlobStore, "checked_path", found)
    store.put_outcome(run, SPEC, block(2, 7))
    assert tuple(kept(store).indices) == (3, 40, 41, 130, 200, 256, 380)


def test_a_refused_piece_leaves_no_file(store: Store) -> None:
    """A gap in a block: nothing of the piece is stored."""
    run = store.start_run("test", {})
    late = replace(block(0, 5), start=64, correct=np.ones(64, dtype=np.bool_))
    with pytest.raises(StoreError, match="are missing before"):
        store.put_outcome(run, SPEC, late)
    assert not store.blobs.folder.exists() or not list(store.blobs.folder.iterdir())


CLAIM = StoredClaim(
    model=MODEL.digest,
    data=DATA,
    norm="Linf",
    eps=0.5,
    blob="3b64db95cb55c763391c707108489ae18b4112d783300de38e033b4c98c3deaf",
    images=7,
    indices=np.array([1, 499]),
    radius=np.array([0.25, 1 / 3]),
    author="Ä. Author <b>",
    source="https://example.org/?a=1&b=2",
    added_at="2026-01-01T00:00:00Z",
)


def test_a_claim_comes_back_as_it_was(store: Store) -> None:
    """Every field to the last bit, the file under its digest; the same file again changes nothing."""
    content = b"the file"
    claim = replace(CLAIM, blob=store.blobs.put_bytes(content))
    assert store.put_claim(MODEL, claim, content)
    assert not store.put_claim(MODEL, replace(claim, author="Somebody Else"), content)
    (found,) = store.claims(MODEL)
    for name in ("model", "data", "norm", "eps", "blob", "images", "author", "source", "added_at"):
        assert getattr(found, name) == getattr(claim, name)
    assert found.indices.tolist() == [1, 499]
    assert found.radius.tolist() == [0.25, 1 / 3]
    assert store.blobs.checked_path(claim.blob, EXAMPLES).read_bytes() == content
    assert store.put_claim(MODEL, replace(claim, norm="L2"), content)
    assert [item.norm for item in store.claims(MODEL)] == ["Linf", "L2"]
    assert store.claims(ModelRef(name="other", digest="b" * 64)) == ()


def test_a_claim_needs_a_registered_model(store: Store) -> None:
    """Nothing is written for a model that the store does not know, no file either."""
    with pytest.raises(StoreError, match="not registered"):
        store.put_claim(ModelRef(name="other", digest="b" * 64), CLAIM, b"x")
    assert not store.blobs.folder.exists()


def test_missing_and_changed_files_are_found(store: Store) -> None:
    """`db check` names the evaluation and the claim whose file is gone or was changed."""
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 5))
    store.put_claim(MODEL, replace(CLAIM, blob=store.blobs.put_bytes(b"theirs")), b"theirs")
    assert not [line for line in problems(store) if "examples" in line]
    store.blobs.discard(store.kept_examples([SPEC.digest])[0].blob)
    store.blobs.path(store.claims(MODEL)[0].blob, EXAMPLES).write_bytes(b"others")
    missing, changed = (line for line in problems(store) if "examples" in line)
    assert missing.startswith(f"evaluation {SPEC.digest[:12]}: ")
    assert "is missing" in missing
    assert changed.startswith("claim 1: ")
    assert "was changed" in changed


def test_a_shared_file_is_not_deleted(store: Store) -> None:
    """Kept images that somebody handed in as a claim stay when the evaluation keeps more."""
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 5))
    (first,) = store.kept_examples([SPEC.digest])
    content = store.blobs.checked_path(first.blob, EXAMPLES).read_bytes()
    store.put_claim(MODEL, replace(CLAIM, blob=first.blob), content)
    store.put_outcome(run, SPEC, block(1, 5))
    assert store.kept_examples([SPEC.digest])[0].blob != first.blob
    assert store.blobs.checked_path(first.blob, EXAMPLES).read_bytes() == content


def test_an_older_store_is_brought_up_with_its_results(tmp_path: Path) -> None:
    """A store of the first schema is refused by readers, upgraded by writers, and keeps all its rows."""
    path = tmp_path / "old.db"
    store = open_store(str(path))
    store.put_model(CARD, MODEL.digest, blob=None)
    run = store.start_run("test", {})
    store.put_outcome(run, SPEC, block(0, 0))
    store.close()
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE claim; DROP TABLE kept; UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    with pytest.raises(StoreNotReady, match="at schema 0001, this version needs"):
        open_store(str(path), read_only=True)
    store = open_store(str(path))
    assert store.coverage([SPEC.digest]) == {SPEC.digest: {0: 128}}
    store.put_outcome(run, SPEC, block(1, 5))
    assert tuple(kept(store).indices) == (130, 200, 255)
    store.close()
