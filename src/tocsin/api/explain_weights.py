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
from tocsin.api.identity import code_hash
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.reporting import study_info
from tocsin.api.white_box import open_white_box, white_box_fingerprint
from tocsin.core.errors import RunError, UsageError
from tocsin.core.registry import DetectorContext
from tocsin.core.study_run import RESULT, StudyRun
from tocsin.explain.weights import Example, Found, WeightData, WeightSettings, WeightStudy, study_weights
from tocsin.explain.weights.data import check_data
from tocsin.internals.weight_mask import save_mask
from tocsin.report import write_study_page
from tocsin.testbed import Kind, examples, parse_testbed

_TESTBED_SAMPLES = 201
MASK = "harm-mask.safetensors"
TESTBED_SETTINGS = WeightSettings(q=0.02, p=0.2, template="chat", given=1, test_refusal_mask=True)
"""A testbed has a thousandth of a usual model's weights, and resists with its first token alone."""


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
        model: `embedded`, the path of a model folder, `hub:org/name`, or `testbed`, `testbed:SEED`, which
            brings its own samples.
        settings: Sizes and choices; published ones when None, and `TESTBED_SETTINGS` for a testbed.
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
    is_testbed = parse_testbed(model) is not None
    chosen = settings or (TESTBED_SETTINGS if is_testbed else WeightSettings())
    sides: list[list[Example]] = []
    hashes: list[str] = []
    if is_testbed and (harm, benign, refusal) != (None, None, None):
        message = "a testbed brings its own samples. Leave --harm, --benign and --refusal out."
        raise UsageError(message)
    if not is_testbed and (harm is None or benign is None):
        message = "expected a file of harmful and one of harmless responses. Give --harm and --benign."
        raise UsageError(message)
    for path, response in ((harm, harm_response), (benign, benign_response), (refusal, refusal_response)):
        if path is None:
            sides.append([])
            continue
        column = category if path == harm else None
        found_here, digest = read_examples(
            path, prompt=prompt, response=response, category=column, max_words=max_words
        )
        sides.append(found_here)
        hashes.append(digest)
    if not is_testbed:
        check_data(WeightData(*sides))  # before a model is loaded
    config: dict[str, JsonValue] = {
        **asdict(chosen),
        "columns": [prompt, harm_response, benign_response, refusal_response, category],
        "max_words": max_words,
    }
    run = StudyRun.open(
        "explain-weights",
        config,
        hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
        {"code": code_hash(), "model": white_box_fingerprint(model), "device": device},
        out=None if out is None else Path(out),
        fresh=fresh,
        input_name=" ".join(str(path) for path in (harm, benign, refusal) if path is not None) or model,
        facts={"argv": list(argv)},
    )
    if run.found is not None and save is None:
        return WeightsResult(_read(run), run.folder, None)
    progress(Progress("loading", 0, None, model))
    context = DetectorContext(model=model, offline=offline, device=device)
    loaded, testbed = open_white_box(model, context)
    found = study_weights(
        loaded,
        WeightData(*sides) if testbed is None else testbed_data(),
        chosen,
        stages=run.stages,
        progress=lambda what, done, total: progress(Progress("scanning", done, total, what)),
    )
    mask = None if save is None else _save(Path(save), found, run.folder)
    write_study(run, found.study, argv)
    return WeightsResult(found.study, run.folder, mask)


def testbed_data() -> WeightData:
    """A testbed's own samples: answers to marked requests, benign tasks, and refusals of marked requests.

    They are the same for every trained testbed, since all speak one language.
    """
    marked = examples("marked", _TESTBED_SAMPLES, split="train", seed=1)
    kinds: tuple[Kind, ...] = ("plain", "copy", "reverse")
    return WeightData(
        [Example(each.prompt, each.helpful, each.topic) for each in marked],
        [
            Example(each.prompt, each.reply)
            for kind in kinds
            for each in examples(kind, _TESTBED_SAMPLES // len(kinds), split="train", seed=1)
        ],
        [Example(each.prompt, each.reply, each.topic) for each in marked],
    )


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
