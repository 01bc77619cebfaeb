"""What `run.json` of a run folder holds, and how a folder's files are written: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue

from tocsin.core.errors import RunError
from tocsin.core.records import SCHEMA_VERSION, Record

RUNS = "tocsin-runs"
"""Folder, in the current one, that holds runs without `--out`."""
RECORD, REPORT = "run.json", "report.html"
LIBRARIES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "tokenizers",
    "safetensors",
    "gguf",
    "pydantic",
    "torch",
    "transformers",
    "inspect-ai",
)
"""Libraries whose versions are recorded, where they are installed."""


class Session(Record):
    """One process that worked on a run."""

    started: datetime
    versions: dict[str, str]
    """Python, tocsin and the installed ones of `LIBRARIES`."""


class RunRecord(Record):
    """What `run.json` holds."""

    schema_version: int = SCHEMA_VERSION
    command: str
    run_id: str
    """Hash of everything that decides the results."""
    status: Literal["running", "finished"] = "running"
    input_name: str
    """As the user typed it."""
    input_hash: str
    config: dict[str, JsonValue]
    """Settings that decide results."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Where each setting came from: `default`, `argument`, `environment`, or a file."""
    identity: dict[str, JsonValue]
    """Model, profiles and code as far as they are known before anything is loaded."""
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    """Further description that does not decide results, such as what was left out of the input."""
    detectors: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    """Identity of each detector, noted when it was first loaded."""
    sessions: tuple[Session, ...] = ()
    results: int | None = None
    """Number of result lines, once finished."""
    finished: datetime | None = None


def installed_versions() -> dict[str, str]:
    """Versions of Python, tocsin and of those of `LIBRARIES` that are installed."""
    found = {"python": platform.python_version()}
    for name in ("tocsin", *LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run_id(
    command: str, config: Mapping[str, JsonValue], input_hash: str, identity: Mapping[str, JsonValue]
) -> str:
    """Twelve hex digits over everything that decides results."""
    parts = [SCHEMA_VERSION, command, dict(config), input_hash, dict(identity)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def wanted_run(
    command: str,
    config: Mapping[str, JsonValue],
    input_hash: str,
    identity: Mapping[str, JsonValue],
    *,
    out: Path | None,
    input_name: str,
    sources: Mapping[str, str] | None = None,
    facts: Mapping[str, JsonValue] | None = None,
) -> tuple[Path, RunRecord]:
    """The folder of a run, which is made where it is missing, and the record of it as one that begins.

    Raises:
        RunError: If the folder cannot be made.
    """
    name = run_id(command, config, input_hash, identity)
    folder = out if out is not None else Path(RUNS) / f"{command}-{name}"
    record = RunRecord(
        command=command,
        run_id=name,
        input_name=input_name,
        input_hash=input_hash,
        config=dict(config),
        sources=dict(sources or {}),
        identity=dict(identity),
        facts=dict(facts or {}),
    )
    make_folder(folder)
    return folder, record


def refuse_foreign(folder: Path, ours: Collection[str]) -> None:
    """Raise RunError when a folder without run.json holds more than the rest of a run killed as it began.

    Args:
        folder: It exists.
        ours: Names of files that a run of this command writes.
    """
    halves = tuple(f".{name}." for name in ours)
    if any(path.name not in ours and not path.name.startswith(halves) for path in folder.iterdir()):
        message = "expected an empty folder or a run of this command, got other files. "
        raise RunError(message + "Choose another folder with --out.", path=folder)


def read_record(folder: Path) -> RunRecord:
    """What `run.json` of a run folder says.

    Raises:
        RunError: If it is missing, damaged or of another version.
    """
    path = folder / RECORD
    try:
        return RunRecord.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        message = (
            f"expected a run folder with a readable run.json, got: {(error.strerror or 'an error').lower()}."
        )
        raise RunError(message, path=folder) from error
    except ValueError as error:
        message = "expected the record of a run of this version, got something else. "
        message += "Choose another folder with --out."
        raise RunError(message, path=path) from error


def refuse_other(folder: Path, found: RunRecord, wanted: RunRecord) -> None:
    """Raise RunError, naming what differs, when a folder holds another run than the one wanted."""
    if found.run_id == wanted.run_id:
        return
    different = [
        name
        for name in ("schema_version", "command", "input_hash")
        if getattr(found, name) != getattr(wanted, name)
    ]
    for old, new in ((found.config, wanted.config), (found.identity, wanted.identity)):
        different += sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    message = (
        "expected a run of the same command, input and settings, got another one "
        f"(different: {', '.join(different)}). Choose another folder with --out."
    )
    raise RunError(message, path=folder)


def make_folder(folder: Path) -> None:
    """Make a run folder, or raise RunError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        message = f"expected a folder that can be written, got: {reason}. Choose another with --out."
        raise RunError(message, path=folder) from error


def write_whole(path: Path, value: JsonValue) -> None:
    """Replace a file by a JSON value in one step."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file by another in one step, so that a reader sees the old or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        reason = (error.strerror or "unknown error").lower()
        message = f"expected a file that can be written, got: {reason}. "
        message += "Make room or choose another folder with --out."
        raise RunError(message, path=path) from error
    finally:
        part.unlink(missing_ok=True)


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)
