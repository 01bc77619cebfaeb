"""`scan` with the engine `spark`: the same run folder as the embedded engine, from two worker processes."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tocsin
from chat_server import ChatServer, serve
from letters import NAME as LETTERS
from letters import OTHER
from spark_detectors import NAME as WITNESS
from spark_detectors import install
from tocsin.api.judging import CHUNK, Judging
from tocsin.api.progress import Progress
from tocsin.api.scan_options import ScanOptions
from tocsin.api.spark.cluster import Parts
from tocsin.api.spark.judging import QUICK_CHUNKS, SparkJudging
from tocsin.api.spark.worker import Message, Row, Work, answers
from tocsin.cli import main
from tocsin.core.errors import MissingExtraError, RunError, UsageError
from tocsin.core.home import home
from tocsin.core.records import Item, Kind, Origin, Turn
from tocsin.core.results import to_line
from tocsin.core.spark import spark_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MASTER = "local-cluster[2,1,1024]"
QUICK = CHUNK * QUICK_CHUNKS


def items(*texts: str) -> list[Item]:
    origins = (Origin(input_hash="ab", ordinal=number) for number in range(len(texts)))
    return [
        Item(kind=Kind.PROMPT, text=text, origin=origin) for text, origin in zip(texts, origins, strict=True)
    ]


def prompts(path: Path, count: int, **special: str) -> Path:
    """A file of prompts; `row7="text"` is the text of the eighth."""
    texts = [
        special.get(f"row{n}", "b" + "x" * (n % 5) + "a" * (n % 3) + "." * (n % 2)) for n in range(count)
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def ask(options: ScanOptions, given: list[Item], *done: str) -> list[Message]:
    """What a worker answers, without Spark."""
    return list(answers(Work(options, "."), [Row.of(item, done) for item in given]))


# --- the worker's side, which needs no Spark ------------------------------------------------------


def test_a_worker_says_what_the_embedded_engine_says() -> None:
    names = (LETTERS, OTHER)
    given = items(*("x" * (n % 4) + "b" * (n % 3) for n in range(CHUNK + 20)))
    judging = Judging(names, lambda name: ScanOptions(detectors=names).context(name, {}))
    expected = [json.dumps(to_line(result)) for result in judging.results(given, None)]
    messages = ask(ScanOptions(detectors=names), given)
    assert [message.body for message in messages if message.sort == "result"] == expected
    assert [message.sort for message in messages[:3]] == ["detector", "provenance", "result"]
    # One of each for each detector and provenance, not for each item.
    assert sum(message.sort == "detector" for message in messages) == 2


def test_a_worker_leaves_out_what_the_run_has() -> None:
    messages = ask(ScanOptions(detectors=(LETTERS, OTHER)), items("xx", "bb"), LETTERS)
    results = [json.loads(message.body) for message in messages if message.sort == "result"]
    assert [result["detector"] for result in results] == [OTHER, OTHER]


def test_an_item_is_the_same_on_the_worker() -> None:
    item = Item(
        kind=Kind.CHAT,
        turns=(Turn(role="user", text="Grüße, \u4f60\u597d\x00"),),
        references=("one", "two"),
        metadata={"rate": float("inf"), "list": [1, None, {"a": 0.1}]},
        origin=Origin(input_hash="ab", ordinal=7, path="a.jsonl", line=8),
    )
    row = Row.of(item, ())
    assert row.item.isascii()
    assert Item.model_validate(json.loads(row.item)) == item


def test_an_error_on_a_worker_names_its_place_and_not_the_text() -> None:
    messages = ask(ScanOptions(detectors=(WITNESS,)), items("fine", "raise secretword"))
    assert [message.sort for message in messages][-2:] == ["result", "error"]
    assert "ValueError at spark_detectors:" in messages[-1].body
    assert "secretword" not in str(messages)


def test_an_error_of_ours_keeps_its_sort_and_its_words() -> None:
    (error,) = ask(ScanOptions(detectors=(WITNESS,)), items("extra"))
    described = json.loads(error.body)
    assert (described["sort"], described["extra"]) == ("MissingExtraError", "local")


def test_a_worker_with_other_code_is_refused() -> None:
    work = Work(ScanOptions(detectors=(LETTERS,)), ".", code="0.0.1 (code 00)")
    (error,) = answers(work, [Row.of(item, ()) for item in items("x")])
    assert "expected tocsin 0.0.1 (code 00) on every Spark worker" in error.body


def test_a_process_opens_a_detector_once(tmp_path: Path) -> None:
    options = ScanOptions(detectors=(WITNESS,), options={WITNESS: {"folder": str(tmp_path)}}, offline=True)
    work = Work(options, ".")
    for texts in ("ab", "c"):
        assert len(list(answers(work, [Row.of(item, ()) for item in items(*texts)]))) == 2 + len(texts)
    (opened,) = tmp_path.glob("opened-*")
    assert opened.read_text() == "True\n"
    # Another scan with the same options opens it again: its files may be other ones by now.
    ask(options, items("a"))
    assert opened.read_text() == "True\nTrue\n"


def test_relative_paths_mean_the_folder_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    before = Path.cwd()
    options = ScanOptions(detectors=(WITNESS,), options={WITNESS: {"folder": "seen"}})
    assert len(list(answers(Work(options, str(tmp_path)), [Row.of(items("a")[0], ())]))) == 3
    assert len(list((tmp_path / "seen").glob("saw-*"))) == 1
    assert Path.cwd() == before


# --- the driver's side, which needs none either ---------------------------------------------------


def test_answers_wait_in_the_run_folder_whole_or_not_at_all(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    answer = pa.table({"sort": ["result"], "body": ["{}"]})
    Parts(tmp_path / "parts").keep(3, answer)
    later = Parts(tmp_path / "parts")
    loaded = later.load(3)
    assert loaded is not None
    assert loaded.equals(answer)
    assert later.load(2) is None
    (tmp_path / "parts/000000003.parquet").write_bytes(b"PAR1")
    assert later.load(3) is None
    later.drop(3)
    later.drop(3)
    assert list((tmp_path / "parts").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--master", "local[2]"], "Add --engine spark"),
        (["--engine", "flink"], "spark"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = prompts(tmp_path / "in.jsonl", 3)
    assert main(["scan", str(path), "--detector", LETTERS, *words]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_engine_is_refused_from_python() -> None:
    with pytest.raises(UsageError, match="expected an engine"):
        tocsin.scan(["a"], detectors=LETTERS, engine="flink")  # type: ignore[arg-type]


def test_without_pyspark_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py4j.protocol", None)
    with pytest.raises(MissingExtraError, match=r"tocsin\[spark\]"):
        tocsin.scan(["a"], detectors=LETTERS, engine="spark")


def test_without_java_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(UsageError, match="Java 17"):
        tocsin.scan(["a"], detectors=LETTERS, engine="spark")


@pytest.mark.parametrize("master", ["nonsense", "local[two]", "spark://", "http://127.0.0.1:7077", ""])
def test_an_address_that_is_none_is_refused_before_java_starts(master: str) -> None:
    pytest.importorskip("pyspark")
    with pytest.raises(UsageError, match="expected a Spark master"):
        tocsin.scan(["a"], detectors=LETTERS, engine="spark", master=master)


def test_a_scan_that_lacks_nothing_does_not_start_spark(tmp_path: Path) -> None:
    path = prompts(tmp_path / "in.jsonl", 10)
    first = tocsin.scan(path, detectors=LETTERS, out=tmp_path / "run")
    seen: list[Progress] = []
    again = tocsin.scan(
        path, detectors=LETTERS, out=tmp_path / "run", engine="spark", master="nowhere", progress=seen.append
    )
    assert again.was_finished
    assert list(again) == list(first)
    # Also when it was cut short after its last verdict.
    judging = SparkJudging(ScanOptions(detectors=(LETTERS,), engine="spark", master="nowhere"), seen.append)
    assert first.run is not None
    assert list(judging.results(first.source.items(), _All())) == []
    assert "loading" not in [progress.stage for progress in seen]


class _All:
    """A run that has every verdict."""

    def is_done(self, detector: str, ordinal: int) -> bool:
        return True

    def note_detector(self, name: str, identity: object) -> None:
        raise AssertionError

    def flush(self) -> None:
        pass


# --- on a cluster of two worker processes ---------------------------------------------------------


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def cluster(chat: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One session for all tests below, which `scan` joins. Workers have the environment that it began in."""
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java 17")
    folder = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", install(folder / "plugin"))
        patch.setenv("NEAR_BASE_URL", chat.url)
        patch.setenv("NEAR_API_KEY", "none")
        (folder / "home").mkdir()
        for path in home().iterdir():  # the models, but not the cache of replies
            if path.name != "cache":
                (folder / "home" / path.name).symlink_to(path)
        patch.setenv("TOCSIN_HOME", str(folder / "home"))
        with spark_session(MASTER, folder) as session:
            yield session


slow_on_spark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("cluster"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def same_folders(one: Path, two: Path) -> bool:
    names = ("results.jsonl", "provenance.jsonl")
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


class TestOnTwoWorkers:
    pytestmark = slow_on_spark

    def test_the_run_folder_is_that_of_the_embedded_engine(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        prompts(folder / "a.jsonl", 2 * QUICK + 30, row5="", row2100="xxxx secretword")
        (folder / "b.csv").write_text("text\nplain\n\xff\n", "latin-1")
        (folder / "s").mkdir()
        (folder / "s/SKILL.md").write_text("---\nname: s\ndescription: xxxx x\n---\n# Use\n")
        asked = ["scan", str(folder), "--detector", LETTERS, "--detector", OTHER, "--out"]
        assert main([*asked, str(tmp_path / "one")]) == 1
        assert main([*asked, str(tmp_path / "two"), "--engine", "spark", "--master", MASTER]) == 1
        assert same_folders(tmp_path / "one", tmp_path / "two")
        records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two")]
        assert records[0]["detectors"] == records[1]["detectors"] != {}
        assert records[0]["run_id"] == records[1]["run_id"]
        assert records[0]["results"] == records[1]["results"]
        assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
            path.name for path in (tmp_path / "one").iterdir()
        )

    def test_texts_in_memory_are_judged_by_two_processes_that_are_not_this_one(self, tmp_path: Path) -> None:
        found = tocsin.scan(
            ["a"] * (8 * CHUNK),
            detectors=WITNESS,
            options={WITNESS: {"folder": str(tmp_path)}},
            offline=True,
            engine="spark",
            master=MASTER,
        )
        assert [verdict.key.ordinal for verdict in found] == list(range(8 * CHUNK))
        opened = list(tmp_path.glob("opened-*"))
        assert len(opened) == 2
        assert [path.read_text() for path in opened] == ["True\n", "True\n"]
        assert len(list(tmp_path.glob("saw-*"))) == 2

    def test_an_interrupted_scan_goes_on_and_asks_nothing_twice_that_was_answered(
        self, tmp_path: Path
    ) -> None:
        path = prompts(tmp_path / "in.jsonl", 12 * CHUNK)
        seen = tmp_path / "seen"
        seen.mkdir()
        options = {WITNESS: {"folder": str(seen)}}

        def stop(progress: Progress) -> None:
            if progress.stage == "scanning":
                raise KeyboardInterrupt

        asked = {"detectors": WITNESS, "options": options, "out": tmp_path / "run"}
        with pytest.raises(KeyboardInterrupt):
            tocsin.scan(path, **asked, engine="spark", master=MASTER, progress=stop)  # type: ignore[arg-type]
        lines = (tmp_path / "run/results.jsonl").read_text().splitlines()
        assert len(lines) == CHUNK
        kept = {int(part.stem) for part in (tmp_path / "run/parts").glob("[0-9]*.parquet")}
        result = tocsin.scan(path, **asked, engine="spark", master=MASTER)  # type: ignore[arg-type]
        assert [verdict.key.ordinal for verdict in result] == list(range(12 * CHUNK))
        assert not (tmp_path / "run/parts").exists()
        shown = Counter(int(line) for file in seen.glob("saw-*") for line in file.read_text().split())
        assert sorted(shown) == list(range(12 * CHUNK))
        answered = {0, *kept}
        assert {shown[number] for number in shown if number // CHUNK in answered} == {1}

    def test_the_embedded_engine_finishes_what_spark_began_and_the_other_way_round(
        self, tmp_path: Path
    ) -> None:
        path = prompts(tmp_path / "in.jsonl", QUICK + 300)

        def stop(progress: Progress) -> None:
            if progress.stage == "scanning" and progress.done >= CHUNK + 7:
                raise KeyboardInterrupt

        whole = tocsin.scan(path, detectors=LETTERS, out=tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            tocsin.scan(path, detectors=LETTERS, out=tmp_path / "run", progress=stop)
        mixed = tocsin.scan(path, detectors=LETTERS, out=tmp_path / "run", engine="spark", master=MASTER)
        assert list(mixed) == list(whole)
        assert same_folders(tmp_path / "run", tmp_path / "whole")

    def test_a_failure_on_a_worker_is_a_clear_error_without_the_text(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = prompts(tmp_path / "in.jsonl", 20, row9="raise secretword")
        asked = ["scan", str(path), "--detector", WITNESS, "--engine", "spark", "--master", MASTER]
        asked += ["--out", str(tmp_path / "run")]
        assert main(asked) == 2
        shown = capfd.readouterr()
        assert "a detector failed on a Spark worker with ValueError at spark_detectors:" in shown.err
        assert "secretword" not in shown.err + shown.out
        # What came before it is kept, and the failure is not.
        assert len((tmp_path / "run/results.jsonl").read_text().splitlines()) == 9
        assert not list(tmp_path.glob("run/parts/*"))

    def test_a_missing_extra_on_a_worker_is_exit_code_3(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = prompts(tmp_path / "in.jsonl", 3, row1="extra")
        asked = ["scan", str(path), "--detector", WITNESS, "--engine", "spark", "--master", MASTER]
        assert main([*asked, "--out", str(tmp_path / "run")]) == 3
        assert "tocsin[local]" in capsys.readouterr().err

    def test_a_worker_that_dies_again_and_again_ends_the_scan_and_not_the_cluster(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(RunError, match="expected an answer for partition 0 from Spark"):
            tocsin.scan(["die secretword"], detectors=WITNESS, engine="spark", master=MASTER)
        assert len(list(tocsin.scan(["a"], detectors=WITNESS, engine="spark", master=MASTER))) == 1

    def test_a_session_with_another_master_is_refused(self) -> None:
        with pytest.raises(UsageError, match="got a running session on 'local-cluster"):
            tocsin.scan(["a"], detectors=LETTERS, engine="spark", master="local[3]")

    def test_each_worker_opens_the_embedded_model(self, tmp_path: Path) -> None:
        path = prompts(tmp_path / "in.jsonl", CHUNK + 24, row3="How do I bake bread?")
        for name, engine in (("one", "embedded"), ("two", "spark")):
            words = ["--engine", engine, *(["--master", MASTER] if engine == "spark" else [])]
            asked = ["scan", str(path), "--detector", "harmfulness", "--offline", *words]
            assert main([*asked, "--out", str(tmp_path / name)]) in (0, 1, 4)
        assert same_folders(tmp_path / "one", tmp_path / "two")

    def test_workers_ask_a_provider(self, chat: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NEAR_BASE_URL", "http://127.0.0.1:9")  # the driver itself asks nobody
        chat.fail(500)
        result = tocsin.scan(
            ["One.", "Two."],
            detectors="policy",
            model="openai-api/near/small",
            options={"policy": {"retries": 0, "attempts": 1, "passes": 1}},
            engine="spark",
            master=MASTER,
        )
        abstained = [verdict.abstained for verdict in result]
        assert [one.reason.value for one in abstained if one is not None] == ["provider", "provider"]
        assert len(chat.requests) >= 2
