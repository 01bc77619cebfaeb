"""Reader of SNAP's cascade files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.core.errors import InputError
from tocsin.trace.reconstruct.netinf_file import read_netinf


def written(folder: Path, text: str) -> Path:
    path = folder / "cascades.txt"
    path.write_text(text, "utf-8")
    return path


def test_nodes_get_their_names_and_cascades_their_place(tmp_path: Path) -> None:
    found = read_netinf(written(tmp_path, "0,x\n1,y\n2,z\n\n1,2.5,0,1.0\n\n0,0.0\n"))
    assert found.names == ("x", "y")
    assert found.keys.tolist() == [0, 1]
    assert found.times.tolist() == [1.0, 2.5, 0.0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,x\n1\n\n0,1.0\n", "line 2: expected `id,name`"),
        ("0,x\n\n0,1.0,0\n", "line 3: expected `id,time"),
        ("0,x\n\n0,soon\n", "line 3: expected `id,time"),
        ("0,x\n\n0,inf\n", "line 3: expected `id,time"),
        ("0,x\n\n7,1.0\n", "line 3: expected `id,time"),
        ("0,x\n1,y\n", "at least one cascade"),
        ("", "at least one cascade"),
    ],
)
def test_a_line_of_another_form_is_named(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_netinf(written(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a readable text file"):
        read_netinf(tmp_path / "none.txt")
