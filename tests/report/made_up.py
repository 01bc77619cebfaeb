"""Made-up runs with neutral text, for the tests of reports and for looking at pages."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pydantic import JsonValue

from tocsin.core.records import (
    Abstention,
    Evidence,
    Examined,
    Finding,
    Kind,
    Origin,
    Provenance,
    Reason,
    Verdict,
)
from tocsin.report import DetectorNote, Measured, ReportRow, RunInfo, Setting

INPUT_HASH = "3f" * 32
STARTED = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
HOSTILE = "<img src=x onerror=\"document.title='owned'\">'\u202egnp\x1b[31m\u200b"
"""Tries markup, an attribute break, a bidirectional override, a terminal escape and a hidden space."""
CATEGORIES = ("fraud", "cyberattack", "privacy", "drugs", "legal-advice", "surveillance")


def provenance(threshold: float = 0.6, **changes: JsonValue) -> Provenance:
    values: dict[str, JsonValue] = {
        "detector_version": "1.0",
        "model": "embedded:smollm2-135m@0123456789abcdef",
        "profile": "ab" * 8,
        "template_hash": "cd" * 8,
        "normalisation": ["strip", "no final punctuation"],
        "threshold": threshold,
        "threshold_source": "profile",
        "seed": 0,
        **changes,
    }
    return Provenance.model_validate(values)


PROVENANCE = provenance()


def run(**changes: object) -> RunInfo:
    values: dict[str, object] = {
        "command": "scan",
        "argv": ("tocsin", "scan", "examples/prompts and skills", "--detector", "harmfulness"),
        "input_name": "examples/prompts and skills",
        "input_hash": INPUT_HASH,
        "model": "embedded",
        "tool_version": "0.1.0",
        "versions": {"python": "3.11.2", "numpy": "2.1.0", "tokenizers": "0.21.0"},
        "settings": (
            Setting(name="detector", value=["harmfulness"], source="command line"),
            Setting(name="max-abstain", value=0),
            Setting(name="include-text", value=False, source="tocsin.toml"),
        ),
        "detectors": (
            DetectorNote(
                name="harmfulness",
                summary="A linear head on activations of the embedded model.",
                polarity="The model represents the text as a request for something harmful.",
                threshold_rule="Flagged when the score is at or above the threshold.",
                card="Latent Guard, arXiv 2507.11878",
            ),
        ),
        "measured": (
            Measured(
                detector="harmfulness",
                measure="harmless flagged",
                data="set A",
                value=0.04,
                low=0.025,
                high=0.062,
                n=500,
            ),
            Measured(
                detector="harmfulness",
                measure="harmful caught",
                data="set B",
                value=0.84,
                low=0.76,
                high=0.9,
                n=103,
            ),
        ),
        "started": STARTED,
        "finished": STARTED + timedelta(seconds=12.34),
        **changes,
    }
    return RunInfo.model_validate(values)


def row(
    ordinal: int = 0,
    score: float | None = 0.9,
    *,
    path: str = "prompts.jsonl",
    line: int | None = None,
    category: str | None = "fraud",
    detector: str = "harmfulness",
    reason: Reason | None = None,
    left_out: tuple[str, ...] = (),
    partial: tuple[str, ...] = (),
    findings: tuple[Finding, ...] = (),
    evidence: tuple[Evidence, ...] = (Evidence(part="text", start=4, end=20),),
    rationale: str = "",
    known: bool = False,
    known_rules: frozenset[str] = frozenset(),
    text: dict[str, str] | None = None,
    extra: dict[str, JsonValue] | None = None,
    kind: Kind = Kind.PROMPT,
    made_with: Provenance = PROVENANCE,
) -> ReportRow:
    """One row; flagged when the score reaches 0.6, abstained when a reason is given."""
    origin = Origin(
        input_hash=INPUT_HASH, ordinal=ordinal, path=path, line=ordinal + 1 if line is None else line
    )
    flagged = None if reason else score is not None and score >= 0.6
    verdict = Verdict(
        key=origin.key,
        detector=detector,
        flagged=flagged,
        label="abstained" if reason else "harmful" if flagged else "harmless",
        score=None if reason else score,
        raw_score=None if reason or score is None else 8 * score - 4,
        category=category if flagged else None,
        evidence=evidence if flagged else (),
        rationale=rationale,
        examined=Examined(parts=("text",), left_out=left_out),
        abstained=Abstention(reason=reason, detail="3 of 4 characters") if reason else None,
        extra=extra or {},
        provenance=made_with,
    )
    return ReportRow(
        verdict=verdict,
        origin=origin,
        kind=kind,
        content_hash=f"{ordinal:064x}",
        findings=findings,
        partial=partial,
        known=known,
        known_rules=known_rules,
        text=text,
    )


def rows(count: int, seed: int = 0, *, with_text: bool = False, planes: bool = False) -> Iterator[ReportRow]:
    """A varied stream: about 6 % flagged, some abstentions, partial readings and format findings."""
    rng = random.Random(seed)
    for i in range(count):
        score = min(max(rng.betavariate(1.3, 6), 0.001), 0.999)
        if rng.random() < 0.05:
            score = rng.uniform(0.6, 0.999)
        dice = rng.random()
        reason = Reason.LANGUAGE if dice < 0.02 else Reason.CODE if dice < 0.03 else None
        is_skill = rng.random() < 0.2
        path = f"skills/skill-{i:05d}/SKILL.md" if is_skill else "lists/prompts.jsonl"
        findings = (
            (
                Finding(
                    rule="skill/name-missing", message="expected a name in the front matter, got none", line=2
                ),
            )
            if is_skill and rng.random() < 0.1
            else ()
        )
        extra: dict[str, JsonValue] = {}
        if planes:
            extra = {
                "theta": 1.2 + rng.gauss(0.5 if score >= 0.6 else 0, 0.12),
                "phi": rng.uniform(-3.14, 3.14),
                "harmfulness_belief": score * 2 - 1 + rng.gauss(0, 0.1),
                "refusal_belief": score - 0.5 + rng.gauss(0, 0.2),
            }
        body = f"Placeholder sentence number {i}, which says nothing. " * 3
        yield row(
            i,
            score,
            path=path,
            category=rng.choice(CATEGORIES),
            reason=reason,
            left_out=(f"{rng.randrange(2, 9)} windows after the first 64",) if dice > 0.985 else (),
            findings=findings,
            rationale="Closest to the centre of this category." if rng.random() < 0.7 else "",
            kind=Kind.SKILL if is_skill else Kind.PROMPT,
            text={"text": body} if with_text else None,
            extra=extra,
        )


def hostile_rows() -> Iterator[ReportRow]:
    """Every field that comes from outside carries the hostile name."""
    finding = Finding(rule=HOSTILE, message=HOSTILE, line=3)
    evidence = (Evidence(part=HOSTILE, start=0, end=5),)
    made_with = provenance(model=HOSTILE, normalisation=[HOSTILE], settings={HOSTILE: HOSTILE})
    for i in range(3):
        yield row(
            i,
            0.95 - i / 10,
            path=HOSTILE,
            category=HOSTILE,
            detector=HOSTILE,
            evidence=evidence,
            findings=(finding,),
            rationale=HOSTILE,
            partial=(HOSTILE,),
            left_out=(HOSTILE,),
            text={HOSTILE: f"before {HOSTILE} </pre></details><script>document.title='owned'</script>"},
            made_with=made_with,
            extra={"theta": 1.0 + i, "phi": 0.5},
        )
    yield row(3, path="\udcff\ud800", detector=HOSTILE, reason=Reason.EMPTY, made_with=made_with)


def hostile_run() -> RunInfo:
    return run(
        input_name=HOSTILE,
        argv=("tocsin", "scan", HOSTILE),
        model=HOSTILE,
        versions={HOSTILE: HOSTILE},
        settings=(Setting(name=HOSTILE, value=HOSTILE, source=HOSTILE),),
        detectors=(
            DetectorNote(
                name=HOSTILE, summary=HOSTILE, polarity=HOSTILE, threshold_rule=HOSTILE, card=HOSTILE
            ),
        ),
        measured=(
            Measured(detector=HOSTILE, measure=HOSTILE, data=HOSTILE, value=0.5, low=0.4, high=0.6, n=9),
        ),
        limits=(HOSTILE,),
        baseline=HOSTILE,
        results=HOSTILE,
    )
