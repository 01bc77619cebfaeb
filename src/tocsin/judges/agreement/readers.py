"""Reads rankings: the published layout, a table of it without texts, and a long layout for anyone's data.

Texts of prompts and responses are used to join files of the published layout and are not kept. Their 1 is
the least harmful; group 10 wrote the other way round and is turned. Encodings vary: UTF-8 is tried before
Latin-1.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tocsin.core.errors import InputError
from tocsin.judges.agreement.data import Collector, RankingError, Rankings
from tocsin.judges.agreement.ranks import Problem, parse_ranking, parse_reply

FLIPPED_GROUPS = frozenset({"10"})
SMALL_MODELS = ("Mistral", "MPT", "StableLM")
HUMAN, EXPERT = "human", "expert"
_SHOWN_FIRST_TO_LAST = (0, 1, 2)
_GROUP_FILE = re.compile(r"output_group_(\d+)\.csv", re.IGNORECASE)
_LONGEST_ID = 64
_ANNOTATOR, _ITEM = ("annotator", "judge", "rater"), ("item", "item_id", "id")
_SUBJECT, _POSITION = ("model", "subject", "system"), ("position", "order")
Row = Mapping[str, str]


def read_rankings(
    path: Path | str,
    *,
    humans: Sequence[str] = (HUMAN, EXPERT),
    known_items: Iterable[str] | None = None,
    skip_bad: bool = False,
) -> Rankings:
    """Read rankings from a file or folder, recognising its layout.

    Layouts: a folder of `output_Group_N.csv` files with `expert_annotations.csv` and
    `NAME_predictions.csv`; a CSV with the columns item, group, human_raw, complete, expert_raw and one for
    each judge; or a long CSV, JSON-lines file or JSON array with item, annotator, model, and rank or score
    (higher is more harmful, 0 or N/A is not harmful), optionally group and position (from 1). In the first
    two a row that is no ranking is counted and left out, and of an item that occurs twice the last row is
    kept, as in the published analysis.

    Args:
        path: What to read.
        humans: Which annotators are people.
        known_items: Ids that may occur in a long file; any when None.
        skip_bad: Leave out and count bad rankings of a long file, instead of refusing the file.

    Raises:
        InputError: If it cannot be read or has no known layout.
        RankingError: If a long file holds ties, missing or doubled ranks, ranks out of range, values that are
            no numbers, or unknown items. The error names the items, never what was written.
    """
    path = Path(path)
    if path.is_dir():
        return _read_published(path, humans)
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return _read_long(path, _json_rows(path), humans, known_items, skip_bad=skip_bad)
    header, rows = _csv_rows(path)
    if {"item", "human_raw", "complete"} <= set(header):
        return _read_table(path, header, rows, humans)
    return _read_long(path, rows, humans, known_items, skip_bad=skip_bad)


def _read_table(path: Path, header: Sequence[str], rows: Sequence[Row], humans: Sequence[str]) -> Rankings:
    judges = [name for name in header if name not in _TABLE_COLUMNS and name]
    found = Collector(SMALL_MODELS)
    for row in rows:
        item, group = _short_id(row["item"]), row.get("group") or None
        if not item:
            message = "expected an id in the column 'item' of every row, got none. Correct the file."
            raise InputError(message, path=path)
        n = len(SMALL_MODELS)
        is_flipped = group in FLIPPED_GROUPS
        if row["complete"] == "1":
            raw = parse_ranking(row["human_raw"], n, flipped=is_flipped)
            found.add(HUMAN, item, raw, group=group, order=_SHOWN_FIRST_TO_LAST)
        else:
            found.count(HUMAN, "incomplete")
        if row.get("expert_raw"):
            # Experts wrote in one direction, also on the rows of the group that did not.
            found.add(EXPERT, item, parse_ranking(row["expert_raw"], n), group=group)
        for judge in judges:
            if row[judge]:
                raw = parse_ranking(row[judge], n)
                found.add(judge, item, raw, group=group, order=_SHOWN_FIRST_TO_LAST)
    return found.rankings(humans)


_TABLE_COLUMNS = frozenset({"item", "group", "human_raw", "complete", "expert_raw"})


def _read_published(folder: Path, humans: Sequence[str]) -> Rankings:
    files = sorted(each for each in folder.rglob("*.csv") if each.is_file())
    groups = sorted(
        (int(match[1]), each) for each in files if (match := _GROUP_FILE.fullmatch(each.name)) is not None
    )
    if not groups:
        message = "expected files named output_Group_N.csv, got none. Give the folder that holds them."
        raise InputError(message, path=folder)
    found = Collector(SMALL_MODELS)
    id_of: dict[str, str] = {}
    for number, file in groups:
        for place, (prompt, ranking, is_complete) in enumerate(_group_rows(file), start=1):
            if not is_complete:
                found.count(HUMAN, "incomplete")
                continue
            group = str(number)
            item = id_of.setdefault(_join_key(prompt), f"{group}:{place}")
            raw = parse_ranking(ranking, len(SMALL_MODELS), flipped=group in FLIPPED_GROUPS)
            found.add(HUMAN, item, raw, group=group, order=_SHOWN_FIRST_TO_LAST)
    notes = []
    for file in files:
        name = file.stem.lower()
        if name == "expert_annotations":
            _, rows = _csv_rows(file, needed=("prompt", "expert_ranking"))
            raws = [(row["prompt"], parse_ranking(row["expert_ranking"], len(SMALL_MODELS))) for row in rows]
            annotator, order = EXPERT, None
        elif name.endswith("_predictions"):
            header, rows = _csv_rows(file, needed=("prompt",))
            raws = [(row["prompt"], _prediction(row, header)) for row in rows]
            annotator, order = name.removesuffix("_predictions"), _SHOWN_FIRST_TO_LAST
        else:
            continue
        unjoined = 0
        for place, (prompt, raw) in enumerate(raws, start=1):
            key = _join_key(prompt)
            if not key:
                found.count(annotator, "incomplete")
                continue
            unjoined += key not in id_of
            found.add(annotator, id_of.setdefault(key, f"{annotator}:{place}"), raw, order=order)
        if unjoined:
            notes.append(f"{unjoined} rows of {annotator} have a prompt that no complete group row has")
    return found.rankings(humans, notes)


def _group_rows(file: Path) -> list[tuple[str, str, bool]]:
    """Prompt, ranking, and whether all five fields are there; index and empty columns are passed over."""
    header, rows = _csv_rows(file, needed=("prompt", "ranking"))
    named = [name for name in header if name and not name.startswith("unnamed")]
    first = named.index("prompt")
    models = [name for name in named[first + 1 :] if name != "ranking"][: len(SMALL_MODELS)]
    if len(models) != len(SMALL_MODELS):
        message = f"expected {len(SMALL_MODELS)} columns of responses, got {len(models)}. Correct the header."
        raise InputError(message, path=file, line=1)
    fields = ("prompt", *models, "ranking")
    return [
        (row["prompt"], row["ranking"], all(row[name].strip() for name in fields))
        for row in rows
        if any(cell.strip() for cell in row.values())
    ]


def _prediction(row: Row, header: Sequence[str]) -> tuple[int, ...] | Problem:
    """The extracted ranks where the file has them, else those in the raw reply."""
    extracted = row.get("extracted_pred", "").strip()
    if extracted or "preds" not in header:
        return parse_ranking(extracted, len(SMALL_MODELS))
    return parse_reply(row["preds"])


def _join_key(prompt: str) -> str:
    return prompt.strip().lower()


def _read_long(
    path: Path,
    rows: Sequence[Mapping[str, object]],
    humans: Sequence[str],
    known_items: Iterable[str] | None,
    *,
    skip_bad: bool,
) -> Rankings:
    columns = _Columns(path, rows)
    subjects = tuple(dict.fromkeys(columns.text(row, columns.subject) for row in rows))
    if len(subjects) < 2 or "" in subjects:
        message = "expected rankings of at least 2 models, each row naming one, got fewer or rows without. "
        raise InputError(message + f"Fill the column '{columns.subject}'.", path=path)
    place = {subject: i for i, subject in enumerate(subjects)}
    cells: dict[tuple[str, str], dict[str, Mapping[str, object]]] = {}
    bad: dict[tuple[str, str], Problem] = {}
    for number, row in enumerate(rows, start=1):
        item, annotator = _short_id(columns.text(row, columns.item)), columns.text(row, columns.annotator)
        if not item or not annotator:
            message = "expected an item and an annotator in every row, got none. Fill both columns."
            raise InputError(message, path=path, line=number + columns.header_lines)
        mine = cells.setdefault((annotator, item), {})
        subject = columns.text(row, columns.subject)
        if subject in mine:
            bad[annotator, item] = Problem.DUPLICATE
        mine[subject] = row
    known = None if known_items is None else {_short_id(item) for item in known_items}
    found = Collector(subjects)
    for (annotator, item), mine in cells.items():
        raw: tuple[float, ...] | Problem
        if known is not None and item not in known:
            raw = Problem.UNKNOWN_ITEM
        elif (annotator, item) in bad:
            raw = Problem.DUPLICATE
        elif len(mine) < len(subjects):
            raw = Problem.WRONG_NUMBER
        else:
            raw = _values([mine[subject].get(columns.value) for subject in subjects], columns.is_rank)
        first = next(iter(mine.values()))
        found.add(
            annotator,
            item,
            raw,
            group=columns.text(first, columns.group) or None,
            order=_order([mine[s].get(columns.position) for s in sorted(mine, key=place.__getitem__)]),
            scored=not columns.is_rank,
        )
    if found.rejected and not skip_bad:
        problem = Problem(found.rejected[0].problem)
        ids = [each.item for each in found.rejected if each.problem == problem]
        others = len(found.rejected) - len(ids)
        advice = f"{others} more rankings have other problems. " if others else ""
        raise RankingError(problem, ids, advice + "Correct them, or leave them out: --skip-bad.", path=path)
    return found.rankings(humans)


class _Columns:
    """Which column of a long file is what."""

    def __init__(self, path: Path, rows: Sequence[Mapping[str, object]]) -> None:
        names = dict.fromkeys(name for row in rows for name in row)
        self.header_lines = 1 if path.suffix.lower() not in (".jsonl", ".ndjson", ".json") else 0
        self.group = "group"
        self.item, self.annotator, self.subject, self.value = (
            next((name for name in wanted if name in names), "")
            for wanted in (_ITEM, _ANNOTATOR, _SUBJECT, ("rank", "score"))
        )
        self.position = next((name for name in _POSITION if name in names), "position")
        self.is_rank = self.value == "rank"
        if not all((self.item, self.annotator, self.subject, self.value)):
            message = "expected the columns item, annotator, model, and rank or score, got others. "
            message += "Rename them, or give the published layout."
            raise InputError(message, path=path)

    @staticmethod
    def text(row: Mapping[str, object], column: str) -> str:
        value = row.get(column)
        return "" if value is None else str(value).strip()


def _short_id(item: str) -> str:
    """The id; a long one may be examined text, which no message may show, so its hash stands for it."""
    if len(item) <= _LONGEST_ID:
        return item
    return f"#{hashlib.sha256(item.encode()).hexdigest()[:12]}"


def _values(cells: Sequence[object], is_rank: bool) -> tuple[float, ...] | Problem:  # noqa: FBT001
    values = []
    for cell in cells:
        text = "" if cell is None else str(cell).strip()
        if not text:
            return Problem.MISSING
        try:
            value = 0.0 if text.upper() in ("NA", "N/A") else float(text)
        except ValueError:
            return Problem.NOT_A_NUMBER
        if isinstance(cell, bool) or not math.isfinite(value):
            return Problem.NOT_A_NUMBER
        if value < 0 or (is_rank and value > len(cells)):
            return Problem.OUT_OF_RANGE
        if is_rank and not value.is_integer():
            return Problem.NOT_A_NUMBER
        values.append(value)
    return tuple(values)


def _order(cells: Sequence[object]) -> tuple[int, ...] | None:
    """Places from 0, when the cells hold each of 1..k (or 0..k-1) once."""
    try:
        places = [int(str(cell)) for cell in cells]
    except ValueError:
        return None
    low = min(places)
    is_whole = sorted(places) == list(range(low, low + len(places))) and low in (0, 1)
    return tuple(place - low for place in places) if is_whole else None


def _csv_rows(file: Path, needed: Sequence[str] = ()) -> tuple[list[str], list[dict[str, str]]]:
    """Header in lower case, and rows as dictionaries; a first column without a name is an index."""
    csv.field_size_limit(1 << 27)
    reader = csv.reader(io.StringIO(_decoded(file), newline=""))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        rows = [
            dict(zip(header, [*cells, *[""] * (len(header) - len(cells))], strict=False)) for cells in reader
        ]
    except csv.Error as error:
        message = "expected CSV, got a syntax error. Correct the file."
        raise InputError(message, path=file, line=reader.line_num) from error
    missing = [name for name in needed if name not in header]
    if missing or not header:
        message = f"expected the columns {', '.join(needed) or 'of a table'}, got a header without "
        raise InputError(message + f"{', '.join(missing) or 'any'}. Correct the header.", path=file, line=1)
    return header, rows


def _json_rows(file: Path) -> list[dict[str, object]]:
    text = _decoded(file)
    if file.suffix.lower() == ".json":
        parts = [(1, text)]
    else:
        parts = [(n, line) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]
    rows: list[object] = []
    for number, part in parts:
        try:
            value = json.loads(part)
        except ValueError as error:
            message = "expected JSON, got a syntax error. Correct the line."
            raise InputError(message, path=file, line=number) from error
        rows.extend(value if file.suffix.lower() == ".json" and isinstance(value, list) else [value])
    if not rows or not all(isinstance(row, dict) for row in rows):
        message = "expected one object for each rank, got none or something else. See `tocsin judges agree`."
        raise InputError(message, path=file)
    return [row for row in rows if isinstance(row, dict)]


def _decoded(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        message = f"expected a file that can be read, got: {(error.strerror or 'an error').lower()}. "
        raise InputError(message + "Check the path.", path=file) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
