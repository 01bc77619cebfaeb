"""Message logs with planted cascades, of harmless made-up sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tocsin.core.errors import MissingExtraError, UsageError

_LATIN = (
    "ka",
    "lo",
    "mi",
    "ner",
    "tas",
    "vu",
    "rel",
    "ba",
    "sho",
    "dim",
    "gor",
    "pe",
    "zan",
    "fi",
    "wul",
    "cher",
)
_HINDI = ("का", "लो", "मि", "नर", "तस", "वु", "रेल", "बा", "शो", "दिम", "गोर", "पे", "जन", "फि", "चर", "ह")
_CHINESE = tuple("山水天地人木火土金日月星風雨雪花鳥魚田門車馬牛羊春夏秋冬東西南北")
_CHINESE_SCRIPT = 2
_BATCH = 20_000
_WORDS = 8_000
_START = 1_700_000_000
_HOURS = 3600.0
_DEGREE = 10


@dataclass(frozen=True, slots=True)
class Simulation:
    """What is simulated.

    `copies` is the share of messages that are copies in cascades, `edits` the largest share of characters
    edited in a copy (drawn uniformly from 0), `sampling` the share of groups whose messages are seen.
    """

    messages: int
    groups: int
    seed: int = 0
    copies: float = 0.3
    edits: float = 0.05
    sampling: float = 1.0

    def __post_init__(self) -> None:
        if self.messages < 1 or self.groups < 2:
            message = "expected at least 1 message and 2 groups."
            raise UsageError(message)
        if not (0 <= self.copies <= 1 and 0 <= self.edits <= 1 and 0 < self.sampling <= 1):
            message = "expected copies and edits from 0 to 1 and a sampling share in (0, 1]."
            raise UsageError(message)


class _Speaker:
    """Sentences of one made-up vocabulary per script."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.vocabularies = [
            np.array(["".join(random.choice(parts, random.integers(2, high))) for _ in range(_WORDS)], object)
            for parts, high in ((_LATIN, 5), (_HINDI, 5), (_CHINESE, 4))
        ]
        self.gaps = (" ", " ", "")

    def sentences(self, count: int) -> list[str]:
        lengths = np.clip(np.exp(self.random.normal(np.log(120), 0.55, count)), 40, 400).astype(int)
        scripts = self.random.choice(3, count, p=(0.7, 0.2, 0.1))
        made = []
        for length, script in zip(lengths.tolist(), scripts.tolist(), strict=True):
            words = self.vocabularies[script]
            count = length // (2 if script == _CHINESE_SCRIPT else 5) + 1
            chosen = words[self.random.integers(0, _WORDS, count)]
            made.append(self.gaps[script].join(chosen)[:length])
        return made

    def edited(self, text: str, share: float) -> str:
        """A copy in which up to this share of the characters is replaced, dropped or doubled."""
        letters = list(text)
        for _ in range(int(self.random.uniform(0, share) * len(letters))):
            place = int(self.random.integers(len(letters)))
            kind = int(self.random.integers(3))
            other = letters[int(self.random.integers(len(letters)))]
            letters[place] = (other, "", letters[place] + other)[kind]
        return "".join(letters)


def _cascades(plan: Simulation, random: np.random.Generator) -> Iterator[tuple[list[int], list[float]]]:
    """Groups and times of one independent cascade after another over a random network of groups."""
    total = max(plan.groups, round(plan.groups / plan.sampling))
    neighbours = random.integers(0, total, size=(total, _DEGREE))
    while True:
        root = int(random.integers(total))
        reached = {root: float(_START + random.uniform(0, 90 * 24 * _HOURS))}
        waiting = [root]
        # Every group reaches fewer than one other on average, so that cascades end.
        chance = random.uniform(0.2, 0.95) / _DEGREE
        while waiting and len(reached) < plan.groups:
            here = waiting.pop(0)
            hit = neighbours[here][random.random(_DEGREE) < chance].tolist()
            for group, delay in zip(hit, random.exponential(6 * _HOURS, len(hit)).tolist(), strict=True):
                if group not in reached:
                    reached[group] = reached[here] + delay
                    waiting.append(group)
        seen = [group for group in reached if group < plan.groups]
        if len(reached) > 1 and seen:
            yield seen, [reached[group] for group in seen]


def simulate(plan: Simulation, folder: Path) -> dict[str, int]:
    """Write `messages.parquet` and `truth.parquet` (message_id, item) into `folder`; return counts.

    Raises:
        MissingExtraError: Without pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError(extra="trace", purpose="Simulating a log") from error
    random = np.random.default_rng(plan.seed)
    speaker, spread = _Speaker(random), _cascades(plan, random)
    folder.mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [
            ("message_id", pa.string()), ("group_id", pa.string()), ("author", pa.string()),
            ("timestamp", pa.float64()), ("modality", pa.string()), ("text", pa.string()),
            ("forwarding_score", pa.int32()), ("label", pa.string()),
        ]
    )  # fmt: skip
    truth_schema = pa.schema([("message_id", pa.string()), ("item", pa.int64())])
    names = [folder / "messages.parquet", folder / "truth.parquet"]
    parts = [path.with_suffix(".part") for path in names]
    written = items = cascades = 0
    with pq.ParquetWriter(parts[0], schema) as log, pq.ParquetWriter(parts[1], truth_schema) as truth:
        while written < plan.messages:
            batch = min(_BATCH, plan.messages - written)
            rows: list[tuple[int, float, str, int, str | None, int]] = []
            while len(rows) < round(batch * plan.copies):
                groups, times = next(spread)
                source = speaker.sentences(1)[0]
                label = ("harmful", None, None)[items % 3]
                for place, (group, time) in enumerate(zip(groups, times, strict=True)):
                    text = speaker.edited(source, plan.edits) if place else source
                    rows.append((group, time, text, min(place, 5), label, items))
                items += 1
                cascades += 1
            del rows[batch:]
            alone = batch - len(rows)
            where = random.integers(0, plan.groups, alone).tolist()
            when = (_START + random.uniform(0, 90 * 24 * _HOURS, alone)).tolist()
            for group, time, text in zip(where, when, speaker.sentences(alone), strict=True):
                rows.append((group, time, text, 0, None, items))
                items += 1
            rows.sort(key=lambda row: row[1])
            columns = [list(column) for column in zip(*rows, strict=True)]
            ids = [f"m{number:09d}" for number in range(written, written + batch)]
            authors = [f"author-{number}" for number in random.integers(0, plan.groups * 30, batch).tolist()]
            log.write_table(
                pa.table(
                    [ids, [f"group-{one}@g.us" for one in columns[0]], authors, columns[1], ["chat"] * batch,
                     columns[2], columns[3], columns[4]],
                    schema=schema,
                )
            )  # fmt: skip
            truth.write_table(pa.table([ids, columns[5]], schema=truth_schema))
            written += batch
    for part, name in zip(parts, names, strict=True):
        part.replace(name)
    return {"messages": written, "items": items, "cascades": cascades}
