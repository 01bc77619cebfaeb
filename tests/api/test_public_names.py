from __future__ import annotations

import subprocess
import sys

import pytest

import tocsin


def test_public_names_are_sorted_and_all_can_be_had() -> None:
    assert tocsin.__all__ == sorted(set(tocsin.__all__))
    assert all(getattr(tocsin, name) is not None for name in tocsin.__all__)
    assert set(tocsin.__all__) <= set(dir(tocsin))


def test_a_star_import_gives_exactly_the_public_names() -> None:
    code = "from tocsin import *; print(*sorted(name for name in dir() if not name.startswith('_')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == tocsin.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'scann'"):
        getattr(tocsin, "scann")  # noqa: B009 - the attribute does not exist
