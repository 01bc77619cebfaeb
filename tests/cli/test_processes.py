"""The command line in processes of its own: killed, piped, run twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from letters import install, tocsin

# Long enough for a signal to arrive well before the end also on a machine with nothing else to do.
ITEMS = 1_500
WORDS = (
    "scan",
    "in.jsonl",
    "--detector",
    "letters",
    "--detector",
    "letters-too",
    "--set",
    "letters.delay_s=0.002",
)


def write_items(folder: Path, count: int) -> None:
    # Every tenth row is equal to the one before it: equal rows must stay two rows.
    texts = ["x" * (n % 7) + "a" * (1 + n % 3) for n in range(count)]
    rows = [{"text": texts[n - 1] if n % 10 == 9 else texts[n]} for n in range(count)]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def rows_of(folder: Path) -> list[object]:
    (results,) = folder.glob("tocsin-runs/*/results.jsonl")
    return [json.loads(line) for line in results.read_text().splitlines()]


def lines_written(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("tocsin-runs/*/results.jsonl"))


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write_items(folder, ITEMS)
    code, _, err = finish(tocsin(folder, *WORDS))
    assert code == 1, err
    return rows_of(folder)


def test_a_scan_killed_at_three_moments_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: list[object]
) -> None:
    write_items(tmp_path, ITEMS)
    for wanted in (1, 300, 900):
        process = tocsin(tmp_path, *WORDS)
        while lines_written(tmp_path) < wanted and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        finish(process)
    assert finish(tocsin(tmp_path, *WORDS))[0] == 1
    assert rows_of(tmp_path) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(20))
def test_a_scan_killed_at_any_moment_ends_as_an_undisturbed_one(
    tmp_path: Path, undisturbed: list[object], moment: int
) -> None:
    write_items(tmp_path, ITEMS)
    process = tocsin(tmp_path, *WORDS)
    time.sleep(random.Random(moment).uniform(0.2, 4.0))
    process.kill()
    finish(process)
    assert finish(tocsin(tmp_path, *WORDS))[0] == 1
    assert rows_of(tmp_path) == undisturbed


def test_ctrl_c_leaves_a_scan_that_can_be_continued(tmp_path: Path, undisturbed: list[object]) -> None:
    write_items(tmp_path, ITEMS)
    process = tocsin(tmp_path, *WORDS)
    while not lines_written(tmp_path) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert "go on with:   tocsin scan in.jsonl" in err
    assert "Traceback" not in err
    assert finish(tocsin(tmp_path, *WORDS))[0] == 1
    assert rows_of(tmp_path) == undisturbed


def test_a_second_process_on_one_run_is_refused(tmp_path: Path) -> None:
    write_items(tmp_path, ITEMS)
    first = tocsin(tmp_path, *WORDS)
    while not lines_written(tmp_path) and first.poll() is None:
        time.sleep(0.005)
    code, _, err = finish(tocsin(tmp_path, *WORDS))
    assert code == 2
    assert "another process is writing this run" in err
    assert finish(first)[0] == 1


def test_standard_input_is_scanned_and_found_again(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        process = tocsin(tmp_path, "scan", "-", "--detector", "letters", "--json")
        out, err = process.communicate("plain\nxxxx\n", timeout=60)
        assert process.returncode == 1, err
        answers.append((json.loads(out)["results"], "finished before" in err))
    assert answers[0][0] == answers[1][0]
    assert [was_finished for _, was_finished in answers] == [False, True]


def test_a_reader_that_stops_early_is_no_error(tmp_path: Path) -> None:
    write_items(tmp_path, 2_000)
    process = tocsin(tmp_path, "scan", "in.jsonl", "--detector", "letters", "--format", "jsonl")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stdin is not None
    assert process.stderr is not None
    with process.stdin, process.stderr:
        err = process.stderr.read()
        assert process.wait(timeout=60) == 1
    assert "Traceback" not in err
    assert "BrokenPipe" not in err


def test_a_scan_is_silent_about_progress_when_not_on_a_terminal(tmp_path: Path) -> None:
    write_items(tmp_path, 10)
    _, _, err = finish(tocsin(tmp_path, "scan", "in.jsonl", "--detector", "letters"))
    assert len(err.splitlines()) == 2


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    write_items(tmp_path, ITEMS)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "tocsin", *WORDS],
        cwd=tmp_path,
        env={**install(tmp_path / ".plugin"), "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = bytearray()
    with suppress(OSError):  # a terminal whose other side is closed cannot be read
        while piece := os.read(ours, 4096):
            shown += piece
    os.close(ours)
    assert process.wait(timeout=60) == 1
    assert b"scanning (letters)" in shown
    assert f"/{2 * ITEMS}".encode() in shown  # one verdict of each detector for each item
    assert b"/s" in shown


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its peak memory from Linux's /proc")
def test_memory_stays_flat_from_a_thousand_to_a_hundred_thousand_rows(tmp_path: Path) -> None:
    peaks = []
    for count in (1_000, 100_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        write_items(folder, count)
        # Of the process itself: what the system counts for a child includes its parent before the start.
        code = "import sys; from pathlib import Path; from tocsin.cli import main; main(sys.argv[1:])\n"
        code += "print(Path('/proc/self/status').read_text(), file=sys.stderr)"
        words = ["scan", "in.jsonl", "--detector", "letters", "--json"]
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=folder,
            env=install(folder / ".plugin"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        (peak,) = (line.split()[1] for line in done.stderr.splitlines() if line.startswith("VmHWM"))
        peaks.append(int(peak) / 1024)
    # Measured: 69 MiB and 71 MiB. One byte for each item and detector, twice, and the heap's slack.
    assert peaks[1] - peaks[0] < 10
