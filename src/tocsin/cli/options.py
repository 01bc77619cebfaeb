"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def _no_option(_: type, value: str) -> None:
    if value.startswith("-") and value != "-":
        message = (
            f'"{value}" is no option of this command, nor a path. Write ./{value} for a file of that name.'
        )
        raise ValueError(message)


InputPath = Annotated[str, Parameter(allow_leading_hyphen=True, validator=_no_option)]
"""A path, or `-` for standard input."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model is read, and how."""

    model: str = "embedded"
    """`embedded`, the path of a model folder or GGUF file, hub:org/name, or provider/name."""
    offline: bool = False
    """Never fetch anything: fail if the model is not here."""
    device: str | None = None
    """Where a local model runs, such as cpu or cuda (default: the model chooses)."""
    batch_size: int | None = None
    """Most sequences of one batch of a local model (default: the model chooses)."""
    seed: int = 0
    """For detectors that draw random numbers."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigOptions:
    """Where options come from."""

    config: Path | None = None
    """TOML file with a table for this command; arguments and the environment win over it (default: none)."""
    show_config: bool = False
    """Print the resolved settings and where each came from, and stop."""


MODEL_DEFAULTS = ModelOptions()
CONFIG_DEFAULTS = ConfigOptions()
