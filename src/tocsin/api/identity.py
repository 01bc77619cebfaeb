"""What decides a scan's verdicts, as far as it is known without loading a model.

The name of a run folder is made from this, so that a finished run is found and shown at once. It is cheap:
constants, hashes of small files, sizes and times of large ones. What a detector says of itself once it is
loaded (`Detector.identity`) is noted in the run as well, and a run cannot be continued with another.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from pydantic import JsonValue

import tocsin
from tocsin.core.errors import ProfileError
from tocsin.core.registry import ENTRY_POINT_GROUP, lookup
from tocsin.detect.shipped import profiles_folder
from tocsin.models.spec import parse_model

_PACKAGE = Path(tocsin.__file__).parent
_SHOWING = ("api", "cli", "report")
"""Rooms whose code cannot change a verdict."""


def static_identity(detectors: Iterable[str], *, model: str, profile: Path | None) -> dict[str, JsonValue]:
    """Identity of model, profiles and code.

    Args:
        detectors: Names of the detectors that may run.
        model: As given to `--model`.
        profile: As given to `--profile`.

    Raises:
        UsageError: If a detector or the model is unknown.
        ProfileError: If the profile is no folder.
    """
    names = list(detectors)
    return {
        "code": code_hash(),
        "plugins": {name: _plugin(name) for name in names},
        "model": model_fingerprint(model),
        "profile": _profiles(names, profile),
    }


def model_fingerprint(spec: str) -> JsonValue:
    """Changes whenever the files behind a model's name change.

    Files of a local model are known by name, size and time of change; a model on the hub or at a provider
    only by its name, and `run.json` notes the revision that was used.

    Raises:
        UsageError: If the name is not understood.
    """
    parsed = parse_model(spec)
    if parsed.kind == "embedded":
        from tocsin.models.embedded.files import GGUF_SHA256

        own = os.environ.get("TOCSIN_GGUF")
        return ["embedded", GGUF_SHA256] if not own else ["embedded", _stamps(Path(own).expanduser())]
    if parsed.kind == "local":
        return ["local", _stamps(Path(parsed.value))]
    if parsed.kind == "scripted":
        return ["scripted", _hash_of([Path(parsed.value)], Path(parsed.value).parent)]
    return [parsed.kind, parsed.value]


def _profiles(names: list[str], profile: Path | None) -> JsonValue:
    if profile is not None:
        if not profile.is_dir():
            message = "expected the folder of a profile. `tocsin fit` makes one."
            raise ProfileError(message, path=profile)
        return _hash_of(_files(profile), profile)
    shipped = profiles_folder()
    folders = {name: shipped / name for name in names}
    return {name: _hash_of(_files(folder), folder) for name, folder in folders.items() if folder.is_dir()}


def _plugin(detector: str) -> JsonValue:
    """Version of the package that registers a detector; our own is known by its code."""
    root = lookup(detector).factory.__module__.partition(".")[0]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.module.partition(".")[0] == root and point.dist is not None:
            return f"{point.dist.name} {point.dist.version}"
    return root


def code_hash() -> str:
    """Hash of this package's own code, except for the rooms that only show results."""
    modules = [
        path
        for path in _PACKAGE.rglob("*")
        if path.suffix in {".py", ".toml"} and path.relative_to(_PACKAGE).parts[0] not in _SHOWING
    ]
    return _hash_of(modules, _PACKAGE)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _hash_of(paths: Iterable[Path], base: Path) -> str:
    """SHA-256 over sorted relative names and contents."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(base)}\0{len(content)}\0".encode("utf-8", "surrogateescape"))
        digest.update(content)
    return digest.hexdigest()[:16]


def _stamps(path: Path) -> JsonValue:
    """Name, size and time of change of each file."""
    paths = sorted(_files(path)) if path.is_dir() else [path]
    found = ((str(each), each.stat()) for each in paths if each.exists())
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]
