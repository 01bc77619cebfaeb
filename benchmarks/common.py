"""What measurements share: the machine's facts and matrix rate, paired timing, rows, result files."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

from tocsin.core.records import Item, Kind, Origin
from tocsin.core.stats import Rate
from tocsin.models.embedded.llama import usable_cores
from tocsin.models.embedded.weights import LlamaShape
from tocsin.sources.contrast import contrast_items

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

LOAD_BEFORE = os.getloadavg()[0]
"""Programs that wanted a core in the minute before; on a busy machine the figures say little."""


def commit() -> str:
    """Commit of the checkout now, with `+changes` where tracked package files differ from it."""
    found = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
    )
    if found.returncode != 0:
        return "unknown"
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src"], cwd=ROOT, capture_output=True)
    return found.stdout.strip() + ("+changes" if changed.returncode else "")


COMMIT = commit()
"""Taken at the start: what is committed while a measurement runs is not what it measures."""
QUIET = 0.5
"""Load up to which a machine counts as quiet."""

Json = dict[str, JsonValue]


def data_folder() -> Path | None:
    """The folder of public evaluation data, `TOCSIN_DATA` (docs/data.md); None where it is not there."""
    configured = os.environ.get("TOCSIN_DATA")
    folder = Path(configured).expanduser() if configured else None
    return folder if folder is not None and folder.is_dir() else None


def needed_data_folder() -> Path:
    """`data_folder`, or the end of the program with what to do."""
    folder = data_folder()
    if folder is None:
        message = (
            "expected TOCSIN_DATA to name the folder of evaluation data (docs/data.md says how to make it)."
        )
        raise SystemExit(message)
    return folder


class Row(NamedTuple):
    """A row of a public evaluation set; its text stays in memory."""

    text: str
    fields: Mapping[str, str]


def read_rows(folder: Path, name: str, column: str) -> list[Row]:
    """Rows of a CSV file of the evaluation data."""
    with (folder / name).open(encoding="utf-8", newline="") as stream:
        return [Row(fields[column], fields) for fields in csv.DictReader(stream)]


def prompt_items(texts: Sequence[str], name: str) -> list[Item]:
    """Texts as prompt items."""
    return [
        Item(kind=Kind.PROMPT, text=text, origin=Origin(input_hash=name, ordinal=ordinal, path=name))
        for ordinal, text in enumerate(texts)
    ]


def short_prompts(n: int) -> tuple[list[str], str]:
    """`n` short prompts and their source: Alpaca, else our own everyday rows, repeated with a number."""
    folder = data_folder()
    if folder is not None:
        rows = read_rows(folder, "alpaca_5k/instructions.csv", "instruction")
        source = "Alpaca instructions"
        texts = [row.text for row in rows]
    else:
        source = "everyday rows of our own contrast set"
        texts = [item.text for item in contrast_items("everyday")]
    # Equal prompts are computed once, so repeated ones carry their number to be different.
    repeated = [
        text if turn == 0 else f"{text} ({turn + 1})" for turn in range(-(-n // len(texts))) for text in texts
    ]
    return repeated[:n], source


# A small process starts the measured one: a process inherits the peak of its parent, and a parent is large.
_RUNNER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([done.returncode, seconds, used.ru_utime + used.ru_stime, peak, done.stderr[-2000:]]))
"""


class Peak(NamedTuple):
    """A command that has run in a process of its own."""

    exit_code: int
    seconds: float
    processor_seconds: float
    peak_bytes: int
    """Maximum resident set, what is mapped from disk included."""
    errors: str
    """End of what it wrote to standard error."""


def peak_of(command: Sequence[str]) -> Peak:
    """Run a command, and say what it took."""
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER, *command], capture_output=True, text=True, check=True
    )
    return Peak(*json.loads(done.stdout))


class Paired(NamedTuple):
    """Alternating timings of several ways to do one thing."""

    seconds: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Median seconds of one way."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> Json:
        """How many times faster `fast` is: median of the rounds' ratios, with lowest and highest."""
        ratios = [a / b for a, b in zip(self.seconds[slow], self.seconds[fast], strict=True)]
        return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int) -> Paired:
    """Time every way once in each round, in turning order, so that a slow spell of the machine meets all.

    A way that returns a float has timed itself, in seconds.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            started = time.perf_counter()
            own = ways[name]()
            seconds[name].append(own if isinstance(own, float) else time.perf_counter() - started)
            print(f"round {turn + 1}: {name} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return Paired(seconds)


def matrix_rate(shape: LlamaShape, rows: int = 768, repeats: int = 20) -> float:
    """Matrix rate of all cores in GFLOP/s: float32 products of the model's largest shape, best of five.

    The product is that of one batch with the joined gate and up projections, (rows, width) by
    (width, 2 * hidden), with as many BLAS threads as there are cores.
    """
    generator = np.random.default_rng(0)
    left = generator.standard_normal((rows, shape.width), dtype=np.float32)
    right = generator.standard_normal((shape.width, 2 * shape.hidden), dtype=np.float32)
    out = np.empty((rows, 2 * shape.hidden), dtype=np.float32)
    np.matmul(left, right, out=out)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(repeats):
            np.matmul(left, right, out=out)
        best = min(best, (time.perf_counter() - started) / repeats)
    return 2.0 * rows * shape.width * 2 * shape.hidden / best / 1e9


def machine() -> Json:
    """CPU, cores, memory, Python, numpy and its BLAS, system."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    blas: list[JsonValue] = [
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')})"
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    ]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    return {
        "cpu": cpu,
        "usable_cores": usable_cores(),
        "memory_gb": round(pages / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "blas": blas,
        "load_before": round(LOAD_BEFORE, 2),
    }


def rate_json(rate: Rate) -> Json:
    """A rate with its interval."""
    value, low, high = (None if math.isnan(each) else each for each in (rate.value, rate.low, rate.high))
    return {"value": value, "low": low, "high": high, "n": rate.n, "method": rate.method}


def write_result(name: str, figures: Json) -> Path:
    """Write figures with the machine's facts, date, commit and command as `results/NAME.json`."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT) if script.is_relative_to(ROOT) else Path(script.name)
    # Folders belong to one machine, so only the names of given paths are kept.
    arguments = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    record: Json = {
        "benchmark": name,
        "command": shlex.join(["python", str(shown), *arguments]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": COMMIT,
        "machine": machine(),
        **figures,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    if LOAD_BEFORE > QUIET:
        print(
            f"the machine was busy (load {LOAD_BEFORE:.1f}): measure again when it is quiet", file=sys.stderr
        )
    path.write_text(json.dumps(record, indent=1, ensure_ascii=True) + "\n", "utf-8")
    print(f"{path.relative_to(ROOT)} written", file=sys.stderr)
    return path


def result_name(name: str, *, small: bool) -> str:
    """Trial runs go to files of their own, which git ignores."""
    return f"trial-{name}" if small else name
