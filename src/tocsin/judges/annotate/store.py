"""A study of human rankings in one SQLite file.

Everything is in `study.sqlite` of the study's folder: items and responses, annotators (hashes of their
tokens only), the order in which each annotator sees what, and an append-only table of submissions. A
ranking is acknowledged after its transaction is on the disk (write-ahead log, `synchronous=FULL`), so a
killed process loses none that was acknowledged; a submission that is sent again under its key is found and
not doubled.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal, Self

from tocsin.core.errors import InputError, UsageError
from tocsin.core.run_record import now
from tocsin.judges.agreement import Problem
from tocsin.judges.annotate.database import FILE, SCHEMA, connect, create_file
from tocsin.judges.annotate.ranks import checked_ranks
from tocsin.judges.annotate.records import (
    OWNER,
    Annotator,
    Progress,
    Ranked,
    Refusal,
    StudySettings,
    SubmissionError,
    Task,
)
from tocsin.judges.elicitation.orders import balanced_orders, seeded
from tocsin.judges.elicitation.responses import ResponseSet

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")


class Study:
    """An open study; safe to use from several threads and several processes.

    Args:
        folder: Folder that holds `study.sqlite`.

    Raises:
        InputError: If there is no study of this version.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        path = self.folder / FILE
        if not path.is_file():
            message = "expected the folder of a study, got none. Make one with `tocsin annotate new`."
            raise InputError(message, path=self.folder)
        self._lock = threading.RLock()
        with ExitStack() as opening:
            try:
                self._db = opening.enter_context(closing(connect(path)))
                stored = dict(self._db.execute("SELECT name, value FROM setting"))
                version = int(stored["schema"])
                self.settings = StudySettings.model_validate_json(stored["settings"])
                self.models: tuple[str, ...] = tuple(json.loads(stored["models"]))
                self.n_items = int(self._db.execute("SELECT count(*) FROM item").fetchone()[0])
            except (sqlite3.Error, KeyError, ValueError) as error:
                message = "expected a study of this version, got something else. Make a new one."
                raise InputError(message, path=path) from error
            if version != SCHEMA:
                message = f"expected a study of version {SCHEMA}, got {version}. Use the Tocsin that made it."
                raise InputError(message, path=path)
            opening.pop_all()

    @classmethod
    def create(cls, folder: Path | str, data: ResponseSet, settings: StudySettings) -> Self:
        """Make a study of these items, without annotators.

        Raises:
            RunError: If the folder is not empty or cannot be written.
        """
        create_file(Path(folder), data, settings)
        return cls(folder)

    def add(self, names: Sequence[str], *, new_token: bool = False) -> list[Annotator]:
        """Give annotators their tokens and orders, all of them or none.

        Args:
            names: 1 to 40 letters, digits, `_`, `.`, `-`; `owner` is the role that sees agreement.
            new_token: Give one who is there already another token; the old one ends.

        Raises:
            UsageError: If a name cannot be used.
        """
        wrong = [name for name in names if not _NAME.fullmatch(name)]
        if wrong or len(set(names)) < len(names):
            message = "expected different names of 1 to 40 letters, digits, '_', '.' and '-', got others. "
            raise UsageError(message + "Choose other names.")
        made = [Annotator(name=name, token=secrets.token_urlsafe(24)) for name in names]
        with self._writing() as db:
            known = {name for (name,) in db.execute("SELECT name FROM annotator")}
            taken = sorted(known & set(names))
            if taken and not new_token:
                message = f"expected new names, got {', '.join(taken)}, who are there. "
                raise UsageError(message + "Give them another token with --new-token.")
            for annotator in made:
                row = {"name": annotator.name, "token": _hash(annotator.token)}
                if annotator.name in known:
                    db.execute("UPDATE annotator SET token = :token WHERE name = :name", row)
                    continue
                db.execute("INSERT INTO annotator VALUES (:name, :token)", row)
                if annotator.name != OWNER:
                    db.executemany(
                        "INSERT INTO task VALUES (?, ?, ?, ?, NULL, NULL, 0)", self._tasks(row["name"])
                    )
        return made

    def _tasks(self, name: str) -> Iterator[tuple[str, int, int, str]]:
        numbers = list(range(self.n_items))
        seeded(self.settings.seed, name, "items").shuffle(numbers)
        orders = balanced_orders(self.n_items, len(self.models), seed=self.settings.seed, who=name)
        for place, (number, order) in enumerate(zip(numbers, orders, strict=True), start=1):
            yield name, place, number, json.dumps(order)

    def who(self, token: str) -> str | None:
        """Name of the holder of a token. The time it takes does not depend on how much of it is right."""
        digest, found = _hash(token), None
        for name, kept in self._rows("SELECT name, token FROM annotator"):
            if hmac.compare_digest(digest, str(kept)):
                found = str(name)
        return found

    def task(self, annotator: str, place: int) -> Task | None:
        """One item of an annotator; None where there is none of that place."""
        if not 1 <= place <= self.n_items:  # SQLite knows no integers beyond 64 bits
            return None
        with self._lock:
            row = self._db.execute(
                "SELECT item, id, prompt, shown, ranks, skipped FROM task JOIN item ON number = item "
                "WHERE annotator = ? AND place = ?",
                (annotator, place),
            ).fetchone()
            if row is None:
                return None
            number, item, prompt, shown, ranks, skipped = row
            texts = dict(self._db.execute("SELECT model, text FROM response WHERE item = ?", (number,)))
        responses = tuple(json.loads(texts[model]) for model in json.loads(shown))
        kept = None if ranks is None else tuple(json.loads(ranks))
        return Task(place, item, json.loads(prompt), responses, kept, bool(skipped))

    def states(self, annotator: str) -> list[Literal["open", "ranked", "skipped"]]:
        """State of each of an annotator's items, in the annotator's order."""
        rows = self._rows(
            "SELECT ranks IS NOT NULL, skipped FROM task WHERE annotator = ? ORDER BY place", annotator
        )
        return ["ranked" if ranked else "skipped" if skipped else "open" for ranked, skipped in rows]

    def submit(self, annotator: str, place: int, key: str, given: Mapping[str, object]) -> bool:
        """Keep a ranking; a later one of the same item replaces it.

        Args:
            annotator: Who ranked.
            place: Which of the annotator's items.
            key: Chosen by the sender, a new one for each ranking that is sent.
            given: By letter; see `checked_ranks`.

        Returns:
            False where this submission had been kept before, which changes nothing.

        Raises:
            SubmissionError: If it cannot be kept, naming the item.
        """
        if not _KEY.fullmatch(key):
            raise SubmissionError(Refusal.BAD_KEY)
        if not 1 <= place <= self.n_items:
            raise SubmissionError(Problem.UNKNOWN_ITEM)
        with self._writing() as db:
            row = db.execute(
                "SELECT id FROM task JOIN item ON number = item WHERE annotator = ? AND place = ?",
                (annotator, place),
            ).fetchone()
            if row is None:
                raise SubmissionError(Problem.UNKNOWN_ITEM)
            item = str(row[0])
            ranks = checked_ranks(given, len(self.models), ties=self.settings.ties)
            if isinstance(ranks, Problem):
                raise SubmissionError(ranks, item)
            text = json.dumps(dict(sorted(given.items())))
            kept = db.execute(
                "SELECT place, given FROM submission WHERE annotator = ? AND key = ?", (annotator, key)
            ).fetchone()
            if kept is not None:
                if kept != (place, text):
                    raise SubmissionError(Refusal.OTHER_RANKING, item)
                return False
            time = now().isoformat(timespec="milliseconds")
            db.execute("INSERT INTO submission VALUES (?, ?, ?, ?, ?)", (annotator, key, place, text, time))
            db.execute(
                "UPDATE task SET ranks = ?, saved = ?, skipped = 0 WHERE annotator = ? AND place = ?",
                (json.dumps(ranks), time, annotator, place),
            )
        return True

    def skip(self, annotator: str, place: int) -> None:
        """Mark an item as one that the annotator does not want to rank; a ranking that is there stays.

        Raises:
            SubmissionError: If the annotator has no such item.
        """
        if not 1 <= place <= self.n_items:
            raise SubmissionError(Problem.UNKNOWN_ITEM)
        with self._writing() as db:
            done = db.execute(
                "UPDATE task SET skipped = 1 WHERE annotator = ? AND place = ?", (annotator, place)
            )
            if not done.rowcount:
                raise SubmissionError(Problem.UNKNOWN_ITEM)

    def progress(self) -> list[Progress]:
        """Of every annotator, by name."""
        rows = self._rows(
            "SELECT annotator, count(*), sum(ranks IS NOT NULL), sum(ranks IS NULL AND skipped) FROM task "
            "GROUP BY annotator ORDER BY annotator"
        )
        return [
            Progress(annotator=str(name), items=int(n), ranked=int(ranked), skipped=int(skipped))
            for name, n, ranked, skipped in rows
        ]

    def rankings(self) -> Iterator[Ranked]:
        """Every ranking, by item and annotator."""
        rows = self._rows(
            "SELECT id, annotator, grp, shown, ranks, saved FROM task JOIN item ON number = item "
            "WHERE ranks IS NOT NULL ORDER BY number, annotator"
        )
        for item, annotator, group, shown, ranks, saved in rows:
            order, given = json.loads(shown), json.loads(ranks)
            place_of = {model: place for place, model in enumerate(order)}
            places = [place_of[model] for model in range(len(self.models))]
            yield Ranked(
                item,
                annotator,
                group,
                tuple(given[place] for place in places),
                tuple(place + 1 for place in places),
                saved,
            )

    def n_submissions(self) -> int:
        """How many rankings were ever kept, replaced ones included."""
        return int(self._rows("SELECT count(*) FROM submission")[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, query: str, *values: str) -> list[tuple[str, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on the disk when the block has ended."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise


def _hash(token: str) -> str:
    """A token has 192 random bits, so a plain hash of it tells nothing."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
