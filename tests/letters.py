"""A tiny real detector for tests: the share of x among a text's letters. Also installable as a plug-in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from tocsin.core.records import Examined, Item, Kind, Provenance, Reason, Verdict
from tocsin.core.registry import Cost, DetectorContext, DetectorInfo, detector, lookup

NAME = "letters"
OTHER = "letters-too"
TESTS = Path(__file__).parent


class Letters:
    """Flags texts in which the share of x is above the threshold."""

    built = 0
    """How often any of them was made: nothing may be built to show a finished run."""

    def __init__(self, info: DetectorInfo, context: DetectorContext) -> None:
        Letters.built += 1
        self.info = info
        self.context = context
        options = context.options.get(info.name)
        given = options if isinstance(options, Mapping) else {}
        self.delay_s = float(str(given.get("delay_s", 0)))
        self.version = str(given.get("version", "1"))
        self.threshold = 0.5 if context.threshold is None else context.threshold

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        return {"version": self.version, "threshold": self.threshold}

    def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
        source = "default" if self.context.threshold is None else "command line"
        provenance = Provenance(
            detector_version=self.version, threshold=self.threshold, threshold_source=source
        )
        for item in items:
            time.sleep(self.delay_s)
            text = item.skill.purpose if item.skill else item.text
            letters = [character for character in text.lower() if character.isalpha()]
            if not letters:
                yield Verdict.abstain(item, self.info.name, provenance, Reason.EMPTY)
                continue
            score = letters.count("x") / len(letters)
            yield Verdict(
                key=item.key,
                detector=self.info.name,
                flagged=score > self.threshold,
                label="many x" if score > self.threshold else "few x",
                score=score,
                category="fraud" if score > self.threshold else None,
                examined=Examined(parts=("text",)),
                provenance=provenance,
            )


def _register(name: str, kinds: frozenset[Kind]) -> None:
    @detector(
        name,
        summary="Share of x",
        kinds=kinds,
        cost=Cost.TEXT_ONLY,
        polarity="flagged = many x",
        threshold_rule="a half",
    )
    def build(context: DetectorContext) -> Letters:
        return Letters(lookup(name).info, context)


_register(NAME, frozenset({Kind.PROMPT}))
_register(OTHER, frozenset({Kind.PROMPT, Kind.SKILL}))


def install(folder: Path) -> dict[str, str]:
    """Make this module a plug-in of its own in a folder; the environment in which a process finds it."""
    info = folder / "letters-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: letters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tocsin]\nletters = letters\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(TESTS)]), "COLUMNS": "100"}


def tocsin(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the command line in a process of its own, in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "tocsin", *words],
        cwd=folder,
        env={**install(folder / ".plugin"), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Started in the background, the tests themselves ignore Ctrl-C, and a child would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
