"""`explain mediation`: through which parts of a model harmful prompts act on its reply."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from tocsin.api.evaluate import label_text
from tocsin.api.explain_mediation_page import mediation_page
from tocsin.api.identity import static_identity
from tocsin.api.panel import Panel
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.reporting import study_info
from tocsin.api.white_box import open_white_box, white_box_fingerprint
from tocsin.core.errors import InputError, RunError, UsageError
from tocsin.core.records import Item, Kind, Origin
from tocsin.core.registry import DetectorContext
from tocsin.core.study_run import RESULT, StudyRun
from tocsin.explain.mediation import MediationSettings, MediationStudy, PromptPair, study_mediation
from tocsin.report import write_study_page
from tocsin.sources import open_source
from tocsin.sources.contrast import contrast_items
from tocsin.testbed import COMPLIANCE_OPENER, REFUSAL_OPENER, examples, parse_testbed

N_TESTBED = 200
"""Prompts that a testbed offers; `MediationSettings.n_pairs` takes the first of them."""
TESTBED_SETTINGS = MediationSettings(compliant=(COMPLIANCE_OPENER,), refusing=(REFUSAL_OPENER,))


class MediationResult(NamedTuple):
    """A finished study, and where it is kept."""

    study: MediationStudy
    folder: Path


def explain_mediation(
    harmful: Path | str | None = None,
    harmless: Path | str | None = None,
    *,
    model: str = "embedded",
    settings: MediationSettings | None = None,
    prompt: str | None = None,
    harmless_prompt: str | None = None,
    pair: str | None = None,
    judge: str | None = None,
    judge_model: str = "embedded",
    offline: bool = False,
    device: str | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> MediationResult:
    """Measure indirect, direct and total effects of harmful prompts through a model's components.

    Args:
        harmful: File of harmful prompts. Without files the package's own matched pairs are used.
        harmless: File of harmless prompts, paired with the harmful ones in their order.
        model: `embedded`, the path of a model folder, `hub:org/name`, or `testbed`, `testbed:SEED` or
            `planted:SEED`, which bring their own prompts.
        settings: Defaults when None, and `TESTBED_SETTINGS` for a testbed.
        prompt: Column of the harmful prompts; found by well-known names when None.
        harmless_prompt: Column of the harmless prompts.
        pair: Column of both files that names the pair, instead of the order.
        judge: Detector that judges replies, for the outcome `judge`.
        judge_model: Model of the judge, where it needs one.
        offline: Never fetch anything.
        device: Where the model runs.
        out: Run folder; `tocsin-runs/explain-mediation-<id>` when None.
        fresh: Make it anew even if this was studied before.
        argv: Command line that repeats it, for the record.
        progress: Told how far it is.

    Returns:
        The study, also written to the folder as `result.json` and `report.html`.

    Raises:
        UsageError: If settings or files do not fit together.
        InputError: If a file cannot be read, a side is empty, or the prompts have no effect on the outcome.
        ModelError: If the model cannot be studied.
        RunError: If the run folder cannot be used.
    """
    is_testbed = parse_testbed(model) is not None
    chosen = settings or (TESTBED_SETTINGS if is_testbed else MediationSettings())
    if (judge is None) != (chosen.outcome != "judge"):
        message = "expected a judge exactly where the outcome is 'judge'. Give --outcome judge --judge NAME."
        raise UsageError(message)
    if is_testbed and (harmful, harmless) != (None, None):
        message = "a testbed brings its own prompts. Leave --harmful and --harmless out."
        raise UsageError(message)
    alone: tuple[str, ...] = ()
    if is_testbed:
        pairs, digest = testbed_pairs()
    else:
        pairs, digest, alone = read_pairs(
            harmful, harmless, prompt=prompt, harmless_prompt=harmless_prompt, pair=pair
        )
    config: dict[str, JsonValue] = {
        **chosen.to_json(),
        "columns": [prompt, harmless_prompt, pair],
        "judge": judge,
        "judge_model": judge_model if judge else None,
    }
    run = StudyRun.open(
        "explain-mediation",
        config,
        digest,
        {
            **static_identity([judge] if judge else [], model=judge_model, profile=None),
            "studied": white_box_fingerprint(model),
            "device": device,
        },
        out=None if out is None else Path(out),
        fresh=fresh,
        input_name=" ".join(str(path) for path in (harmful, harmless) if path is not None)
        or (model if is_testbed else "own pairs"),
        facts={"argv": list(argv)},
    )
    if run.found is not None:
        return MediationResult(_read(run), run.folder)
    progress(Progress("loading", 0, None, model))
    loaded, _ = open_white_box(model, DetectorContext(model=model, offline=offline, device=device))
    study = study_mediation(
        loaded,
        pairs,
        chosen,
        judge=None if judge is None else _judge(judge, judge_model, offline=offline),
        stages=run.stages,
        progress=lambda what, done, total: progress(Progress("scanning", done, total, what)),
    )
    study = study.model_copy(update={"notes": (*alone, *study.notes)})
    run.write_result(study.to_json())
    page = mediation_page(study)
    run.finish(
        lambda target, record: write_study_page(
            target, study_info(record, argv, command="explain mediation", results=RESULT), page
        )
    )
    return MediationResult(study, run.folder)


def testbed_pairs() -> tuple[list[PromptPair], str]:
    """A testbed's own prompts: requests for marked things, each with the same request for a plain thing.

    They are the same for every testbed, since all speak one language.
    """
    marked = examples("marked", N_TESTBED, split="eval")
    pairs = [PromptPair(e.prompt, e.prompt.replace(f"-{e.topic}", "-cup")) for e in marked]
    return pairs, hashlib.sha256(repr(pairs).encode()).hexdigest()


def read_pairs(
    harmful: Path | str | None,
    harmless: Path | str | None,
    *,
    prompt: str | None = None,
    harmless_prompt: str | None = None,
    pair: str | None = None,
) -> tuple[list[PromptPair], str, tuple[str, ...]]:
    """Pairs of prompts, the hash of their source, and what is to be said of prompts without a partner.

    Args:
        harmful: File of harmful prompts; the package's own pairs when both files are None.
        harmless: File of harmless prompts.
        prompt: Column of the harmful prompts; found by well-known names when None.
        harmless_prompt: Column of the harmless prompts.
        pair: Column of both files that names the pair; pairs by order when None, the longer file cut.

    Raises:
        UsageError: If one file is given without the other.
        InputError: If a file cannot be read, or nothing is paired.
    """
    if harmful is None and harmless is None:
        return *own_pairs(), ()
    if harmful is None or harmless is None:
        message = (
            "expected a file of harmful and one of harmless prompts, got one of them. Give both, or none."
        )
        raise UsageError(message)
    sides, hashes = [], []
    for path, column in ((harmful, prompt), (harmless, harmless_prompt)):
        rows, digest = _prompts(path, column, pair)
        sides.append(rows)
        hashes.append(digest)
    joined = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    if pair is None:
        # The longer file is cut: taking the first rows of a large set is what people want.
        ordered = [PromptPair(a, b) for (_, a), (_, b) in zip(*sides, strict=False)]
        return ordered, joined, _alone(sides, len(ordered), len(ordered))
    by_name = dict(reversed(sides[1]))
    found = [PromptPair(text, by_name[name]) for name, text in sides[0] if name in by_name]
    if not found:
        message = f"the column '{pair}' has no value that both files share, so nothing is paired."
        raise InputError(message + " Name another column, or leave --pair out to pair by order.")
    return found, joined, _alone(sides, len(found), len(by_name.keys() & {name for name, _ in sides[0]}))


def _alone(sides: Sequence[Sequence[object]], harmful: int, harmless: int) -> tuple[str, ...]:
    """A note on prompts that belong to no pair, where there are any."""
    lost = len(sides[0]) - harmful, len(sides[1]) - harmless
    if not any(lost):
        return ()
    return (f"{lost[0]} harmful and {lost[1]} harmless prompts have no partner and were not used.",)


def _prompts(path: Path | str, column: str | None, pair: str | None) -> tuple[list[tuple[str, str]], str]:
    """Prompts of a file with the names of their pairs, and the file's hash."""
    source = open_source(path, text=column, keep=() if pair is None else (pair,))
    found = []
    for item in source.items():
        if item.problem is not None or not item.text.strip():
            message = "expected a prompt, got none that can be read. Name its column, or mend the row."
            raise InputError(message, path=path, line=item.origin.line)
        name = "" if pair is None else label_text(item.metadata.get(pair))
        if name is None:
            message = f"expected the name of a pair in the column '{pair}', got none."
            raise InputError(message, path=path, line=item.origin.line)
        found.append((name, item.text))
    if not found:
        message = "expected prompts, got none. Give a file with at least 10 rows."
        raise InputError(message, path=path)
    return found, source.input_hash


def own_pairs() -> tuple[list[PromptPair], str]:
    """The package's matched requests, in an order that mixes their categories."""
    sides: dict[str, dict[str, str]] = {}
    for item in contrast_items("requests"):
        sides.setdefault(str(item.metadata["pair"]), {})[str(item.metadata["label"])] = item.text
    pairs = [PromptPair(two["harmful"], two["harmless"]) for two in sides.values() if len(two) == 2]
    pairs.sort(key=lambda each: hashlib.sha256(each.harmful.encode()).hexdigest())
    text = "\n".join(f"{each.harmful}\t{each.harmless}" for each in pairs)
    return pairs, hashlib.sha256(text.encode()).hexdigest()


def _judge(name: str, model: str, *, offline: bool) -> Callable[[str, Sequence[str]], list[float]]:
    """Scores of replies by a registered detector; NaN where it abstains."""
    panel = Panel([name], lambda _name: DetectorContext(model=model, offline=offline))

    def scores(request: str, replies: Sequence[str]) -> list[float]:
        items = [
            Item(kind=Kind.RESPONSE, text=reply, prompt=request, origin=Origin(input_hash="reply", ordinal=i))
            for i, reply in enumerate(replies)
        ]
        return [
            math.nan if verdict.abstained is not None or verdict.score is None else verdict.score
            for verdict in panel.judge(name, items)
        ]

    return scores


def _read(run: StudyRun) -> MediationStudy:
    try:
        return MediationStudy.model_validate_json(run.found or b"")
    except ValidationError as error:
        message = "expected the result of this version, got something else. "
        raise RunError(message + "Repeat the command with --fresh.", path=run.folder / RESULT) from error
