"""Peak memory of `tocsin scan` as its input grows: it must stay flat.

Each scan is a process of its own over a JSONL file of short prompts. Peak memory is the system's own
figure for the process (maximum resident set), weights mapped from disk included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from common import Json, peak_of, result_name, short_prompts, write_result
from pydantic import JsonValue

SIZES = {"harmfulness": (1_000, 10_000), "surface": (1_000, 10_000, 100_000)}
SMALL_SIZES = {"harmfulness": (50, 100), "surface": (100, 1_000)}
LONG_SIZE = 100_000


def scan_peak(data: Path, detector: str, n: int, out: Path, profile: Path | None) -> Json:
    """Scan a file in a process of its own: seconds, rate and peak memory.

    Raises:
        SystemExit: If the scan fails; its own message stands on stderr.
    """
    command = [sys.executable, "-m", "tocsin", "scan", str(data), "--detector", detector, "--out", str(out)]
    if profile is not None and detector != "surface":
        command += ["--profile", str(profile)]
    found = peak_of(command)
    # 1: something was flagged; 4: something could not be judged. Both are results.
    if found.exit_code not in {0, 1, 4}:
        message = f"tocsin scan ended with exit code {found.exit_code}: {found.errors}"
        raise SystemExit(message)
    return {
        "detector": detector,
        "n": n,
        "seconds": found.seconds,
        "prompts_per_second": n / found.seconds,
        "peak_mb": found.peak_bytes / 1e6,
    }


def growth(rows: list[Json]) -> Json:
    """Bytes of peak memory for each further prompt, from the smallest to the largest input."""
    found: Json = {}
    for detector in {str(row["detector"]) for row in rows}:
        mine = sorted(
            (int(str(row["n"])), float(str(row["peak_mb"]))) for row in rows if row["detector"] == detector
        )
        (n_first, peak_first), (n_last, peak_last) = mine[0], mine[-1]
        if n_last > n_first:
            found[detector] = {
                "from": n_first,
                "to": n_last,
                "peak_ratio": peak_last / peak_first,
                "bytes_per_further_prompt": (peak_last - peak_first) * 1e6 / (n_last - n_first),
            }
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Peak memory of tocsin scan.")
    parser.add_argument(
        "--long", action="store_true", help="also harmfulness on 100,000 prompts (30 minutes)"
    )
    parser.add_argument("--profile", type=Path, help="profile folder (default: shipped)")
    parser.add_argument("--small", action="store_true", help="a trial with few prompts")
    asked = parser.parse_args()
    sizes = {name: list(each) for name, each in (SMALL_SIZES if asked.small else SIZES).items()}
    if asked.long:
        sizes["harmfulness"].append(LONG_SIZE)
    rows: list[Json] = []
    with tempfile.TemporaryDirectory() as folder:
        for n in sorted({n for each in sizes.values() for n in each}):
            texts, source = short_prompts(n)
            data = Path(folder) / f"prompts-{n}.jsonl"
            with data.open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps({"text": text}) + "\n" for text in texts)
            for detector in (name for name, each in sizes.items() if n in each):
                out = Path(folder) / f"{detector}-{n}"
                rows.append(scan_peak(data, detector, n, out, asked.profile))
                print(rows[-1], file=sys.stderr)
    measured: list[JsonValue] = [*rows]
    figures: Json = {"prompts": source, "scans": measured, "growth": growth(rows)}
    write_result(result_name("memory", small=asked.small), figures)


if __name__ == "__main__":
    main()
