"""What `scan --engine spark` costs beside the embedded engine, where detectors cost nothing.

20,000 short generated prompts, the detector `surface`, two worker processes on this machine. Nothing is won
here: the figures say what Spark must be worth. That is, the start of a session, its first scan (in which
workers start), a later one, and what the driver itself computes for each item, which bounds how many workers
one driver can feed.

    python benchmarks/speed_spark.py
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from common import Json, result_name, write_result

import tocsin
from tocsin.api.progress import Progress
from tocsin.core.spark import spark_session

MASTER = "local-cluster[2,1,1024]"
WORDS = ("how", "to", "bake", "bread", "fix", "my", "bike", "write", "a", "poem", "about", "rivers", "please")


def write_prompts(path: Path, count: int) -> None:
    """Five to twenty-five words each, with and without final punctuation."""
    draw = random.Random(0)
    with path.open("w") as file:
        for _ in range(count):
            words = draw.choices(WORDS, k=draw.randint(5, 25))
            file.write(json.dumps({"prompt": " ".join(words) + draw.choice((".", "?", ""))}) + "\n")


def timed(path: Path, out: Path, engine: str) -> dict[str, float]:
    """Seconds of a whole scan, and of this process's own work until the report is begun."""
    began, own = time.perf_counter(), time.process_time()
    judged = 0.0

    def watch(progress: Progress) -> None:
        nonlocal judged
        if progress.stage == "reporting":
            judged = time.process_time() - own

    if engine == "spark":
        tocsin.scan(path, detectors="surface", out=out, engine="spark", master=MASTER, progress=watch)
    else:
        tocsin.scan(path, detectors="surface", out=out, progress=watch)
    return {"seconds": time.perf_counter() - began, "own_seconds": judged}


def main() -> None:
    """Measure and write `benchmarks/results/speed_spark.json`."""
    parser = argparse.ArgumentParser(description="Overhead of Spark where detectors cost nothing.")
    parser.add_argument("--small", action="store_true", help="a trial with few prompts")
    asked = parser.parse_args()
    count = 2_000 if asked.small else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_prompts(folder / "prompts.jsonl", count)
        runs = {"embedded": timed(folder / "prompts.jsonl", folder / "embedded", "embedded")}
        began = time.perf_counter()
        with spark_session(MASTER, folder):
            started = time.perf_counter() - began
            for run in ("first", "later"):
                runs[run] = timed(folder / "prompts.jsonl", folder / run, "spark")
        expected = (folder / "embedded/results.jsonl").read_bytes()
        assert all((folder / run / "results.jsonl").read_bytes() == expected for run in ("first", "later"))
    result: Json = {
        "prompts": count,
        "master": MASTER,
        "session_seconds": started,
        "runs": {name: dict(run) for name, run in runs.items()},
        "driver_microseconds_an_item": runs["later"]["own_seconds"] / count * 1e6,
    }
    print(result)
    write_result(result_name("speed_spark", small=asked.small), result)


if __name__ == "__main__":
    main()
