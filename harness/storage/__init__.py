"""The store: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from harness.storage.queries import Reader
    from harness.storage.store import Store


@overload
def open_store(db: str | None = None, *, read_only: Literal[True]) -> Reader: ...
@overload
def open_store(db: str | None = None, *, read_only: Literal[False] = False) -> Store: ...
def open_store(db: str | None = None, *, read_only: bool = False) -> Reader | Store:
    """Open a store.

    Args:
        db: a SQLite file or a database URL; ROBUSTBOARD_DB, else results.db, when None.
        read_only: open without the right to write. The store must exist; its schema is checked by `Reader.check()`, at
            the first call here. Otherwise the store is made or brought to this version's schema.

    Raises:
        InvalidArgument: an unusable URL.
        StoreMissing: read-only, and there is no such file.
        StoreNotReady: read-only, and the store is empty or older than this version.
        StoreTooNew: the store was written by a newer version; it is left untouched.
        NotAStore: the file is something else; it is left untouched.
    """
    from harness.errors import StoreMissing, StoreNotReady
    from harness.settings import DB
    from harness.storage.blobs import BlobStore
    from harness.storage.engine import check_revision, make_engine, parse_url, sqlite_path, stored_revision
    from harness.storage.queries import Reader
    from harness.storage.schema import REVISIONS
    from harness.storage.store import Store

    url = parse_url(db if db is not None else DB.value())
    path = sqlite_path(url)
    shown = str(path) if path is not None else url.render_as_string(hide_password=True)
    blobs = BlobStore(path.with_suffix(".blobs") if path is not None else Path("results.blobs"))
    if path is not None and not path.exists():
        if read_only:
            raise StoreMissing(f"store {shown}: does not exist; `robustboard db upgrade` or the first run makes it")
        if not path.absolute().parent.is_dir():
            raise StoreNotReady(f"store {shown}: its folder does not exist")
    if read_only:
        reader = Reader(make_engine(url, read_only=True), shown, blobs)
        reader.check()
        return reader
    if path is None or path.exists():  # look before the writing engine changes a journal mode
        glance = make_engine(url, read_only=True)
        try:
            check_revision(glance, shown)
        except StoreNotReady:
            pass
        finally:
            glance.dispose()
    engine = make_engine(url, read_only=False)
    if stored_revision(engine, shown) != REVISIONS[-1]:
        from harness.storage.migrations import upgrade

        upgrade(engine)
    return Store(engine, shown, blobs)
