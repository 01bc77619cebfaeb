"""`explain weights`: which few weights write harmful responses, and what else they do."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from tocsin.api.examples import read_examples
from tocsin.api.explain_weights_page import weights_page
from tocsin.api.identity import code_hash, model_fingerprint
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.reporting import study_info
from tocsin.core.errors import RunError, UsageError
from tocsin.core.registry import DetectorContext
from tocsin.core.study_run import RESULT, StudyRun
from tocsin.explain.weights import Example, Found, WeightData, WeightSettings, WeightStudy, study_weights
from tocsin.internals.weight_mask import save_mask
from tocsin.models.white_box import load_white_box
from tocsin.report import write_study_page

MASK = "harm-mask.safetensors"


class WeightsResult(NamedTuple):
    """A finished study, where it is kept, and the file of its mask where one was asked for."""

    study: WeightStudy
    folder: Path
    mask: Path | None


def explain_weights(
    harm: Path | str | None = None,
    benign: Path | str | None = None,
    refusal: Path | str | None = None,
    *,
    model: str = "embedded",
    settings: WeightSettings | None = None,
    prompt: str | None = None,
    harm_response: str | None = None,
    benign_response: str | None = None,
    refusal_response: str | None = None,
    category: str | None = None,
    max_words: int = 60,
    save: Path | str | None = None,
    offline: bool = False,
    device: str | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> WeightsResult:
    """Find the weights that a model needs for harmful responses, and measure what their removal does.

    Args:
        harm: File with harmful prompts and harmful responses, or their openers.
        benign: File with harmless prompts and good responses.
        refusal: File with harmful prompts and refusals; None leaves refusal out.
        model: `embedded`, the path of a model folder, or `hub:org/name`.
        settings: Sizes and choices; published ones when None.
        prompt: Column of the prompts of all files; found by well-known names when None.
        harm_response: Column of the harmful responses.
        benign_response: Column of the good responses.
        refusal_response: Column of the refusals.
        category: Column of the harm categories; with it, transfer between categories is studied.
        max_words: Longer responses are cut.
        save: Write the mask here, as safetensors. It names positions only.
        offline: Never fetch anything.
        device: Where the model runs.
        out: Run folder; `tocsin-runs/explain-weights-<id>` when None.
        fresh: Make it anew even if this was studied before.
        argv: Command line that repeats it, for the record.
        progress: Told how far it is.

    Returns:
        The study, also written to the folder as `result.json` and `report.html`.

    Raises:
        UsageError: If settings make no sense, or a file is missing.
        InputError: If a file cannot be read or holds too few samples.
        ModelError: If the model cannot be studied.
        RunError: If the run folder cannot be used.
    """
    chosen = settings or WeightSettings()
    if harm is None or benign is None:
        message = "expected a file of harmful and one of harmless responses. Give --harm and --benign."
        raise UsageError(message)
    if chosen.test_refusal_mask:
        message = "weights that refuse are looked for on the testbed only. Leave test_refusal_mask out."
        raise UsageError(message)
    sides: list[list[Example]] = []
    hashes: list[str] = []
    for path, response in ((harm, harm_response), (benign, benign_response), (refusal, refusal_response)):
        if path is None:
            sides.append([])
            continue
        column = category if path == harm else None
        examples, digest = read_examples(
            path, prompt=prompt, response=response, category=column, max_words=max_words
        )
        sides.append(examples)
        hashes.append(digest)
    config: dict[str, JsonValue] = {
        **asdict(chosen),
        "columns": [prompt, harm_response, benign_response, refusal_response, category],
        "max_words": max_words,
    }
    run = StudyRun.open(
        "explain-weights",
        config,
        hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        {"code": code_hash(), "model": model_fingerprint(model), "device": device},
        out=None if out is None else Path(out),
        fresh=fresh,
        input_name=" ".join(str(path) for path in (harm, benign, refusal) if path is not None),
        facts={"argv": list(argv)},
    )
    if run.found is not None and save is None:
        return WeightsResult(_read(run), run.folder, None)
    progress(Progress("loading", 0, None, model))
    loaded = load_white_box(model, DetectorContext(model=model, offline=offline, device=device))
    found = study_weights(
        loaded,
        WeightData(*sides),
        chosen,
        stages=run.stages,
        progress=lambda what, done, total: progress(Progress("scanning", done, total, what)),
    )
    mask = None if save is None else _save(Path(save), found, run.folder)
    write_study(run, found.study, argv)
    return WeightsResult(found.study, run.folder, mask)


def write_study(run: StudyRun, study: WeightStudy, argv: Sequence[str]) -> None:
    """Write result and page, and mark the run as finished."""
    run.write_result(study.to_json())
    page = weights_page(study)
    run.finish(
        lambda target, record: write_study_page(
            target, study_info(record, argv, command="explain weights", results=RESULT), page
        )
    )


def _read(run: StudyRun) -> WeightStudy:
    try:
        return WeightStudy.model_validate_json(run.found or b"")
    except ValidationError as error:
        message = "expected the result of this version, got something else. "
        raise RunError(message + "Repeat the command with --fresh.", path=run.folder / RESULT) from error


def _save(path: Path, found: Found, folder: Path) -> Path:
    target = path / MASK if path.is_dir() else path
    save_mask(
        target,
        found.mask,
        model=found.study.model,
        revision=found.study.revision,
        made_by=f"tocsin explain weights, {folder.name}",
    )
    return target
