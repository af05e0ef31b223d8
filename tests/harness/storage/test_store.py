"""The store: one write path, prefixes of blocks, revisions, refusals; on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from harness.data.declared import Declaration
from harness.errors import InvalidArgument, NotAStore, RequestError, StoreError, StoreNotReady, StoreTooNew
from harness.outcome import DETAIL_DTYPE, BlockOutcome, Cost, Detail, Failure, MeasureValue, pack_bits, unpack_bits
from harness.spec import AttackSpec, CleanSpec, DataRef, EvaluationSpec, MeasureSpec, ModelRef, Scalar, freeze_options
from harness.storage import open_store
from harness.storage.engine import parse_url, stored_revision
from harness.storage.migrations import upgrade
from harness.storage.schema import REVISIONS, Base
from harness.storage.store import BoardKey, CellScore, Store
from harness.target import PUBLISHED, CellRef, Target

DATA = DataRef(name="d", split="test", digest="d" * 64, images=5000, classes=10)
MODEL = ModelRef(name="small.x.d", digest="a" * 64)
CARD = {"name": MODEL.name, "family": "f", "architecture": "a", "dataset": "d", "parameters": 1}
COST = Cost(seconds=1.0, forwards=10, backwards=5, device="cpu", batch_size=128)
CLEAN = EvaluationSpec(model=MODEL, data=DATA, perturbation=CleanSpec())
ATTACK = EvaluationSpec(
    model=MODEL, data=DATA, perturbation=AttackSpec(attack="pgd", norm="Linf", eps=0.1, seed=0, version="1")
)
BITS = np.random.default_rng(0).random(5000) < 0.5


@pytest.fixture
def store(db: str) -> Iterator[Store]:
    """An empty store with one model."""
    opened = open_store(db)
    opened.put_model(CARD, MODEL.digest, blob=None)
    yield opened
    opened.close()


def outcome(spec: EvaluationSpec, block: int, start: int, stop: int, detail: Detail | None = None) -> BlockOutcome:
    """Verdicts taken from BITS."""
    return BlockOutcome(
        evaluation=spec.digest, block=block, start=start, stop=stop, correct=BITS[start:stop], cost=COST, detail=detail
    )


def detail_of(names: tuple[str, ...], codes: list[int]) -> Detail:
    """Records that carry their position as margin."""
    records = np.zeros(len(codes), dtype=DETAIL_DTYPE)
    records["broken_by"] = codes
    records["margin"] = np.arange(len(codes))
    return Detail(names=names, records=records)


def test_the_migrations_make_the_tables_of_the_schema(store: Store) -> None:
    """Alembic's result and the typed tables agree: same tables, columns, nullability, uniqueness, indexes."""
    found = sa.inspect(store.engine)
    assert set(found.get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    for name, table in Base.metadata.tables.items():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(name)}
        assert columns == {column.name: column.nullable for column in table.columns}
        unique = {tuple(item["column_names"]) for item in found.get_unique_constraints(name)}
        wanted = {
            tuple(column.name for column in item.columns)
            for item in table.constraints
            if isinstance(item, sa.UniqueConstraint)
        }
        wanted |= {(column.name,) for column in table.columns if column.unique}
        assert unique == wanted
        indexes = {item["name"] for item in found.get_indexes(name) if not item.get("duplicates_constraint")}
        assert indexes == {index.name for index in table.indexes}
        for key in found.get_foreign_keys(name):
            (ours,) = table.columns[key["constrained_columns"][0]].foreign_keys
            assert ours.column.table.name == key["referred_table"]


def test_revisions_are_those_of_the_migration_files() -> None:
    """The list that the service checks against needs no Alembic, so a test holds it to the files."""
    from alembic.script import ScriptDirectory

    import harness.storage.migrations as package

    script = ScriptDirectory(str(Path(package.__file__).parent))
    assert tuple(item.revision for item in reversed(list(script.walk_revisions()))) == REVISIONS


def test_a_block_grows_by_prefixes(store: Store) -> None:
    """200 images, then 1,000: the row is extended; what is there already is left alone."""
    run = store.start_run("test", {})
    store.put_outcome(run, CLEAN, outcome(CLEAN, 0, 0, 200))
    assert store.coverage([CLEAN.digest]) == {CLEAN.digest: {0: 200}}
    store.put_outcome(run, CLEAN, outcome(CLEAN, 0, 200, 1000))
    store.put_outcome(run, CLEAN, outcome(CLEAN, 0, 100, 300))  # another process computed this too
    store.put_outcome(run, CLEAN, outcome(CLEAN, 1, 1000, 1001))
    assert store.coverage([CLEAN.digest]) == {CLEAN.digest: {0: 1000, 1: 1}}
    assert np.array_equal(store.verdicts([CLEAN.digest])[CLEAN.digest], BITS[:1001])


def test_a_gap_is_refused(store: Store) -> None:
    """A piece that does not continue its block is an error, and nothing of it is stored."""
    run = store.start_run("test", {})
    store.put_outcome(run, CLEAN, outcome(CLEAN, 0, 0, 10))
    with pytest.raises(StoreError, match="images 10 to 20 are missing"):
        store.put_outcome(run, CLEAN, outcome(CLEAN, 0, 20, 30))
    assert store.coverage([CLEAN.digest]) == {CLEAN.digest: {0: 10}}


def test_verdicts_stop_at_the_first_gap(store: Store) -> None:
    """Blocks may finish in any order; only the leading ones count until the gap is closed."""
    run = store.start_run("test", {})
    store.put_outcome(run, ATTACK, outcome(ATTACK, 1, 128, 256))
    assert store.verdicts([ATTACK.digest])[ATTACK.digest].size == 0
    store.put_outcome(run, ATTACK, outcome(ATTACK, 0, 0, 100))
    assert store.verdicts([ATTACK.digest])[ATTACK.digest].size == 100
    store.put_outcome(run, ATTACK, outcome(ATTACK, 0, 100, 128))
    assert np.array_equal(store.verdicts([ATTACK.digest])[ATTACK.digest], BITS[:256])


@given(st.lists(st.booleans(), max_size=200))
def test_bits_survive_packing(bits: list[bool]) -> None:
    """Eight verdicts a byte, any length."""
    array = np.array(bits, dtype=np.bool_)
    assert unpack_bits(pack_bits(array), len(bits)).tolist() == bits
    assert len(pack_bits(array)) == (len(bits) + 7) // 8


def test_detail_is_extended_with_its_own_names(store: Store) -> None:
    """Codes of a later piece are translated to the names of the stored one."""
    run = store.start_run("test", {})
    first, second = detail_of(("", "pgd"), [0, 1, 1]), detail_of(("clean", "pgd", ""), [0, 1, 2])
    store.put_outcome(run, ATTACK, outcome(ATTACK, 0, 0, 3, first))
    store.put_outcome(run, ATTACK, outcome(ATTACK, 0, 3, 6, second))
    found = store.details(ATTACK.digest)
    assert found is not None
    assert [found.names[code] for code in found.records["broken_by"]] == ["", "pgd", "pgd", "clean", "pgd", ""]
    assert found.records["margin"].tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("attack", "options", "taken", "flagged"),
    [
        ("autoattack", {"version": "standard"}, 1, True),  # 1 in each of four blocks, more than .2 % of all
        ("bisect", {"inner": "fast+standard", "levels": 3}, 1, True),
        ("autoattack", {"version": "custom", "attacks": "square,pgd"}, 1, False),
        ("square", {}, 1, False),
        ("autoattack", {"version": "standard"}, 0, False),
    ],
)
def test_square_is_judged_over_all_images(
    store: Store, attack: str, options: dict[str, Scalar], taken: int, flagged: bool
) -> None:
    """One break a block is no doubt of any block alone and one of them together; another flag stays beside it."""
    made = AttackSpec(attack=attack, norm="Linf", eps=0.1, seed=0, version="1", options=freeze_options(options))
    spec = EvaluationSpec(model=MODEL, data=DATA, perturbation=made)
    run = store.start_run("test", {})
    for number in range(4):
        detail = detail_of(("", "square"), [1] * taken + [0] * (128 - taken))
        piece = outcome(spec, number, 128 * number, 128 * (number + 1), detail)
        store.put_outcome(run, spec, replace(piece, flags={"randomized": "seen"} if number == 1 else {}))
        (found,) = [item for item in store.evaluations(model=MODEL.name) if item.digest == spec.digest]
        assert ("square_beats_white_box" in found.flags) == (flagged and number > 0)
    assert found.flags["randomized"] == "seen"
    if flagged:
        assert found.flags["square_beats_white_box"].startswith("Square broke 4 of 512 images")


def test_a_suspicion_goes_where_more_images_clear_it(store: Store) -> None:
    """Two of 128 are many, two of 1,152 are few."""
    made = AttackSpec(
        attack="worst_of", norm="Linf", eps=0.1, seed=0, version="1", options=freeze_options({"attacks": "pgd,square"})
    )
    spec = EvaluationSpec(model=MODEL, data=DATA, perturbation=made)
    run, seen = store.start_run("test", {}), []
    for number in range(9):
        detail = detail_of(("", "square"), [1, 1] + [0] * 126 if number == 0 else [0] * 128)
        store.put_outcome(run, spec, outcome(spec, number, 128 * number, 128 * (number + 1), detail))
        seen.append(bool(store.evaluations(model=MODEL.name)[0].flags))
    assert seen == [True] * 7 + [False] * 2


def test_detail_of_another_version_is_refused() -> None:
    """A packing that this code does not know is not guessed at."""
    with pytest.raises(StoreError, match="version ff"):
        Detail.unpack(b"\xff" + detail_of(("",), [0]).pack()[1:])


def test_measures_keep_their_units(store: Store) -> None:
    """Per layer: mean, and one float a unit."""
    spec = EvaluationSpec(
        model=MODEL, data=DATA, perturbation=MeasureSpec(measure="selectivity", version="1", start=0, stop=50)
    )
    units = np.array([0.25, 0.5], dtype=np.float32)
    values = (
        MeasureValue(layer="", quantity="selectivity_index", mean=0.375),
        MeasureValue(layer="conv1", quantity="selectivity_index", mean=0.375, units=units),
    )
    run = store.start_run("test", {})
    empty = np.zeros(0, dtype=np.bool_)
    store.put_outcome(
        run,
        spec,
        BlockOutcome(evaluation=spec.digest, block=0, start=0, stop=50, correct=empty, cost=COST, measures=values),
    )
    network, layer = store.measures([spec.digest])[spec.digest]
    assert (network.layer, network.mean, network.units) == ("", 0.375, None)
    assert layer.units is not None
    assert layer.units.tolist() == [0.25, 0.5]
    assert store.coverage([spec.digest]) == {spec.digest: {0: 50}}


def test_costs_add_up_and_a_failure_keeps_its_traceback(store: Store) -> None:
    """One execution an evaluation and run; the next run is the next attempt."""
    run = store.start_run("test", {"host": "here"})
    store.put_outcome(run, CLEAN, outcome(CLEAN, 0, 0, 10))
    store.put_outcome(run, CLEAN, outcome(CLEAN, 0, 10, 30))
    second = store.start_run("test", {})
    failure = Failure(evaluation=CLEAN.digest, block=0, start=30, stop=40, message="boom", traceback="Traceback ...")
    store.put_failure(second, CLEAN, failure)
    (found,) = store.evaluations(model=MODEL.name)
    newest, oldest = found.executions
    assert (oldest["attempt"], oldest["images"], oldest["seconds"], oldest["forwards"]) == (1, 30, 2.0, 20)
    assert oldest["provenance"] == {"host": "here"}
    assert (newest["attempt"], newest["status"]) == (2, "failed")
    assert newest["error"] == "boom\n\nTraceback ..."
    assert found.n == 30


def test_other_weights_need_replace(store: Store, tmp_path: Path) -> None:
    """The same name with other content is refused; --replace adds a revision, whose outcomes are its own."""
    assert store.put_model(CARD, MODEL.digest, blob=None).revision == 1
    with pytest.raises(RequestError, match="--replace"):
        store.put_model(CARD, "b" * 64, blob=None)
    blob = tmp_path / "w.safetensors"
    blob.write_bytes(b"weights")
    replaced = store.put_model(CARD, "b" * 64, blob=blob, replace=True)
    assert (replaced.revision, replaced.digest) == (2, "b" * 64)
    found = store.model_card(MODEL.name)
    assert found is not None
    assert found[1].read_bytes() == b"weights"
    found[1].write_bytes(b"tampered")
    with pytest.raises(StoreError, match="was changed"):
        store.model_card(MODEL.name)


def test_scores_no_longer_derived_become_stale(store: Store) -> None:
    """A cell whose outcomes are of an older component version stays readable and loses its rank."""
    key = BoardKey(benchmark="b", version=1, data=DATA)
    cells = [
        CellScore(column=name, metric_version="1", value=0.5, low=0.4, high=0.6, n=10, images=10, bound="exact")
        for name in ("one", "two")
    ]
    store.put_scores(key, MODEL, lambda _: cells)
    store.put_ranks(key, "two", lambda _: {MODEL.digest: (1, 1, 1)})
    store.put_scores(key, MODEL, lambda _: cells[:1])
    state = {score.column: (score.stale, score.rank) for score in store.scores(benchmark="b")}
    assert state == {"one": (False, None), "two": (True, None)}


def declared(store: Store) -> dict[str, tuple[str, str]]:
    """Name -> (layout, path) of what is declared."""
    return {name: (item.layout, str(item.path)) for name, item in store.declarations().items()}


def test_the_newest_declaration_of_a_name_counts(store: Store) -> None:
    """Another content, another layout, fewer splits, and back again: what is opened is what was declared last."""
    first, second = (DataRef(name="p", split="test", digest=sign * 64, images=9, classes=3) for sign in "12")
    train = DataRef(name="p", split="train", digest="3" * 64, images=9, classes=3)
    folder = Declaration(name="p", layout="folder", path=Path("/a"))
    other = Declaration(name="p", layout="folder", path=Path("/b"))
    files = Declaration(name="p", layout="cifar-c", path=Path("/c"), of="d")
    cell = CellRef(corruption="fog", severity=1, data=second)
    store.declare(folder, [(train, None), (first, None)])
    store.declare(other, [(second, None)])
    assert declared(store) == {"p": ("folder", "/b")}
    store.declare(folder, [(train, None), (first, None)])
    assert declared(store) == {"p": ("folder", "/a")}
    assert store.newest_target("p") is None
    target = Target(data=second, clean=DATA, cells=(cell,), source=PUBLISHED, suite="cifar-10-c")
    store.declare(files, [(second, target)])
    assert declared(store) == {"p": ("cifar-c", "/c")}
    assert store.newest_target("p") == target


def test_a_failure_of_a_run_stays_on_record(store: Store) -> None:
    """A later success of the same evaluation does not hide that a piece failed."""
    run = store.start_run("test", {})
    failure = Failure(evaluation=ATTACK.digest, block=1, start=128, stop=256, message="boom", traceback="")
    store.put_failure(run, ATTACK, failure)
    store.put_outcome(run, ATTACK, outcome(ATTACK, 0, 0, 128))
    (found,) = store.evaluations(model=MODEL.name)
    assert found.executions[0]["status"] == "failed"
    assert found.n == 128


def test_reading_never_writes(db: str, store: Store) -> None:
    """The read-only engine refuses every write."""
    reader = open_store(db, read_only=True)
    try:
        with pytest.raises((sa.exc.DBAPIError, StoreNotReady)), reader.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM model"))
    finally:
        reader.close()
    assert len(store.models()) == 1


def test_a_missing_or_empty_store_names_the_command(tmp_path: Path) -> None:
    """Reading needs a store; the message says which command makes it."""
    with pytest.raises(StoreNotReady, match="db upgrade"):
        open_store(str(tmp_path / "none.db"), read_only=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreNotReady, match="db upgrade"):
        open_store(str(tmp_path / "empty.db"), read_only=True)
    with pytest.raises(StoreNotReady, match="folder"):
        open_store(str(tmp_path / "no" / "folder.db"))
    assert not (tmp_path / "none.db").exists()


def test_a_newer_store_is_refused_and_untouched(tmp_path: Path) -> None:
    """A schema that this version does not know is not read, migrated or written."""
    path = tmp_path / "new.db"
    open_store(str(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match="newer robustboard"):
        open_store(str(path))
    with pytest.raises(StoreTooNew, match="newer robustboard"):
        open_store(str(path), read_only=True)
    assert path.read_bytes() == before


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    """Somebody's text file is not overwritten."""
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(NotAStore, match="not a SQLite database"):
        open_store(str(path))
    assert path.read_text().startswith("not a database")


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    """Another program's SQLite file gets no tables of ours."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NotAStore, match="bookmarks"):
        open_store(str(path))
    assert path.read_bytes() == before


def test_a_database_error_is_one_line_with_a_way_out(tmp_path: Path) -> None:
    """What SQLite itself refuses is a store error that names the file, not a traceback of the driver."""
    path = tmp_path / "results.db"
    open_store(str(path)).close()
    reader = open_store(str(path), read_only=True)
    with pytest.raises(StoreNotReady, match=r"readonly.*VACUUM INTO"), reader.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM model"))
    reader.close()


def test_upgrade_twice_is_upgrade_once(store: Store) -> None:
    """Nothing happens to a store that is ready."""
    upgrade(store.engine)
    assert stored_revision(store.engine, store.shown) == REVISIONS[-1]
    assert len(store.models()) == 1


@pytest.mark.parametrize("url", ["", "mysql://x/y", "://", "sqlite://", "a\0b"])
def test_bad_urls_are_refused(url: str) -> None:
    """Neither SQLite nor PostgreSQL: what would be right is said."""
    with pytest.raises(InvalidArgument, match="db"):
        parse_url(url)


def test_two_writers_do_not_get_in_each_others_way(db: str, store: Store) -> None:
    """Two stores on one database write in turn; both results stand."""
    other = open_store(db)
    run, second = store.start_run("a", {}), other.start_run("b", {})
    for block in range(4):
        store.put_outcome(run, ATTACK, outcome(ATTACK, 2 * block, 256 * block, 256 * block + 128))
        other.put_outcome(second, ATTACK, outcome(ATTACK, 2 * block + 1, 256 * block + 128, 256 * block + 256))
    other.close()
    assert np.array_equal(store.verdicts([ATTACK.digest])[ATTACK.digest], BITS[:1024])
