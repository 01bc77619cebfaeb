from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import tocsin
from letters import NAME, OTHER, Letters
from tocsin.api.identity import static_identity
from tocsin.api.judging import CHUNK
from tocsin.api.progress import Progress
from tocsin.api.reporting import baseline_of
from tocsin.core.errors import InputError, ProfileError, RunError, UsageError
from tocsin.core.records import Abstention, Item, Kind, Origin, Reason, Verdict
from tocsin.core.registry import Cost, DetectorContext, detector, lookup
from tocsin.core.run_record import read_record

TEXTS = ["xxxx", "plain words", "", "xxxa", "plain words"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def prompts(count: int, name: str = "in.jsonl") -> Path:
    rows = ({"text": "x" * (n % 5) + "a" * (n % 3 + 1)} for n in range(count))
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Path(name)


def skill(folder: str, description: str) -> None:
    Path(folder).mkdir(parents=True)
    head = f"---\nname: {Path(folder).name}\ndescription: {description}\n---\n"
    (Path(folder) / "SKILL.md").write_text(head + "# Use\n")


def test_texts_in_memory_need_no_run_folder() -> None:
    result = tocsin.scan(TEXTS, detectors=NAME)
    assert [verdict.flagged for verdict in result] == [True, False, None, True, False]
    assert [verdict.key.ordinal for verdict in result.flagged()] == [0, 3]
    assert (result.run, result.report) == (None, None)
    assert list(Path().iterdir()) == []


def test_texts_in_memory_get_a_run_folder_when_one_is_named() -> None:
    first = tocsin.scan(TEXTS, detectors=NAME, out="run")
    built = Letters.built
    again = tocsin.scan(TEXTS, detectors=NAME, out="run")
    assert again.was_finished
    assert Letters.built == built
    assert list(again) == list(first)
    with pytest.raises(RunError, match="different: input_hash"):
        tocsin.scan([*TEXTS, "one more"], detectors=NAME, out="run")


def test_a_text_that_cannot_be_encoded_is_an_abstention() -> None:
    (verdict,) = tocsin.scan(["x\ud800"], detectors=NAME)
    assert verdict.abstained is not None
    assert verdict.abstained.reason is Reason.UNREADABLE


def test_items_keep_their_keys_and_must_not_share_one() -> None:
    items = [Item(kind=Kind.PROMPT, text="xx", origin=Origin(input_hash="h", ordinal=n)) for n in (7, 3)]
    assert [verdict.key for verdict in tocsin.scan(items, detectors=NAME)] == [("h", 7), ("h", 3)]
    with pytest.raises(UsageError, match="equal keys"):
        tocsin.scan([items[0], items[0]], detectors=NAME)


def test_a_mixture_of_texts_and_items_is_refused() -> None:
    item = Item(kind=Kind.PROMPT, text="xx", origin=Origin(input_hash="h", ordinal=0))
    with pytest.raises(UsageError, match="Item and str"):
        tocsin.scan([item, "text"], detectors=NAME)  # type: ignore[arg-type]


def test_a_file_gets_a_run_folder_with_every_verdict_and_a_report() -> None:
    result = tocsin.scan(prompts(10), detectors=NAME)
    assert result.run is not None
    assert result.report is not None
    assert result.run.folder.parent == Path("tocsin-runs")
    assert result.run.folder.name.startswith("scan-")
    assert "<html" in result.report.read_text()
    lines = [json.loads(line) for line in (result.run.folder / "results.jsonl").read_text().splitlines()]
    assert [line["line"] for line in lines] == list(range(1, 11))
    assert "x" * 4 not in (result.run.folder / "results.jsonl").read_text()
    record = read_record(result.run.folder)
    assert record.status == "finished"
    assert record.results == 10
    assert record.detectors == {NAME: {"version": "1", "threshold": 0.5}}


def test_a_finished_scan_is_shown_without_building_a_detector() -> None:
    path = prompts(10)
    first = tocsin.scan(path, detectors=NAME)
    built = Letters.built
    again = tocsin.scan(path, detectors=NAME)
    assert (again.was_finished, Letters.built) == (True, built)
    assert list(again) == list(first)
    assert tocsin.scan(path, detectors=NAME, fresh=True).was_finished is False
    assert Letters.built == built + 1


def test_another_setting_or_input_is_another_run() -> None:
    path = prompts(5)
    folders = {
        tocsin.scan(path, detectors=NAME).run.folder,  # type: ignore[union-attr]
        tocsin.scan(path, detectors=NAME, threshold=0.1).run.folder,  # type: ignore[union-attr]
        tocsin.scan(path, detectors=OTHER).run.folder,  # type: ignore[union-attr]
        tocsin.scan(prompts(6), detectors=NAME).run.folder,  # type: ignore[union-attr]
    }
    assert len(folders) == 4


def test_how_a_scan_is_shown_does_not_make_it_another_run() -> None:
    path = prompts(5)
    first = tocsin.scan(path, detectors=NAME)
    again = tocsin.scan(path, detectors=NAME, include_text=True, batch_size=3)
    assert again.was_finished
    assert again.run is not None
    assert first.run is not None
    assert again.run.folder == first.run.folder


class _StopError(Exception):
    pass


@pytest.mark.parametrize("stop_after", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5, 1000])
def test_an_interrupted_scan_is_finished_by_the_same_call(stop_after: int) -> None:
    path = prompts(2 * CHUNK + 40)
    undisturbed = list(tocsin.scan(path, detectors=[NAME, OTHER], out="whole"))

    def stop(progress: Progress) -> None:
        if progress.stage == "scanning" and progress.done == stop_after:
            raise _StopError

    with pytest.raises(_StopError):
        tocsin.scan(path, detectors=[NAME, OTHER], out="cut", progress=stop)
    assert read_record(Path("cut")).status == "running"
    result = tocsin.scan(path, detectors=[NAME, OTHER], out="cut")
    assert not result.was_finished
    assert list(result) == undisturbed


def test_detectors_see_a_chunk_one_after_the_other() -> None:
    verdicts = list(tocsin.scan(prompts(CHUNK + 1), detectors=[NAME, OTHER]))
    seen = [(verdict.detector, verdict.key.ordinal // CHUNK) for verdict in verdicts]
    assert list(dict.fromkeys(seen)) == [(NAME, 0), (OTHER, 0), (NAME, 1), (OTHER, 1)]


def test_equal_rows_stay_two_rows() -> None:
    Path("in.txt").write_text("xx\nxx\nxx\n")
    assert [verdict.key.ordinal for verdict in tocsin.scan("in.txt", detectors=NAME)] == [0, 1, 2]


def test_a_named_detector_abstains_on_kinds_it_does_not_read() -> None:
    skill("skills/one", "a helpful thing")
    prompts(1, "skills/in.jsonl")
    result = tocsin.scan("skills", detectors=[NAME, OTHER])
    found = {
        (v.detector, v.abstained.reason if v.abstained else None) for v in result if v.key.ordinal in (0, 1)
    }
    assert found == {(NAME, None), (NAME, Reason.UNSUPPORTED_KIND), (OTHER, None)}
    outcomes = result.summary
    assert outcomes.items == 2
    assert outcomes.partial == 1


def test_by_default_skills_and_texts_go_to_different_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.api.panel.DEFAULT_FOR_TEXT", NAME)
    monkeypatch.setattr("tocsin.api.panel.DEFAULT_FOR_SKILLS", OTHER)
    monkeypatch.setattr("tocsin.api.panel.DEFAULTS", (NAME, OTHER))
    skill("skills/one", "a helpful thing")
    prompts(2, "skills/in.jsonl")
    result = tocsin.scan("skills")
    assert sorted((row.verdict.detector, str(row.kind)) for row in result.rows()) == [
        (NAME, "prompt"),
        (NAME, "prompt"),
        (OTHER, "skill"),
    ]
    assert not any(verdict.abstained for verdict in result)
    # A detector that no item needs is never built.
    built = Letters.built
    tocsin.scan(prompts(3))
    assert Letters.built == built + 1


def test_an_unreadable_row_is_an_abstention_of_every_detector() -> None:
    Path("in.jsonl").write_text('{"text": "xx"}\n{"text": \n{"text": "aa"}\n')
    verdicts = list(tocsin.scan("in.jsonl", detectors=[NAME, OTHER]))
    unread = [v for v in verdicts if v.abstained]
    assert [(v.detector, v.key.ordinal, v.abstained.reason) for v in unread if v.abstained] == [
        (NAME, 1, Reason.UNREADABLE),
        (OTHER, 1, Reason.UNREADABLE),
    ]


def test_an_item_read_in_part_is_never_clean() -> None:
    origin = Origin(input_hash="h", ordinal=0)
    item = Item(kind=Kind.PROMPT, text="aaa", origin=origin, partial=("the rest was not read",))
    outcomes = tocsin.scan([item], detectors=NAME).summary
    assert (outcomes.clean, outcomes.partial) == (0, 1)


def test_a_problem_is_passed_on_without_building_the_detector() -> None:
    problem = Abstention(reason=Reason.UNREADABLE, detail="not UTF-8")
    item = Item(kind=Kind.PROMPT, origin=Origin(input_hash="h", ordinal=0), problem=problem)
    built = Letters.built
    (verdict,) = tocsin.scan([item], detectors=NAME)
    assert verdict.abstained == problem
    assert Letters.built == built


def test_a_threshold_can_be_given_for_all_or_by_name() -> None:
    texts = ["xaa"]
    assert [v.flagged for v in tocsin.scan(texts, detectors=[NAME, OTHER])] == [False, False]
    assert [v.flagged for v in tocsin.scan(texts, detectors=[NAME, OTHER], threshold=0.1)] == [True, True]
    by_name = tocsin.scan(texts, detectors=[NAME, OTHER], threshold={OTHER: 0.1})
    assert [v.flagged for v in by_name] == [False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detectors": "letterz"}, "Did you mean letters"),
        ({"detectors": [NAME, NAME]}, "asked for twice"),
        ({"detectors": NAME, "threshold": 1.5}, "from 0 to 1, got 1.5"),
        ({"detectors": NAME, "threshold": {"biopsy": 0.5}}, "'biopsy' has no detector to go to"),
        ({"detectors": NAME, "options": {"biopsy": {"k": 1}}}, "'biopsy' has no detector to go to"),
        ({"detectors": NAME, "model": "embeded"}, "names no model"),
        ({"detectors": NAME, "kind": "poem"}, "expected a kind"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tocsin.scan(TEXTS, **arguments)  # type: ignore[arg-type]


def test_inputs_and_profiles_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError):
        tocsin.scan("nowhere.txt", detectors=NAME)
    with pytest.raises(ProfileError, match="expected the folder of a profile"):
        tocsin.scan(prompts(1), detectors=NAME, profile="nowhere")


def test_a_baseline_silences_what_it_lists_and_nothing_else() -> None:
    path = prompts(10)
    first = tocsin.scan(path, detectors=NAME)
    flagged = {verdict.key.ordinal for verdict in first.flagged()}
    assert flagged
    baseline_of(first.rows(), None, reason="reviewed").save("known.json")
    again = tocsin.scan(path, detectors=NAME, baseline="known.json")
    assert again.was_finished
    assert list(again.flagged()) == []
    assert again.summary.known == len(flagged)
    with path.open("a") as file:
        file.write('{"text": "xxxxxxx"}\n')
    changed = tocsin.scan(path, detectors=NAME, baseline="known.json")
    assert [verdict.key.ordinal for verdict in changed.flagged()] == [10]


def test_a_baseline_silences_format_findings_too() -> None:
    skill("skills/One_Bad_Name", "a helpful thing")
    first = tocsin.scan("skills", detectors=OTHER)
    rules = {finding.rule for row in first.rows() for finding in row.findings}
    assert rules
    baseline_of(first.rows(), None).save("known.json")
    again = tocsin.scan("skills", detectors=OTHER, baseline="known.json")
    assert {rule for row in again.rows() for rule in row.known_rules} == rules


def test_text_is_shown_only_when_asked_for_and_for_the_right_item() -> None:
    path = prompts(CHUNK + 20)
    result = tocsin.scan(path, detectors=[NAME, OTHER])
    assert all(row.text is None for row in result.rows())
    rows = list(result.rows(include_text=True))
    expected = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    assert len(rows) == 2 * len(expected)
    assert all(row.text == {"text": expected[row.origin.ordinal]} for row in rows)


def test_progress_counts_to_the_end() -> None:
    seen: list[Progress] = []
    tocsin.scan(prompts(300), detectors=[NAME, OTHER], progress=seen.append)
    scanning = [progress for progress in seen if progress.stage == "scanning"]
    assert (scanning[-1].done, seen[-1].stage) == (600, "reporting")
    assert [progress.done for progress in scanning] == sorted(progress.done for progress in scanning)


def test_a_detector_that_breaks_its_contract_is_named() -> None:
    class Reversed(Letters):
        def detect(self, items: Iterable[Item]) -> Iterator[Verdict]:
            return reversed(list(super().detect(items)))

    @detector(
        "reversed", summary="", kinds=[Kind.PROMPT], cost=Cost.TEXT_ONLY, polarity="", threshold_rule=""
    )
    def build(context: DetectorContext) -> Reversed:
        return Reversed(lookup("reversed").info, context)

    with pytest.raises(RuntimeError, match="'reversed' broke its contract"):
        tocsin.scan(["a", "b"], detectors="reversed")


def test_identity_follows_models_and_profiles() -> None:
    def now(model: str = "embedded", profile: Path | None = None) -> object:
        return static_identity([NAME], model=model, profile=profile)

    assert now() == now()
    folder = Path("profile")
    folder.mkdir()
    (folder / "profile.json").write_text("{}")
    empty = now(profile=folder)
    assert empty != now()
    (folder / "profile.json").write_text("[]")
    assert now(profile=folder) != empty
    model = Path("model")
    model.mkdir()
    (model / "config.json").write_text("{}")
    before = now("model")
    (model / "weights.safetensors").write_text("0")
    assert now("model") != before
