"""Text that stands in columns which are not read is named, so that nobody takes it for judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from source_inputs import write

from tocsin.sources import open_source

ANSWER = "a few words of an answer"


def notices(path: Path, **columns: str) -> list[str]:
    return [notice for notice in open_source(path, **columns).notices if "not read" in notice]  # type: ignore[arg-type]


def test_text_columns_outside_the_plan_are_named(tmp_path: Path) -> None:
    row = {
        "prompt": "p q r s",
        "chosen": ANSWER,
        "rejected": ANSWER,
        "system": "you are a kind helper",
        "lang": "en",
    }
    write(tmp_path / "a.jsonl", json.dumps(row) + "\n")
    (notice,) = notices(tmp_path / "a.jsonl")
    assert "a.jsonl (rejected, system)" in notice


def test_names_and_labels_are_no_text(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", json.dumps({"text": "x", "author": "A B", "label": "harmful", "n": 3}) + "\n")
    assert notices(tmp_path / "a.jsonl") == []


def test_nothing_is_said_where_the_caller_chose_the_column(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", f"question,notes\nhow are you,{ANSWER}\n")
    assert notices(tmp_path / "a.csv") != []
    assert notices(tmp_path / "a.csv", text="question") == []


def test_a_column_name_that_may_be_examined_text_is_not_shown(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", json.dumps({"text": "x", "How do I do it?": ANSWER}) + "\n")
    assert notices(tmp_path / "a.jsonl") == []


def test_parquet_names_columns_that_usually_hold_text(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"prompt": ["p"], "response": ["r"], "rejected": ["s"], "score": [1]})
    parquet.write_table(table, tmp_path / "a.parquet")
    (notice,) = notices(tmp_path / "a.parquet")
    assert "a.parquet (rejected)" in notice


def test_a_folder_names_each_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", json.dumps({"text": "x", "context": ANSWER}) + "\n")
    (notice,) = notices(tmp_path)
    assert "a.jsonl (context), b.jsonl (context)" in notice
