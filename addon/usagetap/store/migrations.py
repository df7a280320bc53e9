"""The schema's versions: numbered steps, each run once, in one transaction. Nothing here ever drops a user's data.

The version is `PRAGMA user_version` in SQLite and the only row of table `usagetap_schema` in PostgreSQL. A change of
the schema is a new function at the end of `MIGRATIONS`; what has been released is never edited, but the first step,
which builds the tables as they are now on an empty database (version 0 goes straight to the latest).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from peewee import Database, SchemaManager, SqliteDatabase

from .database import NewerSchema, StoreError, transaction
from .schema import INDEXES, MODELS, POSTGRES_INDEXES, SQLITE_INDEXES, VIEWS
from .summary import SUMS_TABLE, TABLES, TRIGGERS

Migration = Callable[[Database], None]

# any number will do, as long as it stays: two processes that start at once must not both build the tables
_ADVISORY_LOCK = 0x75736167


def build(db: Database) -> None:
    """Every table, index and view as of the latest version."""
    if "usage" in db.get_tables():
        raise StoreError("the database has a table `usage` that is not usagetap's: choose another file")
    for model in MODELS:
        SchemaManager(model, database=db).create_all()
    special = SQLITE_INDEXES if isinstance(db, SqliteDatabase) else POSTGRES_INDEXES
    for statement in (*INDEXES, *special, *VIEWS):
        db.execute_sql(statement)
    summarise(db)


def summarise(db: Database) -> None:
    """Tables for sums of hours that are over, empty at first (`summary`). PostgreSQL adds up quickly enough."""
    if isinstance(db, SqliteDatabase):
        for statement in (*TABLES, *TRIGGERS):
            db.execute_sql(statement)


def sum_exactly(db: Database) -> None:
    """Sums of money as decimal text: those made in binary are dropped, and the proxy makes them anew."""
    if isinstance(db, SqliteDatabase):
        for table in ("usage_closed", "usage_spreads"):
            db.execute_sql(f"DELETE FROM {table}")
        db.execute_sql("DROP TABLE usage_sums")
        db.execute_sql(SUMS_TABLE)


#: step number n (from 1) brings a database from version n-1 to n
MIGRATIONS: tuple[Migration, ...] = (build, summarise, sum_exactly)
SCHEMA_VERSION = len(MIGRATIONS)
#: the earliest version that can be read as it is
READABLE_VERSION = 1


def version_of(db: Database) -> int:
    """The schema version of a database; 0 if it is empty."""
    if isinstance(db, SqliteDatabase):
        return int(db.execute_sql("PRAGMA user_version").fetchone()[0])
    if "usagetap_schema" not in db.get_tables():
        return 0
    return int(db.execute_sql("SELECT version FROM usagetap_schema").fetchone()[0])


def check(db: Database) -> None:
    """Raise `NewerSchema` if the database is later than this code."""
    version = version_of(db)
    if version > SCHEMA_VERSION:
        raise NewerSchema(
            f"it has schema version {version}, this usagetap knows {SCHEMA_VERSION}: upgrade usagetap"
            " (nothing was changed)"
        )


def migrate(db: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the database to the latest version. Raises `NewerSchema` if it is beyond, and then changes nothing."""
    check(db)
    if version_of(db) >= len(migrations):
        return
    with transaction(db):
        if not isinstance(db, SqliteDatabase):
            db.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
        version = version_of(db)  # again, now that nobody else can be at it
        steps = migrations[:1] if version == 0 else migrations[version:]
        for step in steps:
            step(db)
        _note(db, len(migrations))


def _note(db: Database, version: int) -> None:
    if isinstance(db, SqliteDatabase):
        db.execute_sql(f"PRAGMA user_version = {version:d}")
        return
    db.execute_sql("CREATE TABLE IF NOT EXISTS usagetap_schema (version INTEGER NOT NULL)")
    db.execute_sql("DELETE FROM usagetap_schema")
    db.execute_sql("INSERT INTO usagetap_schema (version) VALUES (%s)", (version,))
