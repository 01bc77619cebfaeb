"""Rows of text, JSON, tables and Parquet become items; what cannot be read becomes a problem in its place."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import pytest
from source_inputs import read, write, write_rows

from tocsin.core.errors import InputError, UsageError
from tocsin.core.records import Kind, Reason
from tocsin.sources import Limits, open_source


def test_text_file_gives_one_prompt_a_line_and_skips_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "\ufefffirst\r\n\r\n   \nsecond\nthird")
    items = read(path)
    assert [item.text for item in items] == ["first", "second", "third"]
    assert [(item.origin.ordinal, item.origin.line) for item in items] == [(0, 1), (1, 4), (2, 5)]
    assert {item.kind for item in items} == {Kind.PROMPT}
    assert {item.origin.path for item in items} == {"a.txt"}


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a\u2028b\x0bc\x85d\ne")
    assert [item.text for item in read(path)] == ["a\u2028b\x0bc\x85d", "e"]


def test_input_hash_is_the_sha256_of_the_file_and_items_can_be_read_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\ntwo\n")
    source = open_source(path)
    assert source.input_hash == hashlib.sha256(b"one\ntwo\n").hexdigest()
    assert list(source.items()) == list(source.items())


def test_equal_rows_stay_two_items_with_one_content(tmp_path: Path) -> None:
    first, second = read(write(tmp_path / "a.txt", "same\nsame\n"))
    assert first.key != second.key
    assert first.content_hash == second.content_hash


def test_invalid_utf8_in_one_line_is_a_problem_of_that_line(tmp_path: Path) -> None:
    items = read(write(tmp_path / "a.txt", b"good\nb\xffd\ngood again\n"))
    assert [item.problem is not None for item in items] == [False, True, False]
    assert items[1].problem is not None
    assert items[1].problem.reason is Reason.UNREADABLE
    assert "position 2" in items[1].problem.detail


def test_overlong_text_line_is_read_in_part_and_says_so(tmp_path: Path) -> None:
    # The cut falls inside the two-byte character: half a character is left out, not reported as bad UTF-8.
    items = read(write(tmp_path / "a.txt", "abcdefghié rest of it\nshort\n"), Limits(record_bytes=10))
    assert items[0].text == "abcdefghi"
    assert "first 10 bytes" in items[0].partial[0]
    assert (items[1].text, items[1].partial) == ("short", ())


@pytest.mark.parametrize("size", [1 << 20, (1 << 20) - 1, (1 << 20) + 1, 3 << 20])
def test_lines_across_chunk_borders_stay_whole(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "a.txt", "x" * size + "\ny\n")
    items = read(path, Limits(chars_per_item=1 << 23))
    assert [len(item.text) for item in items] == [size, 1]
    assert not items[0].partial


def test_text_beyond_the_character_limit_is_cut_with_a_note(tmp_path: Path) -> None:
    (item,) = read(write(tmp_path / "a.txt", "abcdef\n"), Limits(chars_per_item=4))
    assert (item.text, item.partial) == ("abcd", ("only the first 4 of 6 characters were read",))


@pytest.mark.parametrize(
    "row",
    [
        {"text": "hello"},
        {"Prompt": "hello"},
        {"id": 3, "goal": "hello"},
        {"instruction": "hello", "input": ""},
        "hello",
    ],
)
def test_text_columns_are_found_by_name(tmp_path: Path, row: object) -> None:
    (item,) = read(write_rows(tmp_path / "a.jsonl", row))
    assert (item.kind, item.text, item.problem) == (Kind.PROMPT, "hello", None)


def test_alpaca_input_is_joined_to_its_instruction(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "a.jsonl",
        {"instruction": "Sort this.", "input": "b a", "output": "a b"},
        {"instruction": "Sort this.", "input": "b a"},
        {"instruction": "Say hi.", "input": "", "output": "hi"},
    )
    full, request, plain = read(path)
    assert (full.kind, full.prompt, full.text) == (Kind.TRAINING_SAMPLE, "Sort this.\n\nb a", "a b")
    assert (request.kind, request.prompt, request.text) == (Kind.PROMPT, None, "Sort this.\n\nb a")
    assert (plain.prompt, plain.text) == ("Say hi.", "hi")


@pytest.mark.parametrize(
    ("request_name", "answer_name"),
    [("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("prompt", "response")],
)
def test_request_and_answer_columns_are_a_training_sample(
    tmp_path: Path, request_name: str, answer_name: str
) -> None:
    (item,) = read(write_rows(tmp_path / "a.jsonl", {request_name: "ask", answer_name: "say"}))
    assert (item.kind, item.prompt, item.text) == (Kind.TRAINING_SAMPLE, "ask", "say")


def test_named_columns_give_responses_with_label_group_and_id(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "id,q,a,verdict,source\n7,ask,say,fine,s1\n")
    (item,) = read(path, text="a", prompt="q", label="verdict", group="source")
    assert (item.kind, item.prompt, item.text) == (Kind.RESPONSE, "ask", "say")
    assert item.metadata == {"id": "7", "verdict": "fine", "source": "s1"}


def test_named_text_column_goes_before_well_known_names(tmp_path: Path) -> None:
    (item,) = read(write_rows(tmp_path / "a.jsonl", {"text": "no", "other": "yes"}), text="other")
    assert (item.kind, item.text) == (Kind.PROMPT, "yes")


@pytest.mark.parametrize(
    ("as_kind", "text", "prompt", "turns"),
    [
        (Kind.RESPONSE, "say", "ask", 0),
        (Kind.PROMPT, "ask", None, 0),
        (Kind.CHAT, "", None, 2),
        (Kind.TRAINING_SAMPLE, "say", "ask", 0),
    ],
)
def test_kind_can_be_overridden(
    tmp_path: Path, as_kind: Kind, text: str, prompt: str | None, turns: int
) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"prompt": "ask", "response": "say"})
    (item,) = read(path, as_kind=as_kind)
    assert (item.kind, item.text, item.prompt, len(item.turns)) == (as_kind, text, prompt, turns)


def test_kind_that_rows_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="training_sample"):
        open_source(write(tmp_path / "a.txt", "x"), as_kind=Kind.SKILL)


@pytest.mark.parametrize(
    ("row", "expected", "reason"),
    [
        (b'{"text": "half', "syntax error", Reason.UNREADABLE),
        (b'{"text": null}', "got null", Reason.MISSING_PART),
        (b'{"text": 5}', "got a number", Reason.MISSING_PART),
        (b'{"text": {"a": 1}}', "got an object", Reason.MISSING_PART),
        (b'{"other": "x"}', "a column of text", Reason.MISSING_PART),
        (b"[1, 2]", "got a list", Reason.UNREADABLE),
        (b"17", "got a number", Reason.UNREADABLE),
        (b'{"text": ""}', "white space", Reason.EMPTY),
        (b'{"text": "\xff"}', "UTF-8", Reason.UNREADABLE),
        (b"[" * 100_000, "nested too deeply", Reason.UNREADABLE),
        (b'{"a":' * 20_000, "nested too deeply", Reason.UNREADABLE),
        (b'{"text": "a", "n": ' + b"9" * 10_000 + b"}", "integer", Reason.UNREADABLE),
        (b'{"text": "' + b"x" * 200_000 + b'"}', "at most 150,000 bytes", Reason.TRUNCATED),
    ],
)
def test_bad_row_is_a_problem_that_stops_nothing_and_is_not_quoted(
    tmp_path: Path, row: bytes, expected: str, reason: Reason
) -> None:
    path = write(tmp_path / "a.jsonl", b'{"text": "before"}\n' + row + b'\n{"text": "after"}\n')
    before, bad, after = read(path, Limits(record_bytes=150_000))
    assert (before.text, after.text, after.origin.line) == ("before", "after", 3)
    assert bad.problem is not None
    assert bad.problem.reason is reason
    assert expected in bad.problem.detail
    assert "half" not in bad.problem.detail


def test_duplicate_keys_and_lone_surrogates_leave_a_note(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"text": "a", "text": "b"}\n{"text": "x\\ud800y"}\n')
    twice, lone = read(path)
    assert twice.text == "b"
    assert "occurs twice" in twice.partial[0]
    assert lone.text == "x\ufffdy"
    assert "surrogates" in lone.partial[0]
    assert json.loads(lone.model_dump_json())["text"] == "x\ufffdy"


def test_metadata_of_any_type_can_be_stored(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        '{"text": "a", "label": 1e999, "group": ["x", "\\udc00"]}\n'
        f'{{"text": "b", "label": {"9" * 40}, "group": {json.dumps("g" * 9000)}}}\n'
        '{"text": "c", "label": true}\n',
    )
    first, second, third = read(path, label="label", group="group")
    assert first.metadata == {"label": "inf", "group": ["x", "\ufffd"]}
    assert second.metadata["label"] == "9" * 40
    assert len(str(second.metadata["group"])) == 2000
    assert third.metadata == {"label": True}
    for item in (first, second, third):
        assert item.model_dump_json()


def test_json_array_is_streamed_with_the_line_of_each_element(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", '[\n  {"text": "a, [b] \\"c\\" \\\\"},\n\n  {"text": "d"}, "e"\n]\n')
    items = read(path)
    assert [item.text for item in items] == ['a, [b] "c" \\', "d", "e"]
    assert [item.origin.line for item in items] == [2, 4, 4]


def test_broken_and_overlong_array_elements_cost_only_themselves(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json", '[{"text": "a"}, {"text" "b"}, {"text": "' + "x" * 99 + '"}, {"text": "c"}]'
    )
    items = read(path, Limits(record_bytes=50))
    assert [item.text for item in items] == ["a", "", "", "c"]
    assert [item.problem and item.problem.reason for item in items] == [
        None,
        Reason.UNREADABLE,
        Reason.TRUNCATED,
        None,
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"text": "a"}, {"text": "b"', "cut off"),
        ('[{"text": "a"}] trailing', "nothing after"),
        ('[{"text": "a"}, , {"text": "b"}]', "between two commas"),
    ],
)
def test_damaged_array_ends_with_a_problem(tmp_path: Path, content: str, expected: str) -> None:
    items = read(write(tmp_path / "a.json", content))
    assert items[0].text == "a"
    assert any(item.problem is not None and expected in item.problem.detail for item in items)


def test_json_file_may_hold_one_object_or_lines(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one.json", json.dumps({"messages": [{"role": "user", "content": "hi"}]}, indent=2)
    )
    lines = write_rows(tmp_path / "lines.json", {"text": "a"}, {"text": "b"})
    assert [item.kind for item in read(one)] == [Kind.CHAT]
    assert [item.text for item in read(lines)] == ["a", "b"]


def test_csv_fields_may_hold_quotes_delimiters_and_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffid,text\r\n1,"a, ""b""\r\nc"\r\n\r\n2,d\r\n')
    items = read(path)
    assert [item.text for item in items] == ['a, "b"\r\nc', "d"]
    assert [item.origin.line for item in items] == [2, 5]


@pytest.mark.parametrize(
    ("name", "delimiter"), [("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "|"), ("a.csv", "\t")]
)
def test_delimiter_is_found_in_the_header(tmp_path: Path, name: str, delimiter: str) -> None:
    path = write(tmp_path / name, f"id{delimiter}prompt\n1{delimiter}hello, you\n")
    assert [item.text for item in read(path)] == ["hello, you"]


def test_csv_field_longer_than_the_csv_modules_default_is_read(tmp_path: Path) -> None:
    (item,) = read(write(tmp_path / "a.csv", "text\n" + "x" * 200_000 + "\n"))
    assert len(item.text) == 200_000


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b"1,a,b", "expected 2 fields, got 3"),
        (b"1", "got null"),
        (b"1,\xff", "UTF-8"),
        (b'1,"a"b', "closing quote"),
        (b"1,a\rb", "line end"),
    ],
)
def test_bad_csv_row_is_a_problem_in_its_place(tmp_path: Path, row: bytes, expected: str) -> None:
    first, bad, last = read(write(tmp_path / "a.csv", b"id,text\n0,first\n" + row + b"\n2,last\n"))
    assert (first.text, last.text) == ("first", "last")
    assert bad.problem is not None
    assert bad.origin.line == 3


def test_quote_that_is_never_closed_names_the_lines_it_swallowed(tmp_path: Path) -> None:
    items = read(write(tmp_path / "a.csv", 'id,text\n1,good\n2,"open\n3,lost\n4,lost\n'))
    assert items[0].text == "good"
    assert items[1].problem is not None
    assert "lines 3 to 5" in items[1].problem.detail


def test_unclosed_quote_costs_at_most_the_record_limit(tmp_path: Path) -> None:
    rows = "".join(f"{number},row\n" for number in range(100))
    items = read(write(tmp_path / "a.csv", 'id,text\n1,"open\n' + rows), Limits(record_bytes=200))
    assert items[0].problem is not None
    assert items[0].problem.reason is Reason.TRUNCATED
    assert items[-1].text == "row"


def test_parquet_rows_and_messages_are_read(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    chat = [{"role": "user", "content": "hi"}]
    table = pa.table({"id": [1, 2, 3], "text": ["a", None, "c"], "image": [b"x", b"y", b"z"]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    pq.write_table(pa.table({"messages": [chat]}), tmp_path / "b.parquet")
    source = open_source(tmp_path / "a.parquet")
    items = list(source.items())
    assert source.total == 3
    assert [item.text for item in items] == ["a", "", "c"]
    assert [item.origin.line for item in items] == [1, 2, 3]
    assert items[1].problem is not None
    assert items[2].metadata == {"id": 3}
    assert [item.turns[0].text for item in read(tmp_path / "b.parquet")] == ["hi"]


def test_damaged_parquet_row_group_names_its_rows(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": [f"row {n}" for n in range(100)]}), path, row_group_size=50, compression="zstd"
    )
    second = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    start = second.dictionary_page_offset or second.data_page_offset
    data[start : start + second.total_compressed_size] = b"\xff" * second.total_compressed_size
    items = read(write(path, bytes(data)))
    assert [item.text for item in items[:50]] == [f"row {n}" for n in range(50)]
    assert items[50].problem is not None
    assert "rows 51 to 100" in items[50].problem.detail


@pytest.mark.parametrize(
    ("content", "format_name", "texts"),
    [
        (b'{"text": "a"}\n{"text": "b"}\n', "jsonl", ["a", "b"]),
        (b'{bad}\n{"text": "b"}\n', "jsonl", ["", "b"]),
        (b'[{"text": "a"},\n{"text": "b"}]', "json array", ["a", "b"]),
        (b"[INST] a prompt\n{curly} prompt\n", "text", ["[INST] a prompt", "{curly} prompt"]),
        (b"a\n\nb", "text", ["a", "b"]),
    ],
)
def test_standard_input_is_recognised_by_content(
    monkeypatch: pytest.MonkeyPatch, content: bytes, format_name: str, texts: list[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    source = open_source("-")
    assert source.formats == {format_name: 1}
    assert [item.text for item in source.items()] == texts
    assert [item.text for item in source.items()] == texts
    assert source.input_hash == hashlib.sha256(content).hexdigest()


def test_total_counts_lines_for_a_progress_bar(tmp_path: Path) -> None:
    assert open_source(write(tmp_path / "a.txt", "a\nb")).total == 2
    assert open_source(write(tmp_path / "a.csv", "text\na\nb\n")).total == 2
    assert open_source(write(tmp_path / "a.json", '["a"]')).total is None


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"", "empty file"),
        ("a.txt", b"\n \n", "at least one row"),
        ("a.txt", b"\x00" * 5000, "binary"),
        ("a.txt", "ab".encode("utf-16"), "UTF-16"),
        ("a.jsonl", b"\x1f\x8b\x08rest", "gzip"),
        ("a.jsonl", b"not json\nnor this\n", "line 1: expected one JSON value"),
        ("a.jsonl", b'{"alpha": 1, "what a sentence": 2}\n', "got alpha\\."),
        ("a.json", b'{"a": 1}', "column of text"),
        ("a.csv", b"a,b\n1,2\n", "got a, b"),
        ("a.csv", b"text,text\n1,2\n", "every column name once"),
        ("a.parquet", b"PAR1 and then nothing", "damaged"),
        ("a.pdf", b"%PDF-1.7", "PDF"),
        ("a.md", b"# x", "SKILL.md or a file that ends in"),
    ],
)
def test_input_that_cannot_be_read_at_all_is_an_error(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        open_source(write(tmp_path / name, content))


def test_missing_named_column_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,label\na,b\n")
    with pytest.raises(InputError, match="'verdict'"):
        open_source(path, label="verdict")
    with pytest.raises(InputError, match="'txt'"):
        open_source(path, text="txt")


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "nothing.txt")


def test_file_changed_after_opening_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\n")
    source = open_source(path)
    write(path, "one and more\n")
    with pytest.raises(InputError, match="changed"):
        list(source.items())


def test_description_holds_what_a_run_record_needs(tmp_path: Path) -> None:
    described = open_source(write(tmp_path / "a.csv", "text,label\na,b\n"), label="label").describe()
    assert described["columns"] == {"label": "label"}
    assert described["formats"] == {"csv": 1}
    assert json.dumps(described)


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(UsageError, match="record_bytes"):
        Limits(record_bytes=0)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.json"])
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path, name: str) -> None:
    def peak(rows: int) -> int:
        lines = [json.dumps({"text": f"{number:0500}"}) for number in range(rows)]
        content = {
            "a.txt": "\n".join(lines),
            "a.jsonl": "\n".join(lines),
            "a.csv": "text\n" + ("x" * 500 + "\n") * rows,
            "a.json": "[" + ",\n".join(lines) + "]",
        }[name]
        path = write(tmp_path / name, content)
        del content, lines
        tracemalloc.start()
        try:
            assert sum(1 for _ in open_source(path).items()) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # Both are several times the chunk of a megabyte that is held at once.
    assert peak(12_000) < 1.2 * peak(6_000)


def test_documented_bounds_are_the_real_ones() -> None:
    page = Path(__file__).parents[2].joinpath("docs/inputs.md").read_text(encoding="utf-8")
    units = {1 << 30: "GiB", 1 << 20: "MiB", 1 << 10: "KiB"}
    for name, value in asdict(Limits()).items():
        unit = next((size for size in units if name.endswith("bytes") and value % size == 0), None)
        shown = f"{value:,}" if unit is None else f"{value // unit:,} {units[unit]}"
        assert f"| `{name}` | {shown} |" in page
