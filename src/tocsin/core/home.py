"""The folder in which models, caches and the local secret are kept."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Folder for models and caches: `TOCSIN_HOME`, else the platform's user cache folder."""
    configured = os.environ.get("TOCSIN_HOME")
    return Path(configured).expanduser() if configured else Path(platformdirs.user_cache_dir("tocsin"))
