"""Tracing a message log, from Python."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from pydantic import JsonValue

from tocsin.api.identity import code_hash, model_fingerprint
from tocsin.api.panel import Panel
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.trace_page import trace_page
from tocsin.core.records import Item, Kind, Origin
from tocsin.core.registry import DetectorContext
from tocsin.core.run_record import REPORT, installed_versions
from tocsin.core.study_run import RESULT
from tocsin.models.fence import local_secret
from tocsin.report import RunInfo, write_study_page
from tocsin.report.visible import visible
from tocsin.trace.pipeline import Labeller, TraceOptions, TraceResult, run_trace, top_texts
from tocsin.trace.simulate import Simulation, simulate
from tocsin.trace.spread.records import SpreadStudy

__all__ = ["Simulation", "SpreadStudy", "TraceOptions", "TraceResult", "simulate", "trace_log"]

_CHUNK = 64
_LONGEST_TEXT = 500


def trace_log(
    log: Path | str,
    out: Path | str,
    options: TraceOptions | None = None,
    *,
    detector: str | None = None,
    model: str = "embedded",
    offline: bool = False,
    include_text: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> TraceResult:
    """Find the items of a message log, and study how they spread between groups.

    Args:
        log: Message log (docs/trace.md).
        out: Run folder; the same call goes on with a run that was cut short.
        options: Defaults when None.
        detector: Labels items that have no label and reached two groups, from their earliest text.
        model: Model of the detector.
        offline: Never fetch anything.
        include_text: Put the earliest texts of the largest cascades on the page, hidden behind a click.
        argv: Command line that repeats it, for the page.
        progress: Told how far it is.

    Returns:
        The study, also written as `result.json` and `report.html`; `export/` holds tables that may be shared.

    Raises:
        InputError: If the log cannot be used.
        UsageError: If the detector is unknown or its options make no sense.
        RunError: If `out` belongs to another run, or the disk is full.
        MissingExtraError: Without the extra 'trace'.
    """
    log, out = Path(log), Path(out)
    chosen = options or TraceOptions()
    labeller = None
    stamp: list[JsonValue] = [code_hash()]
    if detector is not None:
        chosen = replace(chosen, labeller=f"{detector} with {model}")
        stamp.append(model_fingerprint(model))
        labeller = detector_labels(detector, model, offline=offline)
    if chosen.media is not None:
        files = sorted(path for path in chosen.media.rglob("*") if path.is_file())
        stamp.append([[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files])
    chosen = replace(chosen, stamp=hashlib.sha256(json.dumps(stamp).encode()).hexdigest())
    started = datetime.now(UTC)
    result = run_trace(
        log, out, chosen, labeller=labeller,
        progress=lambda stage: progress(Progress("scanning", 0, None, stage)),
    )  # fmt: skip
    texts = None
    if include_text:
        found = top_texts(out, {one.id for one in result.study.top}, local_secret())
        texts = {key: visible(text, limit=_LONGEST_TEXT) for key, text in found.items()}
    with log.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    versions = installed_versions()
    info = RunInfo(
        command="trace run",
        # Folders tell of the machine and of the case: the page may leave both.
        argv=tuple(Path(word).name if "/" in word else word for word in argv),
        input_name=log.name,
        input_hash=digest,
        model=model if detector is not None else None,
        tool_version=versions.pop("tocsin", "unknown"),
        versions=versions,
        results=RESULT,
        started=started,
        finished=datetime.now(UTC),
    )
    write_study_page(out / REPORT, info, trace_page(result.study, texts))
    return result


def detector_labels(name: str, model: str, *, offline: bool) -> Labeller:
    """Whether texts are flagged by a registered detector; None where it abstains.

    Raises:
        UsageError: If the name is unknown.
    """
    no_file = hashlib.sha256(b"").hexdigest()
    panel = Panel([name], lambda _name: DetectorContext(model=model, offline=offline))

    def label(texts: Iterable[str]) -> Iterator[bool | None]:
        waiting = iter(texts)
        start = 0
        while chunk := list(islice(waiting, _CHUNK)):
            items = [
                Item(
                    origin=Origin(input_hash=no_file, ordinal=start + place),
                    kind=Kind.PROMPT,
                    text=text,
                )
                for place, text in enumerate(chunk)
            ]
            start += len(chunk)
            for verdict in panel.judge(name, items):
                yield verdict.flagged

    return label
