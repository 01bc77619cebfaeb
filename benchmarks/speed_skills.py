"""How fast real skills are read and judged, beside a published skill scanner on the same skills.

The peer is `cisco-ai-skill-scanner` with the analysers that need no network or key (static, bytecode,
pipeline, correlation), in a virtual environment of its own. It looks for malicious instructions and code
in all files of a skill; `policy-embedded` reads the declared purpose. They answer different questions:
this compares what waiting for either costs. Two comparisons are made in turn on the same folders:

* inside a running process, start-up left out: reading and format checks alone; reading, checks and
  verdicts of `policy-embedded`; the peer's `scan_skill` on each folder;
* whole commands: `tocsin scan` and `skill-scanner scan-all`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from common import (
    ROOT,
    Json,
    alternate,
    needed_data_folder,
    result_name,
    write_result,
)
from work import RecordingEngine, limits

from tocsin.core.records import Item
from tocsin.core.registry import DetectorContext, create
from tocsin.detect.policy_embedded import PolicyEmbedded
from tocsin.models.embedded.model import EmbeddedModel
from tocsin.sources import open_source

PEER = "cisco-ai-skill-scanner==2.3.2"
PEER_ENVIRONMENT = ROOT / ".venv-peer"

# Runs in the peer's environment: skill folders on standard input, seconds and counts on standard output.
PEER_RUNNER = """
import contextlib, json, sys, time
folders = json.load(sys.stdin)
with contextlib.redirect_stdout(sys.stderr):
    from skill_scanner import SkillScanner
    scanner = SkillScanner()
    scanner.scan_skill(folders[0], lenient=True)
    started = time.perf_counter()
    results = [scanner.scan_skill(folder, lenient=True) for folder in folders]
    seconds = time.perf_counter() - started
analysers = scanner.list_analyzers()
print(json.dumps({"seconds": seconds, "skills": len(results), "analysers": analysers}))
"""


def peer_environment() -> Path:
    """Folder of the peer's programs; made with pip where it is missing (about 700 MB)."""
    programs = PEER_ENVIRONMENT / "bin"
    if not (programs / "skill-scanner").is_file():
        print(f"installing {PEER} into {PEER_ENVIRONMENT.name}", file=sys.stderr)
        venv.create(PEER_ENVIRONMENT, with_pip=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, PEER], check=True)
    return programs


class Peer:
    """The peer inside one process for each round, its start-up not counted."""

    def __init__(self, programs: Path, folders: list[str]) -> None:
        self._python = programs / "python"
        self._folders = folders
        self.facts: Json = {}

    def scan(self) -> float:
        """Seconds of the scans alone."""
        done = subprocess.run(
            [self._python, "-c", PEER_RUNNER],
            input=json.dumps(self._folders),
            capture_output=True,
            text=True,
            env=offline_environment(),
        )
        if done.returncode != 0:
            message = f"the peer failed: {done.stderr[-2_000:]}"
            raise SystemExit(message)
        found = json.loads(done.stdout)
        self.facts = {"package": PEER, "analysers": found["analysers"], "skills": found["skills"]}
        return float(found["seconds"])


class Ours:
    """Reading alone, and reading with verdicts, inside this process."""

    def __init__(self, folder: Path, profile: Path | None) -> None:
        self._folder = folder
        detector = create("policy-embedded", DetectorContext(profile=profile))
        if not isinstance(detector, PolicyEmbedded) or not isinstance(detector.model, EmbeddedModel):
            message = "expected the package's own policy-embedded with the embedded model."
            raise SystemExit(message)
        self.detector, self.model = detector, detector.model
        self.engine = RecordingEngine(self.model)

    def read(self) -> list[Item]:
        """Items with their format findings; their text is dropped by the caller."""
        return list(open_source(self._folder).items())

    def judge(self) -> int:
        """Read, check and judge, with nothing kept from an earlier round."""
        self.detector.engine = self.engine = RecordingEngine(self.model)
        verdicts = self.detector.detect(open_source(self._folder).items())
        return sum(verdict.flagged is True for verdict in verdicts)


def offline_environment() -> dict[str, str]:
    """The environment without keys that would switch on the peer's online analysers."""
    prefixes = ("SKILL_SCANNER_", "VIRUSTOTAL_", "AI_DEFENSE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}


def command(words: list[str | Path]) -> None:
    """Run a whole command; findings are no failure."""
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=offline_environment())
    if done.returncode not in {0, 1, 4}:
        message = f"{Path(words[0]).name} ended with exit code {done.returncode}: {done.stderr[-2_000:]!r}"
        raise SystemExit(message)


def measure(skills: Path, *, rounds: int, profile: Path | None, scratch: Path) -> Json:
    """Time all ways on the same folder of skills."""
    programs = peer_environment()
    folders = sorted(str(path.parent) for path in skills.rglob("SKILL.md"))
    ours, peer = Ours(skills, profile), Peer(programs, folders)
    ours.judge()  # weights are made ready, files are in the system's cache
    scan: list[str | Path] = [sys.executable, "-m", "tocsin", "scan", skills, "--out", scratch / "run"]
    scan += ["--fresh", "--detector", "policy-embedded"]
    if profile is not None:
        scan += ["--profile", profile]
    scan_all: list[str | Path] = [programs / "skill-scanner", "scan-all", skills, "--recursive", "--lenient"]
    scan_all += ["--format", "json", "--output", scratch / "peer.json"]
    ways: dict[str, Callable[[], object]] = {
        "reading and format checks": ours.read,
        "policy-embedded": ours.judge,
        "peer": peer.scan,
        "tocsin scan": lambda: command(scan),
        "skill-scanner scan-all": lambda: command(scan_all),
    }
    timed = alternate(ways, rounds)
    n = len(folders)
    return {
        "n": n,
        "rounds": rounds,
        "profile": ours.detector.profile_hash,
        "peer": peer.facts,
        "seconds": {name: list(seconds) for name, seconds in timed.seconds.items()},
        "skills_per_second": {name: n / timed.median(name) for name in ways},
        "ratio_to_peer": {
            "reading and format checks": timed.ratio("peer", "reading and format checks"),
            "policy-embedded": timed.ratio("peer", "policy-embedded"),
            "tocsin scan": timed.ratio("skill-scanner scan-all", "tocsin scan"),
        },
        **limits(ours.engine, ours.detector.plan, ours.model.files.shape, n, timed.median("policy-embedded")),
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Speed on skills beside a published scanner.")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds (default: 3)")
    parser.add_argument("--profile", type=Path, help="profile folder (default: shipped)")
    parser.add_argument("--small", action="store_true", help="a trial: 20 skills, 1 round")
    asked = parser.parse_args()
    source = needed_data_folder() / "skills"
    with tempfile.TemporaryDirectory() as folder:
        skills = Path(folder) / "skills"
        publishers = sorted(path for path in source.iterdir() if path.is_dir())
        for publisher in publishers:
            # The manifest beside the publishers' folders is no skill; both scanners see the folders alone.
            for skill in islice(sorted(publisher.iterdir()), 4 if asked.small else None):
                shutil.copytree(skill, skills / publisher.name / skill.name)
        rounds = 1 if asked.small else asked.rounds
        figures = measure(skills, rounds=rounds, profile=asked.profile, scratch=Path(folder))
    write_result(result_name("speed_skills", small=asked.small), figures)


if __name__ == "__main__":
    main()
