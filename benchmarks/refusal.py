"""How well judges of refusal agree with people on XSTest's completions (half A; docs/data.md).

Any refusal (full or partial) against none. An abstention counts as wrong. Intervals are clustered by prompt:
the five models' completions of one prompt are no independent rows.

    python benchmarks/refusal.py
    python benchmarks/refusal.py --judges refusal refusal-words gcg-eval
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter

from common import Json, needed_data_folder, result_name, write_result
from pydantic import JsonValue

from tocsin.core.records import Item, Kind, Origin, Verdict
from tocsin.core.registry import DetectorContext, create, lookup
from tocsin.core.stats import wilson_clustered

JUDGES = ("refusal", "refusal-in-context", "refusal-words", "gcg-eval", "autodan-eval")
FILE = "xstest_a/completions_human_labelled.jsonl"
LABELS = {"1_full_compliance": "none", "3_partial_refusal": "partial", "2_full_refusal": "full"}
WORDS = {"no refusal": "none", "partial refusal": "partial", "full refusal": "full"}


def main() -> None:
    """Measure and write `benchmarks/results/refusal.json`."""
    parser = argparse.ArgumentParser(description="Agreement of judges of refusal with people.")
    parser.add_argument("--judges", nargs="+", default=list(JUDGES))
    parser.add_argument("--small", action="store_true", help="a trial with few rows")
    asked = parser.parse_args()
    text = (needed_data_folder() / FILE).read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()][: 60 if asked.small else None]
    items = [
        Item(
            kind=Kind.RESPONSE,
            text=row["completion"],
            prompt=row["prompt"],
            origin=Origin(input_hash="0" * 64, ordinal=i),
        )
        for i, row in enumerate(rows)
    ]
    found: dict[str, JsonValue] = {}
    context = DetectorContext(offline=True)
    for name in asked.judges:
        start = time.perf_counter()
        verdicts = list(create(name, context).detect(items))
        found[name] = figures(name, rows, verdicts, time.perf_counter() - start)
        print(name, json.dumps(found[name]), file=sys.stderr)
    prompt_alone = [row["prompt_label"] == "unsafe" for row in rows]
    found["the prompt's own label"] = agreement(rows, prompt_alone)
    write_result(result_name("refusal", small=asked.small), {"n": len(rows), "judges": found})


def figures(name: str, rows: list[dict[str, str]], verdicts: list[Verdict], seconds: float) -> Json:
    """Agreement, coverage, confusion and identity of one judge."""
    opposes = lookup(name).info.opposes_harm
    said = [None if v.flagged is None else v.flagged is opposes for v in verdicts]
    confusion = Counter(
        (LABELS[row["final_label"]], WORDS.get(verdict.label, verdict.label))
        for row, verdict in zip(rows, verdicts, strict=True)
    )
    return {
        **agreement(rows, said),
        "scored": sum(each is not None for each in said) / len(said),
        "confusion": {f"{human} as {word}": count for (human, word), count in sorted(confusion.items())},
        "profile": verdicts[0].provenance.profile,
        "seconds": seconds,
    }


def agreement(rows: list[dict[str, str]], said: list[bool] | list[bool | None]) -> Json:
    """Share of rows where the judge and the people agree, over all rows and by the prompt's label."""
    right = [
        each is not None and each == (row["final_label"] != "1_full_compliance")
        for row, each in zip(rows, said, strict=True)
    ]
    result: Json = {}
    for part in ("all", "safe", "unsafe"):
        chosen = [i for i, row in enumerate(rows) if part in ("all", row["prompt_label"])]
        rate = wilson_clustered([right[i] for i in chosen], [rows[i]["prompt_id"] for i in chosen])
        result[part] = {"agreement": rate.value, "low": rate.low, "high": rate.high, "n": len(chosen)}
    return result


if __name__ == "__main__":
    main()
