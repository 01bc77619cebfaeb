"""Time and memory of the four `tocsin explain` studies on the embedded model, from the command line.

Every study is a process of its own at the sizes that docs/methods/02.md, 03.md, 05.md and 12.md report. Peak
memory is the system's own figure for the process, weights mapped from disk included; beside it stands what an
interpreter takes that has the libraries loaded and no model, and the difference in units of the weights.

    TOCSIN_DATA=... python benchmarks/studies_embedded.py [--only weights]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from common import Json, needed_data_folder, peak_of, result_name, write_result

from tocsin.models.embedded.weights import load_files

LIBRARIES = "import tocsin.cli, tocsin.api.explain_audit; from transformers import LlamaForCausalLM"


def commands(data: Path, made: Path, *, small: bool) -> dict[str, list[str]]:
    """Arguments of each study."""
    harmful = str(data / "advbench" / "harmful_behaviors.csv")
    harmless = str(data / "alpaca_5k" / "instructions.csv")
    found = {
        "directions": ["directions", "--harmful", harmful, "--harmless", harmless],
        "mediation": [
            *("mediation", "--level", "layer", "--level", "module", "--level", "gate", "--verify", "64"),
        ],
        "weights": [
            *("weights", "--harm", harmful, "--harm-response", "target"),
            *("--benign", str(tasks(data, made)), "--refusal", str(refusals(data, made))),
        ],
        "audit": ["audit", "embedded", "embedded+benign"],
    }
    if small:
        found["directions"] += [*("--fit", "16", "--test", "16", "--steered", "4", "--rows", "2")]
        found["mediation"] += ["--pairs", "6"]
        found["weights"] += ["--samples", "16", "--test-samples", "8"]
        found["audit"] += ["--fit", "16", "--test", "8", "--drift", "4", "--max-tasks", "8"]
    return found


def tasks(data: Path, made: Path) -> Path:
    """Self-Instruct's seed tasks as prompts with responses."""
    rows = []
    for line in (data / "alpaca_seed_tasks" / "seed_tasks.jsonl").read_text("utf-8").splitlines():
        task = json.loads(line)
        first = task["instances"][0]
        prompt = "\n".join(part for part in (task["instruction"], first["input"]) if part)
        rows.append({"prompt": prompt, "response": first["output"]})
    return write_rows(made / "tasks.jsonl", rows)


def refusals(data: Path, made: Path) -> Path:
    """The refusals of Safety-Tuned LLaMAs as prompts with responses."""
    lines = (data / "safety_tuned_train" / "safety_only_1500.jsonl").read_text("utf-8").splitlines()
    rows = [{"prompt": row["instruction"], "response": row["output"]} for row in map(json.loads, lines)]
    return write_rows(made / "refusals.jsonl", rows)


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("directions", "mediation", "weights", "audit"))
    parser.add_argument("--out", type=Path, help="where the run folders stay (default: nowhere)")
    parser.add_argument("--small", action="store_true", help="a trial with few prompts")
    asked = parser.parse_args()
    data = needed_data_folder()
    weights = sum(values.nbytes for values in load_files().weights.values())
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        bare = peak_of([sys.executable, "-c", LIBRARIES]).peak_bytes
        studies: Json = {}
        for study, arguments in commands(data, made, small=asked.small).items():
            if asked.only and study not in asked.only:
                continue
            out = (asked.out or made) / study
            done = peak_of([sys.executable, "-m", "tocsin", "explain", *arguments, "--out", str(out)])
            studies[study] = {
                "exit_code": done.exit_code,
                "minutes": round(done.seconds / 60, 2),
                "processor_minutes": round(done.processor_seconds / 60, 2),
                "peak_mb": round(done.peak_bytes / 1e6),
                "peak_in_weights": round(done.peak_bytes / weights, 2),
                "peak_without_libraries_in_weights": round((done.peak_bytes - bare) / weights, 2),
            }
            print(study, studies[study], done.errors[-500:], file=sys.stderr, flush=True)
    figures: Json = {
        "weights_mb": round(weights / 1e6),
        "libraries_mb": round(bare / 1e6),
        "studies": studies,
    }
    name = "-".join(["studies_embedded", *(asked.only or ())])
    write_result(result_name(name, small=asked.small), figures)


if __name__ == "__main__":
    main()
