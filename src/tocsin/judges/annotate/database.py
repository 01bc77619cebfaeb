"""The SQLite file of a study: its tables, how it is made, and how it is opened.

Prompts, responses and orders are JSON in ASCII: a text may hold lone surrogates, which SQLite cannot store.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tocsin.core.errors import RunError
from tocsin.judges.annotate.records import StudySettings
from tocsin.judges.elicitation.responses import ResponseSet

FILE = "study.sqlite"
SCHEMA = 1
"""Version of the tables; a file of another one is refused."""
_TABLES = """
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE item (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, grp TEXT, prompt TEXT NOT NULL);
CREATE TABLE response (item INTEGER NOT NULL REFERENCES item, model INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (item, model));
CREATE TABLE annotator (name TEXT PRIMARY KEY, token TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE task (annotator TEXT NOT NULL REFERENCES annotator, place INTEGER NOT NULL,
  item INTEGER NOT NULL REFERENCES item, shown TEXT NOT NULL, ranks TEXT, saved TEXT,
  skipped INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (annotator, place), UNIQUE (annotator, item)) WITHOUT ROWID;
CREATE TABLE submission (annotator TEXT NOT NULL, key TEXT NOT NULL, place INTEGER NOT NULL,
  given TEXT NOT NULL, saved TEXT NOT NULL, PRIMARY KEY (annotator, key),
  FOREIGN KEY (annotator, place) REFERENCES task (annotator, place)) WITHOUT ROWID;
"""


def create_file(folder: Path, data: ResponseSet, settings: StudySettings) -> None:
    """Make the file of a study of these items, without annotators.

    It takes its name when it is complete, so a study that was killed while it was made is none.

    Args:
        folder: New or empty, made for its owner only.
        data: The items, in the order of their numbers.
        settings: Of the study.

    Raises:
        RunError: If the folder is not empty or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = folder / f".{FILE}.part"
        part.unlink(missing_ok=True)  # of one that was killed
        if any(folder.iterdir()):
            message = "expected a new or empty folder, got one with files. Choose another."
            raise RunError(message, path=folder)
        part.touch(mode=0o600)
        with closing(sqlite3.connect(part, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=DELETE")
            db.execute("BEGIN")
            for statement in _TABLES.split(";"):
                db.execute(statement)
            _fill(db, data, settings)
            db.execute("COMMIT")
        part.replace(folder / FILE)
    except (OSError, sqlite3.Error) as error:
        message = "expected a folder that can be written, got an error. Choose another."
        raise RunError(message, path=folder) from error


def _fill(db: sqlite3.Connection, data: ResponseSet, settings: StudySettings) -> None:
    db.executemany(
        "INSERT INTO setting VALUES (?, ?)",
        [
            ("schema", str(SCHEMA)),
            ("settings", settings.model_dump_json()),
            ("models", json.dumps(data.models)),
            ("data", data.sha256),
        ],
    )
    for number, item in enumerate(data.items):
        row = (number, item.id, item.group, json.dumps(item.prompt))
        db.execute("INSERT INTO item VALUES (?, ?, ?, ?)", row)
        texts = [(number, i, json.dumps(text)) for i, text in enumerate(item.responses)]
        db.executemany("INSERT INTO response VALUES (?, ?, ?)", texts)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for several threads; a transaction is on the disk when it has ended.

    Raises:
        sqlite3.Error: If it is no SQLite file.
    """
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        db.close()
        raise
    return db
