"""`judges agree`: how well annotators agree on harm rankings, and what they say of the models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue, ValidationError

from tocsin.api.agree_page import agreement_page
from tocsin.api.reporting import study_info
from tocsin.core.errors import InputError, RunError, UsageError
from tocsin.core.study_run import RESULT, StudyRun
from tocsin.judges.agreement import Agreement, analyse, chosen, read_rankings
from tocsin.report import write_study_page

N_RESAMPLES = 2_000


class AgreementStudy(NamedTuple):
    """A finished study and where it is kept."""

    agreement: Agreement
    folder: Path


def judge_agreement(
    path: Path | str,
    *,
    reference: str = "human",
    annotators: Sequence[str] = (),
    humans: Sequence[str] = ("human", "expert"),
    known_items: Path | str | None = None,
    skip_bad: bool = False,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
) -> AgreementStudy:
    """Measure how well annotators agree, relative to people, and compare the models that they ranked.

    Args:
        path: A file or folder of rankings; see `tocsin.judges.agreement.read_rankings` for the layouts.
        reference: Annotator that the others are measured against.
        annotators: Which take part beside the reference; all when empty.
        humans: Which annotators are people; the reference's agreement with the others of them is the ceiling.
        known_items: File with one item id a line; a ranking of any other item is an error.
        skip_bad: Leave bad rankings of a long file out and count them, instead of refusing the file.
        n_resamples: Resamples of items behind intervals, and permutations of the position test; at least
            1,000.
        seed: Of both.
        out: Run folder; `tocsin-runs/agree-<id>` when None.
        fresh: Make it anew even if this was measured before.
        argv: Command line that repeats it, for the record.

    Returns:
        The study, also written to the folder as `result.json` and `report.html`.

    Raises:
        UsageError: If an annotator is unknown, or there are too few resamples.
        InputError: If the rankings cannot be read; `RankingError` names the items of bad ones.
        RunError: If the run folder cannot be used.
    """
    if n_resamples < 1_000:
        message = f"expected at least 1,000 resamples, got {n_resamples}. Fewer give unstable intervals."
        raise UsageError(message)
    source = Path(path)
    items = None if known_items is None else _ids(Path(known_items))
    config: dict[str, JsonValue] = {
        "reference": reference,
        "annotators": list(annotators),
        "humans": list(humans),
        "known_items": None if items is None else hashlib.sha256("\n".join(items).encode()).hexdigest(),
        "skip_bad": skip_bad,
        "n_resamples": n_resamples,
        "seed": seed,
    }
    # Before a folder is made, so that a mistake leaves none behind.
    rankings = read_rankings(source, humans=humans, known_items=items, skip_bad=skip_bad)
    chosen(rankings, reference, annotators)
    run = StudyRun.open(
        "agree",
        config,
        _hash(source),
        {"tocsin": version("tocsin")},
        out=None if out is None else Path(out),
        fresh=fresh,
        input_name=str(path),
        facts={"argv": list(argv)},
    )
    if run.found is not None:
        try:
            return AgreementStudy(Agreement.model_validate_json(run.found), run.folder)
        except ValidationError as error:
            message = "expected the result of this version, got something else. "
            raise RunError(message + "Repeat the command with --fresh.", path=run.folder / RESULT) from error
    found = analyse(
        rankings, reference=reference, annotators=annotators, n_resamples=n_resamples, seed=seed
    ).model_copy(update={"settings": config})
    run.write_result(found.to_json())
    page = agreement_page(found)
    run.finish(
        lambda target, record: write_study_page(
            target, study_info(record, argv, command="judges agree", results=RESULT), page
        )
    )
    return AgreementStudy(found, run.folder)


def _ids(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = "expected a text file with one item id a line, got one that cannot be read. Check the path."
        raise InputError(message, path=path) from error
    return sorted({line.strip() for line in lines if line.strip()})


def _hash(path: Path) -> str:
    """Over the file, or over names and content of the CSV files of a folder."""
    hasher = hashlib.sha256()
    try:
        if not path.is_dir():
            return hashlib.sha256(path.read_bytes()).hexdigest()
        for file in sorted(path.rglob("*.csv")):
            hasher.update(f"{file.relative_to(path).as_posix()}\0".encode())
            hasher.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        message = f"expected rankings that can be read, got: {(error.strerror or 'an error').lower()}. "
        raise InputError(message + "Check the path.", path=path) from error
    return hasher.hexdigest()
