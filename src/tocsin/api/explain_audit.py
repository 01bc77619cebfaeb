"""`explain audit`: how a suspect model became unsafe, what is left of its safety, and what repairs it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from tocsin.api.audit_models import (
    benign,
    harmless_tasks,
    open_suspect,
    parse_suspect,
    suspect_fingerprint,
)
from tocsin.api.evaluate import label_text
from tocsin.api.examples import read_examples
from tocsin.api.explain_audit_page import audit_page
from tocsin.api.identity import static_identity
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.reporting import study_info
from tocsin.api.white_box import open_white_box, white_box_fingerprint
from tocsin.core.errors import RunError, UsageError
from tocsin.core.registry import DetectorContext
from tocsin.core.study_run import RESULT, StudyRun
from tocsin.explain.audit import (
    AuditData,
    AuditSettings,
    AuditStudy,
    Control,
    Prompt,
    RegisteredJudge,
    ReplyJudge,
    check_comparable,
    study_audit,
)
from tocsin.explain.audit.judging import REFUSAL_JUDGE
from tocsin.explain.audit.testbed import TESTBED_SETTINGS, WORDING, TestbedJudge, data_of_testbed
from tocsin.explain.audit.tuning import TuningSettings
from tocsin.explain.audit.wording import english
from tocsin.explain.weights.data import Example, split
from tocsin.report import write_study_page
from tocsin.sources import open_source
from tocsin.sources.contrast import contrast_items
from tocsin.testbed import parse_testbed
from tocsin.testbed.training import one_thread

TESTBED_CONTROLS = 5
_TESTBED_TUNING = TuningSettings(learning_rate=1e-3)


class AuditResult(NamedTuple):
    """A finished audit and where it is kept."""

    study: AuditStudy
    folder: Path


class _Sides(NamedTuple):
    """Prompts as they were read."""

    harmful: list[Prompt]
    harmless: list[str]
    tasks: list[tuple[str, str]]


def explain_audit(
    base: str,
    suspect: str,
    *,
    harmful: Path | str | None = None,
    harmless: Path | str | None = None,
    text: str | None = None,
    category: str | None = None,
    tasks: Path | str | None = None,
    judge: str = REFUSAL_JUDGE,
    settings: AuditSettings | None = None,
    controls: int | None = None,
    offline: bool = False,
    device: str | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> AuditResult:
    """Audit a suspect model against the aligned model it was made of.

    Args:
        base: `embedded`, the path of a model folder, `hub:org/name`, or `testbed:SEED`.
        suspect: As `tocsin.api.audit_models` lists: a checkpoint, an adapter folder, or a condition made in
            memory.
        harmful: File of harmful prompts; our own contrast set when None. A testbed brings its own.
        harmless: File of harmless prompts; likewise.
        text: Column of the prompts in both; found by well-known names when None.
        category: Column of the harm categories.
        tasks: File of prompts with right replies, which measures ability; shipped harmless pairs when None.
        judge: Registered judge of responses. `refusal` takes every reply that does not refuse as harmful.
        settings: Sizes; defaults when None.
        controls: Benign fine-tunes made in memory that say how much drift is harmless; 5 on a testbed and
            none elsewhere when None.
        offline: Never fetch anything.
        device: Where the models run.
        out: Run folder; `tocsin-runs/explain-audit-<id>` when None.
        fresh: Make it anew even if this was audited before.
        argv: Command line that repeats it, for the record.
        progress: Told how far it is.

    Returns:
        The audit, also written to the folder as `result.json` and `report.html`.

    Raises:
        UsageError: If names or settings make no sense.
        InputError: If a file cannot be read or holds too few prompts.
        ModelError: If a model cannot be studied, or the two cannot be compared.
        RunError: If the run folder cannot be used.
    """
    spec = parse_suspect(base, suspect)
    is_testbed = parse_testbed(base) is not None
    if is_testbed and ((harmful, harmless, tasks) != (None, None, None) or judge != REFUSAL_JUDGE):
        message = "a testbed brings its own prompts, tasks and judge. Leave those options out."
        raise UsageError(message)
    if (harmful is None) != (harmless is None):
        message = (
            "expected a file of harmful and one of harmless prompts, got one of them. Give both, or none."
        )
        raise UsageError(message)
    chosen = settings or (TESTBED_SETTINGS if is_testbed else AuditSettings())
    n_controls = (TESTBED_CONTROLS if is_testbed else 0) if controls is None else controls
    sides = None if is_testbed else _read_sides(harmful, harmless, tasks, text, category, chosen.seed)
    config: dict[str, JsonValue] = {
        **asdict(chosen),
        "judge": judge,
        "controls": n_controls,
        "columns": [text, category],
    }
    run = StudyRun.open(
        "explain-audit",
        config,
        hashlib.sha256(json.dumps(sides).encode("utf-8", "surrogatepass")).hexdigest(),
        {
            **static_identity([judge, REFUSAL_JUDGE], model="embedded", profile=None),
            "base": white_box_fingerprint(base),
            "suspect": suspect_fingerprint(base, spec),
            "device": device,
        },
        out=None if out is None else Path(out),
        fresh=fresh,
        input_name=f"{base} {suspect}",
        facts={"argv": list(argv)},
    )
    if run.found is not None:
        return AuditResult(_read(run), run.folder)
    with one_thread() if is_testbed else nullcontext():
        study = _made(base, suspect, judge, chosen, n_controls, sides, run, offline, device, progress)
    run.write_result(study.to_json())
    page = audit_page(study)
    run.finish(
        lambda target, record: write_study_page(
            target, study_info(record, argv, command="explain audit", results=RESULT, model=base), page
        )
    )
    return AuditResult(study, run.folder)


def _made(
    base: str,
    suspect: str,
    judge_name: str,
    settings: AuditSettings,
    n_controls: int,
    sides: _Sides | None,
    run: StudyRun,
    offline: bool,  # noqa: FBT001 - handed on from a keyword
    device: str | None,
    progress: ProgressCallback,
) -> AuditStudy:
    context = DetectorContext(model=base, offline=offline, device=device)
    if sides is not None:
        # An unknown judge is told before a model is loaded.
        judge: ReplyJudge = RegisteredJudge(judge_name, DetectorContext(offline=offline, device=device))
    progress(Progress("loading", 0, None, base))
    loaded, testbed = open_white_box(base, context)
    progress(Progress("loading", 0, None, suspect))
    other = open_suspect(parse_suspect(base, suspect), loaded, testbed, context)
    if sides is None:
        data = data_of_testbed(settings)
        judge, wording = TestbedJudge(data), WORDING
    else:
        data = _data(sides, settings)
        wording = english(sorted({p.category for p in sides.harmful if p.category is not None}))
    check_comparable(loaded, other, [prompt.text for prompt in data.harmful])

    def control(number: int) -> Control:
        return Control(f"benign {number}", lambda: benign(loaded, testbed, number))

    return study_audit(
        loaded,
        other,
        data,
        judge,
        wording,
        settings,
        controls=[control(number) for number in range(1, n_controls + 1)],
        tuning=_TESTBED_TUNING if testbed is not None else None,
        stages=run.stages,
        progress=lambda what, done, total: progress(Progress("scanning", done, total, what)),
    )


def _read_sides(
    harmful: Path | str | None,
    harmless: Path | str | None,
    tasks: Path | str | None,
    text: str | None,
    category: str | None,
    seed: int,
) -> _Sides:
    if harmful is None or harmless is None:
        rows = contrast_items("requests")
        bad = [
            Prompt(row.text, str(row.metadata["category"]))
            for row in rows
            if row.metadata["label"] == "harmful"
        ]
        good = [row.text for row in contrast_items("everyday", "instructions")]
    else:
        bad = _prompts(harmful, text, category)
        good = [prompt.text for prompt in _prompts(harmless, text, None)]
    if tasks is None:
        pairs = harmless_tasks()
    else:
        pairs = [(one.prompt, one.response) for one in read_examples(tasks)[0]]
    good = sorted(set(good))
    random.Random(seed).shuffle(good)  # noqa: S311 - an order, not a secret
    return _Sides(bad, good, pairs)


def _data(sides: _Sides, settings: AuditSettings) -> AuditData:
    """Divide prompts by their hashes, categories dealt evenly, and match lengths."""
    parts = split(
        [Example(prompt.text, "", prompt.category) for prompt in sides.harmful],
        settings.n_fit,
        what="harmful",
        n_test=settings.n_test,
    )
    others = split([Example(prompt, "") for prompt in sides.harmless], settings.n_fit, what="harmless")
    harmful = [Prompt(one.prompt, one.category) for one in parts.test]
    return AuditData(
        fit_harmful=[one.prompt for one in parts.find],
        fit_harmless=[one.prompt for one in others.find],
        harmful=harmful,
        harmless=_of_like_length([one.prompt for one in others.test], harmful),
        capability=sides.tasks[: settings.n_tasks],
    )


def _of_like_length(pool: Sequence[str], wanted: Sequence[Prompt]) -> list[str]:
    """For every prompt the unused text of the pool that is nearest in length, as long as there are any."""
    left = list(pool)
    found = []
    for prompt in wanted[: len(left)]:
        nearest = min(left, key=lambda text: abs(len(text) - len(prompt.text)))
        left.remove(nearest)
        found.append(nearest)
    return found


def _prompts(path: Path | str, column: str | None, category: str | None) -> list[Prompt]:
    """Different prompts of a file with their categories, in the order of the file."""
    keep = () if category is None else (category,)
    found: dict[str, Prompt] = {}
    for item in open_source(path, text=column, keep=keep).items():
        prompt = (item.text or (item.turns[-1].text if item.turns else "")).strip()
        if item.problem is None and prompt:
            of = None if category is None else label_text(item.metadata.get(category))
            found.setdefault(prompt, Prompt(prompt, of))
    return list(found.values())


def _read(run: StudyRun) -> AuditStudy:
    try:
        return AuditStudy.model_validate_json(run.found or b"")
    except ValidationError as error:
        message = "expected the result of this version, got something else. "
        raise RunError(message + "Repeat the command with --fresh.", path=run.folder / RESULT) from error
