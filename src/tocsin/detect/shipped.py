"""Which profile a detector uses: the one named by `--profile`, else the one that ships."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tocsin.core.errors import ProfileError
from tocsin.core.registry import DetectorContext, lookup


def profiles_folder() -> Path:
    """Folder of the shipped profiles inside the package."""
    return Path(str(files("tocsin").joinpath("data", "profiles")))


def shipped_profile(name: str, context: DetectorContext) -> Path:
    """Folder of the profile to use.

    Raises:
        ProfileError: If none is given and the model is not the embedded one, for which profiles ship.
    """
    if context.profile is not None:
        # One folder may hold a profile for each of several detectors, or be a profile itself.
        inner = context.profile / name
        return inner if inner.is_dir() else context.profile
    if context.model != "embedded":
        sides = " ".join(f"--{side} FILE" for side in lookup(name).info.fits_on)
        message = (
            f"no profile ships for --model {context.model}. Fit one with: "
            f"tocsin fit {name} {sides} --model {context.model} --profile DIR"
        )
        raise ProfileError(message)
    return profiles_folder() / name
