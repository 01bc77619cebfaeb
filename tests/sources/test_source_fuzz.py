"""Mutated inputs over all readers: no exception but InputError, no hang, and every row accounted for.

Each input starts as a valid file, is damaged with a seeded generator, and is read. `SEED` and the number in a
failing message repeat it.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from source_inputs import SKILL, write

from tocsin.core.errors import InputError
from tocsin.core.records import Item
from tocsin.sources import Limits, open_source

SEED = 20260131
SECONDS_PER_INPUT = 5
LIMITS = Limits(
    record_bytes=4_000, chars_per_item=500, turns_per_chat=20, headers=50, row_group_bytes=1 << 20
)
TOKENS = [
    *(
        b'"',
        b"'",
        b"\\",
        b"\n",
        b"\r",
        b"\r\n",
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xf0\x9f",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(
        b",",
        b":",
        b"---\n",
        b"...",
        b"&a ",
        b"*a",
        b"!!python/name:x ",
        b"<<: ",
        b"# ",
        b"```\n",
        b"> ",
        b"- ",
        b"\t",
    ),
    *(
        b"\\ud800",
        b"\\u0000",
        b"1e999",
        b"9" * 5_000,
        b"[" * 2_000,
        b"null",
        b"NaN",
        b"\xe2\x80\xa8",
        b"\x1a",
        b"%YAML 9",
    ),
    *(
        b"x" * 5_000,
        b'{"text": 1}',
        b'"text"',
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"PAR1",
        b"PK\x03\x04",
        b"|",
        b";",
        b" " * 999,
    ),
]


def _text() -> bytes:
    return "".join(f"line {number} of a list, é\n" for number in range(12)).encode()


def _jsonl() -> bytes:
    rows: list[object] = [{"id": n, "text": f"row {n}", "label": n % 2} for n in range(6)]
    rows += [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "é"}]}
        for _ in range(3)
    ]
    rows += [
        {"instruction": "a", "input": "b", "output": "c"},
        "plain",
        {"conversations": [{"from": "human", "value": "x"}]},
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _json() -> bytes:
    return json.dumps(
        [{"text": f"row {n}", "nested": {"a": [1, [2, "]"]]}} for n in range(9)], indent=1
    ).encode()


def _csv() -> bytes:
    return b"id,text,label\n" + b"".join(b'%d,"row, ""%d""",x\n' % (n, n) for n in range(10))


def _tsv() -> bytes:
    return b"id\tprompt\tresponse\n" + b"".join(b"%d\task %d\tsay\n" % (n, n) for n in range(10))


def _skill() -> bytes:
    return (
        SKILL.replace("---\n\n", "metadata:\n  a: [1, 2]\n  b: {c: d}\n---\n\n", 1).encode()
        + b"```\n# x\n```\n" * 3
    )


def _parquet() -> bytes:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    sink = io.BytesIO()
    messages = [[{"role": "user", "content": f"hi {n}"}] for n in range(40)]
    table = pa.table({"id": range(40), "text": [f"row {n}" for n in range(40)], "messages": messages})
    pq.write_table(table, sink, row_group_size=10)
    return sink.getvalue()


SEEDS: dict[str, Callable[[], bytes]] = {
    "a.txt": _text,
    "a.jsonl": _jsonl,
    "a.json": _json,
    "a.csv": _csv,
    "a.tsv": _tsv,
    "skill/SKILL.md": _skill,
    "a.parquet": _parquet,
}


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to six random changes: flipped, removed, doubled or moved pieces, meaningful tokens, cuts."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice([1, 1, 2, 8, 60])
        match rng.randrange(7):
            case 0:
                changed[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del changed[place : place + length]
            case 2:
                changed[place:place] = changed[place : place + length] * rng.choice([1, 2, 50])
            case 3 | 4:
                changed[place:place] = rng.choice(TOKENS)
            case 5:
                other = rng.randrange(len(changed) + 1)
                changed[place:place] = changed[other : other + length]
            case _:
                if rng.random() < 0.2:
                    del changed[place:]
    return bytes(changed)


@contextmanager
def time_limit(seconds: int, message: str) -> Iterator[None]:
    def ring(_signal: int, _frame: object) -> None:
        raise AssertionError(message)

    previous = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def accounted_for(name: str, data: bytes, items: list[Item]) -> bool:
    """Whether every row of the damaged input has its item, counted here without the readers' help."""
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    numbers = [item.origin.line for item in items]
    filled = [number for number, line in enumerate(lines, start=1) if line.strip()]
    if name in ("a.txt", "a.jsonl"):
        return numbers == filled
    if name in ("a.csv", "a.tsv"):
        # A line without an item of its own is the continuation of a record that opened a quote.
        begun = [max((n for n in numbers if n is not None and n <= line), default=0) for line in filled[1:]]
        return all(
            start == line or (start and b'"' in b"".join(lines[start - 1 : line - 1]))
            for start, line in zip(begun, filled[1:], strict=True)
        )
    if name == "a.json":
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return any(item.problem is not None or item.partial for item in items) or len(items) == len(
                filled
            )
        return len(items) == (len(document) if isinstance(document, list) else 1)
    if name.endswith("SKILL.md"):
        return len(items) == 1
    return bool(items)


def read_damaged(folder: Path, name: str, data: bytes, *, in_folder: bool) -> None:
    path = write(folder / name, data)
    try:
        source = open_source(folder if in_folder else path, limits=LIMITS)
        items = list(source.items())
    except InputError:
        return
    assert [item.origin.ordinal for item in items] == list(range(len(items)))
    for item in items:
        item.model_dump_json()
        assert len(item.content_hash) == 64
        assert (
            item.problem is not None
            or item.text.strip()
            or item.turns
            or item.skill is not None
            or item.prompt
        )
    if not in_folder:
        assert accounted_for(name, data, items)
    else:
        assert items or source.notices


def fuzz(folder: Path, count: int) -> None:
    seeds = {name: make() for name, make in SEEDS.items()}
    for number in range(count):
        rng = random.Random(SEED + number)
        name = rng.choice(sorted(seeds))
        data = mutate(seeds[name], rng)
        place = f"mutation {number} of {name}"
        with time_limit(SECONDS_PER_INPUT, f"{place} took more than {SECONDS_PER_INPUT} s"):
            try:
                read_damaged(folder / name.replace("/", "-"), name, data, in_folder=rng.random() < 0.2)
            except Exception as error:
                error.add_note(place)
                raise


def test_damaged_inputs_are_read_or_refused(tmp_path: Path) -> None:
    fuzz(tmp_path, 600)


@pytest.mark.slow
def test_ten_thousand_damaged_inputs_are_read_or_refused(tmp_path: Path) -> None:
    fuzz(tmp_path, int(os.environ.get("TOCSIN_FUZZ_INPUTS", "10000")))
