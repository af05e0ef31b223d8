"""Database engines: SQLite by default, PostgreSQL by URL; one for writing, one that cannot write."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, ExceptionContext

from harness.errors import InvalidArgument, MissingDependency, NotAStore, StoreNotReady, StoreTooNew
from harness.storage.schema import REVISIONS

BUSY_TIMEOUT_S = 30
_WRITER_LOCK = 0x0B0A4D  # PostgreSQL advisory lock: one writer at a time, as BEGIN IMMEDIATE gives on SQLite


def parse_url(db: str) -> URL:
    """A store's URL from what a person writes: a file name or a database URL.

    Raises:
        InvalidArgument: a database that is neither SQLite nor PostgreSQL, or an unreadable URL.
    """
    expected = "a SQLite file such as results.db, sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    if "://" not in db:
        if not db or "\0" in db:
            raise InvalidArgument("db", db, expected)
        return URL.create("sqlite", database=db)
    try:
        url = sa.make_url(db)
    except sa.exc.ArgumentError:
        raise InvalidArgument("db", db, expected) from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database:
        raise InvalidArgument("db", url.render_as_string(), expected)
    return url


def sqlite_path(url: URL) -> Path | None:
    """The file of a SQLite store, else None."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def make_engine(url: URL, *, read_only: bool) -> Engine:
    """An engine whose transactions are BEGIN IMMEDIATE (writing) or cannot write at all (read-only)."""
    path = sqlite_path(url)
    if path is None:
        return _postgres_engine(url, read_only=read_only)

    immutable = url.query.get("immutable") == "1"

    def connect() -> sqlite3.Connection:
        mode = "mode=ro" + ("&immutable=1" if immutable else "") if read_only else "mode=rwc"
        name = f"{path.resolve().as_uri()}?{mode}"
        try:
            return sqlite3.connect(
                name, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise StoreNotReady(f"store {path}: cannot be opened ({error})") from error

    pool = sa.pool.NullPool if read_only else sa.pool.QueuePool
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=pool)

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA foreign_keys=ON")
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    @sa.event.listens_for(engine, "handle_error")
    def _explain(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, sqlite3.OperationalError):
            hint = ""
            if "readonly" in str(error) or "unable to open" in str(error):
                hint = "; a read-only folder needs a copy made with VACUUM INTO, opened as sqlite:///FILE?immutable=1"
            raise StoreNotReady(f"store {path}: {error}{hint}") from error

    return engine


def _postgres_engine(url: URL, *, read_only: bool) -> Engine:
    try:
        engine = sa.create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise MissingDependency("PostgreSQL needs psycopg: pip install 'robustboard[postgres]'") from None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if read_only:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        else:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")

    return engine


def stored_revision(engine: Engine, shown: str) -> str | None:
    """The migration that the store is at; None if it is empty.

    Raises:
        NotAStore: the file is no database, or one with tables of somebody else.
    """
    try:
        with engine.connect() as connection:
            tables = sa.inspect(connection).get_table_names()
            if "alembic_version" not in tables:
                if tables and engine.dialect.name == "sqlite":
                    raise NotAStore(f"store {shown}: is a database of something else (tables {', '.join(tables[:3])})")
                return None
            row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    except sa.exc.DatabaseError as error:
        if "not a database" in str(error.orig):
            raise NotAStore(f"store {shown}: is not a SQLite database; name another file with --db") from None
        raise
    return str(row[0]) if row else None


def check_revision(engine: Engine, shown: str) -> None:
    """See that the store is at this version's schema.

    Raises:
        StoreTooNew: written by a newer version.
        StoreNotReady: no tables yet, or an older schema.
    """
    revision = stored_revision(engine, shown)
    if revision == REVISIONS[-1]:
        return
    if revision is None:
        raise StoreNotReady(f"store {shown}: holds no results yet; `robustboard db upgrade` prepares it")
    if revision in REVISIONS:
        raise StoreNotReady(
            f"store {shown}: is at schema {revision}, this version needs {REVISIONS[-1]}; run `robustboard db upgrade`"
        )
    raise StoreTooNew(
        f"store {shown}: has schema {revision!r}, written by a newer robustboard (this one knows up to "
        f"{REVISIONS[-1]}); update robustboard or name another store with --db"
    )
