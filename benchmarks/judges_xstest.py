"""How judges of responses agree with people on XSTest's completions (half A; docs/data.md).

People said whether a completion refuses in full, in part or not at all; here any refusal stands against none.
All 415 completions of unsafe prompts refuse, since complying ones are not in the file: their agreement is a
recall. Judges of refusal answer the question that people were asked. Judges of harm answer another one, and
as no completion here is harmful, each of their flags is a false alarm. Metrics against a reference do not
apply: there is none.

Nothing is fitted or chosen on these rows: judges keep their own thresholds, and a higher score counts for an
answer (for a refusal, where the judge says so) whatever fits better. An abstention counts as wrong in the
agreement, and is left out of kappa and AUROC, whose coverage stands beside them. Intervals are clustered by
prompt. Judges that ask the embedded model write, which is slow, so that they are run on the completions of
some prompts, drawn with seed 0.

    python benchmarks/judges_xstest.py
    python benchmarks/judges_xstest.py --sample
    python benchmarks/judges_xstest.py --judges harmfulness biopsy latent-guard policy-embedded --small
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import Json, needed_data_folder, rate_json, result_name, write_result
from pydantic import JsonValue

from tocsin.core.records import Item, Kind, Origin, Verdict
from tocsin.core.registry import DetectorContext, create, detectors, lookup
from tocsin.core.stats import Rate, auroc_interval, bootstrap_interval, wilson_clustered
from tocsin.core.stats.agreement import kappa_of
from tocsin.judges.lexical import METRICS

FILE = "xstest_a/completions_human_labelled.jsonl"
REFUSAL = ("refusal", "refusal-words", "gcg-eval", "autodan-eval", "words", "characters")
ASKED = ("harmjudge-heads", "jailbreakbench", "dan-eval")
"""Judges that ask the embedded model, on a sample."""
REPLY_TOKENS = 6
"""Longest reply: their answer is its first word, and writing is greedy."""
SAMPLE_PROMPTS = 8
NO_REFERENCE = (*METRICS, "embedding-cosine", "bertscore")
PARTS = ("all", "safe", "unsafe")

Rows = list[dict[str, str]]


def main() -> None:
    """Measure and write `benchmarks/results/judges_xstest.json`, or `judges_xstest_sample.json`."""
    parser = argparse.ArgumentParser(description="Agreement of judges of responses with people.")
    parser.add_argument("--judges", nargs="+", help="other judges than the usual ones")
    parser.add_argument(
        "--log", type=Path, help="what a stopped run of the same rows printed: not done again"
    )
    parser.add_argument("--sample", action="store_true", help="judges that ask the embedded model")
    parser.add_argument("--prompts", type=int, default=SAMPLE_PROMPTS, help="prompts of the sample")
    parser.add_argument("--small", action="store_true", help="a trial with few rows")
    asked = parser.parse_args()
    text = (needed_data_folder() / FILE).read_text("utf-8")
    rows: Rows = [json.loads(line) for line in text.splitlines()][: 60 if asked.small else None]
    usual = list(REFUSAL)
    if asked.sample:
        rows = sampled(rows, 3 if asked.small else asked.prompts)
        usual = [*ASKED, "refusal-words", "words"]
    done = printed(asked.log, len(rows))
    known = {info.name for info in detectors()}
    prompts: list[JsonValue] = [*sorted({row["prompt_id"] for row in rows})]
    unfit: list[JsonValue] = [*sorted(known.intersection(NO_REFERENCE))]
    figures: Json = {
        "n": len(rows),
        "prompts": prompts if asked.sample else len(prompts),
        "judges": {name: done.get(name) or measured(name, rows) for name in asked.judges or usual},
        "the prompt's own label": agreements(rows, [row["prompt_label"] == "unsafe" for row in rows]),
        "not applicable": unfit,
    }
    name = "judges_xstest_sample" if asked.sample else "judges_xstest"
    write_result(result_name(name, small=asked.small), figures)


def printed(log: Path | None, n: int) -> dict[str, Json]:
    """Figures of judges that an earlier run finished, by name."""
    lines = log.read_text("utf-8").splitlines() if log is not None else []
    parts = [line.partition(" {") for line in lines]
    found = {name: json.loads("{" + rest) for name, brace, rest in parts if brace}
    return {name: figures for name, figures in found.items() if figures["all"]["n"] == n}


def sampled(rows: Rows, n_prompts: int) -> Rows:
    """All completions of some prompts."""
    prompts = sorted({row["prompt_id"] for row in rows})
    generator = np.random.default_rng(0)
    chosen = {prompts[i] for i in generator.permutation(len(prompts))[:n_prompts]}
    return [row for row in rows if row["prompt_id"] in chosen]


def measured(name: str, rows: Rows) -> Json:
    """Figures of one judge."""
    items = [
        Item(
            kind=Kind.RESPONSE,
            text=row["completion"],
            prompt=row["prompt"],
            origin=Origin(input_hash="0" * 64, ordinal=i),
        )
        for i, row in enumerate(rows)
    ]
    options: dict[str, JsonValue] = {name: {"max_tokens": REPLY_TOKENS}} if name in ASKED else {}
    context = DetectorContext(offline=True, options=options)
    verdicts = list(create(name, context).detect(items))
    opposes = lookup(name).info.opposes_harm
    said = [None if v.flagged is None else v.flagged is opposes for v in verdicts]
    reasons = Counter(v.abstained.reason.value for v in verdicts if v.abstained is not None)
    figures: Json = {
        "question": "refusal" if name in REFUSAL or name == "dan-eval" else "harm",
        "scored": sum(each is not None for each in said) / len(said),
        "abstained": dict(reasons),
        **agreements(rows, said),
        "says refusal": sum(each is True for each in said),
        "model": verdicts[0].provenance.model,
        "profile": verdicts[0].provenance.profile,
    }
    for part in PARTS:
        ranked = ranks(rows, verdicts, chosen_rows(rows, part), opposes=opposes)
        of_part = figures[part]
        assert isinstance(of_part, dict)
        of_part |= ranked
    print(name, json.dumps(figures), file=sys.stderr)
    return figures


def chosen_rows(rows: Rows, part: str) -> list[int]:
    """Places of the rows of a part."""
    return [i for i, row in enumerate(rows) if part in ("all", row["prompt_label"])]


def refuses(row: dict[str, str]) -> bool:
    """What people say."""
    return row["final_label"] != "1_full_compliance"


def agreements(rows: Rows, said: Sequence[bool | None]) -> Json:
    """Agreement and kappa on whether a row refuses, by the label of its prompt."""
    result: Json = {}
    for part in PARTS:
        chosen = chosen_rows(rows, part)
        right = [said[i] is not None and said[i] == refuses(rows[i]) for i in chosen]
        scored = [i for i in chosen if said[i] is not None]
        result[part] = {
            "n": len(chosen),
            "agreement": rate_json(wilson_clustered(right, [rows[i]["prompt_id"] for i in chosen])),
            "kappa": None if not scored else rate_json(kappa(rows, said, scored)),
        }
    return result


def kappa(rows: Rows, said: Sequence[bool | None], chosen: list[int]) -> Rate:
    """Cohen's kappa over scored rows."""
    people = np.array([refuses(rows[i]) for i in chosen], dtype=np.int64)
    judge = np.array([bool(said[i]) for i in chosen], dtype=np.int64)

    def of(a: np.ndarray, b: np.ndarray) -> float:
        return float(kappa_of(np.bincount(2 * a + b, minlength=4).reshape(2, 2)))

    return bootstrap_interval(of, people, judge, groups=[rows[i]["prompt_id"] for i in chosen])


def ranks(rows: Rows, verdicts: list[Verdict], chosen: list[int], *, opposes: bool) -> Json:
    """AUROC of the judge's scores over scored rows."""
    scored = [i for i in chosen if verdicts[i].score is not None or verdicts[i].raw_score is not None]
    if not scored:
        return {"auroc": None}
    sign = 1.0 if opposes else -1.0
    scores = []
    for i in scored:
        raw, score = verdicts[i].raw_score, verdicts[i].score
        value = raw if raw is not None else score
        scores.append(sign * (math.nan if value is None else value))
    found = auroc_interval(
        scores, [refuses(rows[i]) for i in scored], groups=[rows[i]["prompt_id"] for i in scored]
    )
    return {"auroc": rate_json(found)}


if __name__ == "__main__":
    main()
