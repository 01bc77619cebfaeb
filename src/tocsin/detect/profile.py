"""Fitted profiles: safetensors for numbers, a JSON manifest for everything that binds them. Never pickle.

A profile belongs to one model revision, template, normalisation and set of rows and positions; loading it for
anything else is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import ProfileError

FORMAT = 1
MANIFEST = "profile.json"
TENSORS = "profile.safetensors"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a detector learned."""

    detector: str
    version: str
    binding: Mapping[str, JsonValue]
    """What must be equal at use: model, revision, template, rows, positions, normalisation."""
    facts: Mapping[str, JsonValue]
    """Thresholds, fit sizes, data hashes and settings."""
    tensors: Mapping[str, NDArray[np.floating]]

    @property
    def hash(self) -> str:
        """Short hash over numbers and manifest."""
        digest = hashlib.sha256(
            json.dumps([self.detector, self.version, self.binding, self.facts], sort_keys=True).encode()
        )
        for name in sorted(self.tensors):
            digest.update(name.encode() + np.ascontiguousarray(self.tensors[name]).tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write both files.

        Raises:
            ProfileError: If the folder holds something else, such as another detector's profile, or cannot
                be written.
        """
        self._refuse_to_overwrite(folder)
        try:
            self._write(folder)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            message = f"{folder} cannot be written ({reason}). Choose another place."
            raise ProfileError(message) from error

    def _refuse_to_overwrite(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            message = f"{folder} is a file; a profile is a folder. Choose another place."
            raise ProfileError(message)
        # Tensors alone are what an interrupted save leaves.
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if not names <= {TENSORS} and MANIFEST not in names:
            message = f"{folder} is not empty and holds no profile. Choose an empty or a new folder."
            raise ProfileError(message)
        if MANIFEST in names and (owner := _detector_of(folder / MANIFEST)) not in {None, self.detector}:
            message = f"{folder} holds a profile of '{owner}'. Choose an empty or a new folder."
            raise ProfileError(message)

    def _write(self, folder: Path) -> None:
        from safetensors.numpy import save

        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        # Not save_file, which makes files that only their owner can read.
        tensors = {name: np.ascontiguousarray(value) for name, value in self.tensors.items()}
        (folder / TENSORS).write_bytes(save(tensors))
        manifest = {
            "format": FORMAT,
            "detector": self.detector,
            "version": self.version,
            "binding": dict(self.binding),
            "facts": dict(self.facts),
            "hash": self.hash,
        }
        part = folder / f".{MANIFEST}.{os.getpid()}"
        part.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", "utf-8")
        part.replace(folder / MANIFEST)

    def check(self, binding: Mapping[str, JsonValue], version: str | None = None) -> None:
        """Refuse a profile that was fitted on something else.

        Args:
            binding: What must be equal.
            version: The detector's version, where it must be equal too.

        Raises:
            ProfileError: Naming each difference.
        """
        different = [
            f"{name} is {binding.get(name)!r}, the profile has {self.binding.get(name)!r}"
            for name in sorted({*binding, *self.binding})
            if binding.get(name) != self.binding.get(name)
        ]
        if version is not None and version != self.version:
            different.append(f"the detector's version is {version!r}, the profile has {self.version!r}")
        if different:
            message = (
                f"the {self.detector} profile does not fit: {'; '.join(different)}. "
                f"Fit one with: tocsin fit {self.detector} --harmless FILE --profile DIR"
            )
            raise ProfileError(message)


def _detector_of(manifest: Path) -> str | None:
    """Name of the detector a manifest belongs to; None where it cannot be told."""
    try:
        return str(json.loads(manifest.read_text("utf-8"))["detector"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_profile(folder: Path, detector: str) -> Profile:
    """Read a profile.

    Raises:
        ProfileError: If it is missing, damaged, of another detector or of a newer format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = folder / MANIFEST
    if not path.is_file():
        message = (
            f"{folder} holds no profile (expected {MANIFEST}). Fit one with: tocsin fit {detector} ... "
            f"--profile {folder}"
        )
        raise ProfileError(message)
    try:
        manifest = json.loads(path.read_text("utf-8"))
        tensors = load_file(folder / TENSORS)
        if manifest["format"] != FORMAT:
            message = (
                f"{path} has format {manifest['format']}; this version reads {FORMAT}. Fit the profile again."
            )
            raise ProfileError(message)
        profile = Profile(
            manifest["detector"], manifest["version"], manifest["binding"], manifest["facts"], tensors
        )
        stated = manifest["hash"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        message = f"{folder} is a damaged profile ({type(error).__name__}). Fit it again."
        raise ProfileError(message) from error
    if profile.detector != detector:
        message = f"{folder} is a profile of '{profile.detector}', not of '{detector}'."
        raise ProfileError(message)
    if profile.hash != stated:
        message = f"{folder} is a damaged profile: its contents do not match its own hash. Fit it again."
        raise ProfileError(message)
    return profile
