"""From a message log to cascade events."""

from __future__ import annotations

import errno
import itertools
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("duckdb")
pytest.importorskip("ibis")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from tocsin.api.trace import trace_log  # noqa: E402
from tocsin.cli import main  # noqa: E402
from tocsin.core.errors import InputError, RunError, UsageError  # noqa: E402
from tocsin.trace.compare.attributes import Attributes  # noqa: E402
from tocsin.trace.log.schema import Columns  # noqa: E402
from tocsin.trace.pipeline import TraceOptions, run_trace  # noqa: E402
from tocsin.trace.simulate import Simulation, simulate  # noqa: E402
from tocsin.trace.spread.cells import pooled, share, spaced, stage_cells  # noqa: E402
from tocsin.trace.spread.records import SpreadStudy  # noqa: E402
from tocsin.trace.stages import Stages  # noqa: E402

STORY = "The bakery on the corner will open again on Monday at seven with fresh rolls for all"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path / "home"))


def write_log(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def row(number: int, group: str, time: object, text: str = STORY, **more: object) -> dict[str, object]:
    return {
        "message_id": f"id-{number}", "group_id": group, "author": "someone", "timestamp": time, "text": text,
        "label": None, "forwarding_score": 0, "media": None, "modality": "chat", **more,
    }  # fmt: skip


def test_the_earliest_message_per_group_counts_and_lonely_items_are_left_out(tmp_path: Path) -> None:
    rows = [
        row(1, "a", 30),
        row(2, "a", 10, f"Forwarded: {STORY}"),
        row(3, "b", 20, STORY.upper() + " 🎉 https://example.org/x"),
        row(4, "c", 5, "Nobody else ever passed this sentence on to any other group"),
        row(5, "b", 40, label="harmful", forwarding_score=127),
        row(6, "c", 50, "ok"),
    ]
    result = run_trace(write_log(tmp_path / "log.jsonl", rows), tmp_path / "out", TraceOptions())
    events = pq.read_table(result.events).to_pylist()
    assert [event["time"] for event in events] == [10, 20]
    assert len({event["node"] for event in events}) == 2
    (cascade,) = pq.read_table(result.attributes).to_pylist()
    assert cascade["label"] == "harmful"
    assert cascade["forwarding_max"] == 5  # 127 stands for five hops or more
    assert (cascade["size"], cascade["messages"]) == (2, 4)
    assert result.counts["clean"]["short"] == 1  # "ok" is short before it is a greeting


def test_a_later_copy_in_the_same_group_changes_no_event(tmp_path: Path) -> None:
    rows = [row(1, "a", 10), row(2, "b", 20)]
    one = run_trace(write_log(tmp_path / "one.jsonl", rows), tmp_path / "one", TraceOptions())
    more = [*rows, row(3, "b", 99)]
    two = run_trace(write_log(tmp_path / "two.jsonl", more), tmp_path / "two", TraceOptions())
    assert pq.read_table(one.events).equals(pq.read_table(two.events))


def test_media_link_by_their_hash_and_never_to_a_text(tmp_path: Path) -> None:
    rows = [
        row(1, "a", 1), row(2, "b", 2),
        row(3, "a", 3, modality="image", media="f00"), row(4, "b", 4, modality="image", media="f00"),
        row(5, "c", 5, modality="video", media="f00"),
    ]  # fmt: skip
    result = run_trace(write_log(tmp_path / "log.jsonl", rows), tmp_path / "out", TraceOptions())
    found = pq.read_table(result.attributes).to_pylist()
    assert sorted((one["modality"], one["size"]) for one in found) == [("chat", 2), ("image", 2)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(1, "a", 1), row(2, "b", "noon")], "row 2: expected a time"),
        ([row(1, "a", 1), row(1, "b", 2)], "row 2: expected every message id once"),
        ([row(1, "a", 1, modality="smell")], "row 1: expected a modality"),
        ([{"message_id": "1", "text": STORY}], "expected the columns group_id, author, timestamp"),
    ],
)
def test_bad_rows_are_named_by_number_and_not_shown(
    tmp_path: Path, rows: list[dict[str, object]], words: str
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        run_trace(write_log(tmp_path / "log.jsonl", rows), tmp_path / "out", TraceOptions())
    assert "bakery" not in str(caught.value)
    assert not (tmp_path / "out/private/read.json").exists()


def test_counters_that_are_absent_stay_unknown(tmp_path: Path) -> None:
    rows = [row(i, f"g{i}", i, forwarding_score=score) for i, score in enumerate([None, -1, 3, 5, 127])]
    result = run_trace(write_log(tmp_path / "log.jsonl", rows), tmp_path / "out", TraceOptions())
    read = pq.read_table(tmp_path / "out/private/read/messages.parquet")
    assert read["forwarding"].to_pylist() == [None, None, 3, 5, 5]
    assert pq.read_table(result.attributes)["forwarding_max"].to_pylist() == [5]


def test_the_earliest_label_counts_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = [row(1, "a", 200, label="late"), row(2, "b", 100, label="early"), row(3, "c", 50)]
    result = run_trace(write_log(tmp_path / "log.jsonl", rows), tmp_path / "out", TraceOptions())
    assert pq.read_table(result.attributes)["label"].to_pylist() == ["early"]


def test_names_with_wildcards_mean_themselves(tmp_path: Path) -> None:
    write_log(tmp_path / "log1.jsonl", [row(1, "a", 1), row(2, "b", 2)])
    log = write_log(tmp_path / "log[1].jsonl", [row(1, "a", 1)])
    assert run_trace(log, tmp_path / "out", TraceOptions()).counts["read"] == {"messages": 1}


def test_milliseconds_long_labels_and_mistyped_columns_are_named(tmp_path: Path) -> None:
    log = write_log(tmp_path / "ms.jsonl", [row(1, "a", 1_700_000_000_000)])
    with pytest.raises(InputError, match="milliseconds"):
        run_trace(log, tmp_path / "a", TraceOptions())
    log = write_log(tmp_path / "label.jsonl", [row(1, "a", 1, label="x" * 81)])
    with pytest.raises(InputError, match="at most 80 characters"):
        run_trace(log, tmp_path / "b", TraceOptions())
    with pytest.raises(InputError, match="expected the columns hamr"):
        run_trace(log, tmp_path / "c", TraceOptions(columns=Columns.mapped(("label=hamr",))))


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("message_id,group_id,author,timestamp,text\n", "utf-8")
    with pytest.raises(InputError, match="at least one message"):
        run_trace(log, tmp_path / "out", TraceOptions())


def test_columns_are_mapped_by_role(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text(f"message_id,chat,author,timestamp,text\n1,a,x,1,{STORY}\n2,b,x,2,{STORY}\n", "utf-8")
    result = run_trace(log, tmp_path / "out", TraceOptions(columns=Columns.mapped(("group=chat",))))
    assert result.counts["events"] == {"events": 2, "cascades": 1}
    with pytest.raises(UsageError, match="ROLE=NAME"):
        Columns.mapped(("planet=mars",))


def test_nothing_exported_holds_a_raw_id_or_text(tmp_path: Path) -> None:
    simulate(Simulation(1500, 40, seed=3), tmp_path / "log")
    log, out = tmp_path / "log/messages.parquet", tmp_path / "out"
    result = trace_log(log, out, TraceOptions(rules=("netinf", "star", "membership")))
    raw = pq.read_table(log).to_pylist()
    private = out / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    exported = {path for path in out.rglob("*") if path.is_file() and private not in path.parents}
    assert {path.name for path in exported} == {
        "result.json", "report.html", "cascades.parquet", "trees.parquet", "network.parquet",
        "network.graphml",
    }  # fmt: skip
    shown = ""
    for path in exported:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            assert not set(table.column_names) & {"text", "author", "message", "row", "item"}
            shown += json.dumps(table.to_pylist())
            shown += str(table.schema.metadata)
        else:
            shown += path.read_text("utf-8")
    for message in raw:
        # Short numbers such as "m000000001" could not occur by chance in the digits of a hash.
        for column in ("message_id", "group_id", "author", "text"):
            assert json.dumps(message[column])[1:-1] not in shown
            assert message[column] not in shown
    # Raw ids are hashed on load: not even the private part holds them.
    nodes = set(pq.read_table(result.events)["node"].to_pylist())
    assert not nodes & {message["group_id"] for message in raw}


def test_small_cells_are_suppressed_everywhere(tmp_path: Path) -> None:
    simulate(Simulation(1500, 40, seed=3), tmp_path / "log")
    log = tmp_path / "log/messages.parquet"
    study = run_trace(log, tmp_path / "out", TraceOptions(min_cell=60)).study
    everything = run_trace(log, tmp_path / "all", TraceOptions(min_cell=1)).study
    assert min(n for n in everything.labels.values() if n is not None) < 60
    assert set(study.labels) <= {"pooled", *everything.labels}
    assert all(n is not None and n >= 60 for n in study.labels.values())
    assert all(row.n >= 60 for row in study.means)
    assert all(one.n_first is None or one.n_first in range(1) or one.n_first >= 60 for one in study.contrasts)
    for tail in study.tails:
        counts = [round(share * (tail.n or 0)) for share in tail.shares]
        assert all(count >= 60 for count in counts)
        assert all(a - b >= 60 for a, b in itertools.pairwise(counts))
    assert study.top == ()
    shown = [value for found in study.stages.values() for value in found.values()]
    assert all(value is None or value == 0 or value >= 60 for value in shown)
    assert all(span.start % 3600 == 0 for span in study.timeline)
    exported = pq.read_table(tmp_path / "all/export/cascades.parquet")
    assert len(exported) == everything.cascades
    assert len(pq.read_table(tmp_path / "out/export/cascades.parquet")) == 0


def test_rare_labels_are_pooled_until_nothing_can_be_had_by_subtraction() -> None:
    labels = np.array(["a"] * 9 + ["b"] * 6 + ["Jane Doe"] + ["c"] * 2)
    found = pooled(Attributes.of(labels), 5)
    # One and two are pooled to three, which are too few; the next rarest, six, join them.
    assert dict(zip(*np.unique(found.labels, return_counts=True), strict=True)) == {"a": 9, "pooled": 9}
    assert set(pooled(Attributes.of(["a"] * 3), 5).labels) == {"pooled"}
    assert set(pooled(Attributes.of(["a"] * 5), 5).labels) == {"a"}
    assert stage_cells({"x": 3, "y": 8, "z": 90, "none": 0}, 5) == {"x": None, "y": None, "z": 90, "none": 0}
    # 10, 9, 7, 4 and 1 of 10: steps of five or more stay, here the first only, then none is far enough.
    assert spaced(np.array([1.0, 0.9, 0.7, 0.4, 0.1]), 10, 5).tolist() == [True] + [False] * 4
    assert share(0.3, 10, 5) is None
    assert share(0.5, 10, 5) == 0.5


def test_a_rare_label_appears_nowhere(tmp_path: Path) -> None:
    rows = [
        row(10 * i + j, f"g{(i + j) % 9}", 100 * i + j, " ".join(chr(97 + i) * n for n in range(3, 15)))
        for i in range(12)
        for j in range(6)
    ]
    rows[0]["label"] = "Jane Doe <b>4711</b>"
    out = tmp_path / "out"
    trace_log(write_log(tmp_path / "log.jsonl", rows), out)
    for path in (out / "result.json", out / "report.html"):
        assert "Jane" not in path.read_text("utf-8")
    assert "Jane" not in str(pq.read_table(out / "export/cascades.parquet").to_pylist())
    assert str(tmp_path) not in (out / "report.html").read_text("utf-8")


def test_the_network_is_graphml_that_networkx_reads(tmp_path: Path) -> None:
    import networkx

    simulate(Simulation(3000, 30, seed=8), tmp_path / "log")
    result = run_trace(tmp_path / "log/messages.parquet", tmp_path / "out", TraceOptions(min_cell=2))
    graph = networkx.read_graphml(result.exported / "network.graphml")
    edges = pq.read_table(result.exported / "network.parquet").to_pylist()
    assert graph.is_directed()
    assert graph.number_of_edges() == len(edges) > 0
    for edge in edges:
        assert graph.edges[edge["source"], edge["target"]]["support"] == edge["support"]


def test_a_detector_labels_what_has_no_label(tmp_path: Path) -> None:
    # Words of their own for each item, so that no two resemble each other.
    stories = [" ".join(chr(97 + i) * n for n in range(3, 15)) for i in range(12)]
    rows = [
        row(2 * i + j, group, 10 * i + j, story + (" heron" if i >= 6 else ""))
        for i, story in enumerate(stories)
        for j, group in enumerate("ab")
    ]
    rows[0]["label"] = "rumour"
    log = write_log(tmp_path / "log.jsonl", rows)

    def has_heron(texts: Iterable[str]) -> Iterator[bool | None]:
        for text in texts:
            yield None if text.startswith("hhh ") else "heron" in text

    options = TraceOptions(labeller="heron", min_cell=1, similarity=0.9)
    result = run_trace(log, tmp_path / "out", options, labeller=has_heron)
    assert result.counts["label"] == {"judged": 11, "flagged": 5, "abstained": 1}
    assert result.study.labels == {"harmful": 5, "other": 6, "rumour": 1}
    with pytest.raises(RunError, match="another log or other options"):
        run_trace(log, tmp_path / "out", TraceOptions(min_cell=1, similarity=0.9))


def test_the_command_writes_a_page_and_hides_texts_until_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate(Simulation(800, 30, seed=3), tmp_path / "log")
    words = ["trace", "run", str(tmp_path / "log/messages.parquet"), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    found = SpreadStudy.model_validate_json(capsys.readouterr().out)
    assert found == SpreadStudy.model_validate_json((tmp_path / "out/result.json").read_text("utf-8"))
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "The range over rules" in page
    assert "<details>" not in page
    assert main([*words, "--include-text"]) == 0
    capsys.readouterr()
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "Show the texts, which may be harmful" in page
    for bad in (["--share", "0"], ["--rule", "netinf", "--rule", "netinf"], ["--similarity", "2"]):
        assert main([*words[:3], "--out", str(tmp_path / "bad"), *bad]) == 2


def test_a_full_disk_is_named_and_the_stage_is_worked_again(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "out", {"log": "x"})

    def fill(part: Path) -> dict[str, int]:
        (part / "half.parquet").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match="No space left"):
        stages.run("read", fill)
    assert not stages.done("read")
    assert stages.run("read", lambda _: {"messages": 1}) == {"messages": 1}
    assert list(stages.path("read").iterdir()) == []


def test_a_full_disk_that_duckdb_meets_is_named_too(tmp_path: Path) -> None:
    import duckdb

    stages = Stages(tmp_path / "out", {"log": "x"})

    def fill(part: Path) -> dict[str, int]:
        # No space, as DuckDB says it: a file where a folder of files cannot be.
        (part / "file").write_text("x", "utf-8")
        duckdb.sql(f"COPY (SELECT 1) TO '{part}/file/below.parquet' (FORMAT parquet)")
        return {}

    with pytest.raises(RunError, match="DuckDB could not go on"):
        stages.run("read", fill)
    assert not stages.done("read")


def test_a_folder_of_another_log_is_refused(tmp_path: Path) -> None:
    Stages(tmp_path / "out", {"log": "x"})
    with pytest.raises(RunError, match="another log"):
        Stages(tmp_path / "out", {"log": "y"})
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine", "utf-8")
    with pytest.raises(RunError, match="new or empty folder"):
        Stages(foreign, {"log": "x"})
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("stage", ["read", "clean", "link", "events", "reconstruct", "study", "export"])
def test_killed_in_a_stage_it_goes_on_there(tmp_path: Path, stage: str) -> None:
    simulate(Simulation(300, 20, seed=4), tmp_path / "log")
    log, out = tmp_path / "log/messages.parquet", tmp_path / "out"
    # The child stops for good once the stage's temporary folder is there, so that the kill meets it inside.
    program = (
        "import sys, time; from pathlib import Path; from tocsin.trace import pipeline, stages\n"
        "real = stages.Stages.run\n"
        "def run(self, name, work):\n"
        f"    return real(self, name, (lambda part: time.sleep(60)) if name == {stage!r} else work)\n"
        "stages.Stages.run = run\n"
        "options = pipeline.TraceOptions(rules=('nearest',))\n"
        "pipeline.run_trace(Path(sys.argv[1]), Path(sys.argv[2]), options)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(log), str(out)])
    part = out / "private" / f"{stage}.part"
    deadline = time.monotonic() + 20
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert part.exists()
    done = {path: path.stat().st_mtime_ns for path in (out / "private").glob("*.json")}
    resumed = run_trace(log, out, TraceOptions(rules=("nearest",)))
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    whole = run_trace(log, tmp_path / "whole", TraceOptions(rules=("nearest",)))
    assert pq.read_table(resumed.events).equals(pq.read_table(whole.events))
    assert resumed.counts == whole.counts
    assert resumed.study == whole.study
