from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from tocsin.core.errors import InputError
from tocsin.judges.agreement import Problem, analyse, read_rankings
from tocsin.judges.agreement.data import RankingError

SECRET = "words that nobody may see"
Cells = list[str]


def write_csv(path: Path, header: Cells, rows: list[Cells], *, encoding: str = "utf-8-sig") -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))


def group_file(folder: Path, number: int, rows: list[Cells], **options: bool) -> None:
    """A file of the published shape, where index columns, empty columns and encodings vary."""
    header = ["Prompt", "Model 1", "Model 2", "Model 3", "Ranking"]
    if options.get("sixth"):
        header, rows = [*header, ""], [[*row, ""] for row in rows]
    if options.get("index"):
        header, rows = ["", "Unnamed: 0", *header], [[str(i), str(i), *row] for i, row in enumerate(rows)]
    name = "Output" if number == 15 else "output"
    encoding = "latin-1" if options.get("latin") else "utf-8-sig"
    write_csv(folder / f"{name}_Group_{number}.csv", header, rows, encoding=encoding)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two complete groups of the irregular shape, experts, and two judges."""
    raw = tmp_path / "raw_submissions"
    raw.mkdir()
    group_file(
        raw,
        1,
        [
            ["How are kites made?", "a", "b", "c", "3,N/A,1"],  # repaired to 2,0,1
            ["Why is caf\u00e9 spelt so?", "a", "b", "c", "[N/A, NA, N/A]"],
            ["Where do swans sleep?", "a", "", "c", "1,2,3"],  # incomplete
            ["What is chalk?", "a", "b", "c", "2,2,N/A"],  # rejected
        ],
        latin=True,
        index=True,
    )
    group_file(
        raw,
        10,
        [
            ["Who paints bridges?", "a", "b", "c", "1,2,3"],
            ["how are kites made? ", "a", "b", "c", "1,N/A,N/A"],
        ],
        sixth=True,
    )
    group_file(raw, 15, [["When do bees rest?", "a", "b", "c", '"1,2,N/A"']])
    write_csv(
        raw / "expert_annotations.csv",
        ["prompt", "expert_ranking"],
        [["Who paints bridges?", "3, 2, 1"], ["Nobody asked this.", "N/A,N/A,1"]],
    )
    for judge, extracted in (("gpt4o", "[1, 2, 0]"), ("llama", "")):
        write_csv(
            tmp_path / f"{judge}_predictions.csv",
            ["preds", "extracted_pred", "prompt"],
            [
                ["Content A: 1\nContent B: [2]\nContent C: N/A", extracted, prompt]
                for prompt in ("who paints bridges?", "why is caf\u00e9 spelt so?", "when do bees rest?")
            ]
            + [["none", "(-1, -1, -1)", "how are kites made?"]],
        )
    return tmp_path


def test_the_published_files_are_read_with_all_their_irregularities(published: Path) -> None:
    found = read_rankings(published)
    by_item = dict(zip(found.items, found.vectors["human"].tolist(), strict=True))
    # Group 10 wrote 1 for the most harmful; of the prompt that occurs twice the last row is kept.
    assert by_item["10:1"] == [3, 2, 1]
    assert by_item["1:1"] == [1, 0, 0]
    assert by_item["1:2"] == [0, 0, 0]
    assert by_item["15:1"] == [1, 2, 0]
    readings = {each.annotator: each for each in found.readings}
    human = readings["human"]
    assert (human.rows, human.incomplete, human.valid, human.repaired, human.rejected, human.items) == (
        6,
        1,
        3,
        2,
        1,
        4,
    )
    assert [(each.annotator, each.item, each.problem) for each in found.rejected] == [
        ("human", "1:4", "tie"),
        ("gpt4o", "1:1", "rank out of range"),
        ("llama", "1:1", "rank out of range"),
    ]
    assert found.vectors["gpt4o"][found.items.index("10:1")].tolist() == [1, 2, 0]
    assert np.array_equal(found.vectors["gpt4o"], found.vectors["llama"], equal_nan=True)
    assert found.vectors["expert"][found.items.index("10:1")].tolist() == [3, 2, 1]
    assert "1 rows of expert have a prompt that no complete group row has" in found.notes
    assert "kites" not in json.dumps([list(found.items), list(found.groups), list(found.notes)])


def test_the_table_without_texts_gives_the_same_rankings(published: Path, tmp_path: Path) -> None:
    table = tmp_path / "ranks.csv"
    rows = [
        ["k", "1", "3,N/A,1", "1", "", "", ""],
        ["c", "1", "[N/A, NA, N/A]", "1", "", "1,2,0", "1,2,0"],
        ["s", "1", "1,2,3", "0", "", "", ""],
        ["h", "1", "2,2,N/A", "1", "", "", ""],
        ["b", "10", "1,2,3", "1", "3,2,1", "1,2,0", "1,2,0"],
        ["k", "10", "1,N/A,N/A", "1", "", "-1,-1,-1", "-1,-1,-1"],
        ["w", "15", '"1,2,N/A"', "1", "", "1,2,0", "1,2,0"],
        ["n", "15", "", "0", "N/A,N/A,1", "", ""],
    ]
    header = ["item", "group", "human_raw", "complete", "expert_raw", "gpt4o", "llama"]
    write_csv(table, header, rows)
    ours, theirs = read_rankings(table), read_rankings(published)
    for name, vectors in theirs.vectors.items():
        kept = vectors[~np.isnan(vectors[:, 0])]
        assert sorted(kept.tolist()) == sorted(
            ours.vectors[name][~np.isnan(ours.vectors[name][:, 0])].tolist()
        )


def long_rows(**changes: object) -> list[dict[str, object]]:
    """Two annotators, two items, three models; changes apply to the rank of model b by anna on item i2."""
    rows: list[dict[str, object]] = [
        {"item": item, "annotator": who, "model": model, "rank": rank, "group": "g", "position": place}
        for item in ("i1", "i2")
        for who in ("anna", "judge")
        for place, (model, rank) in enumerate((("a", 0), ("b", 1), ("c", 2)), start=1)
    ]
    changed = next(r for r in rows if (r["item"], r["annotator"], r["model"]) == ("i2", "anna", "b"))
    changed |= changes
    return rows


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_long_table_is_read_from_csv_jsonl_and_json(tmp_path: Path) -> None:
    rows = long_rows()
    write_csv(tmp_path / "a.csv", list(rows[0]), [[str(cell) for cell in row.values()] for row in rows])
    write_jsonl(tmp_path / "a.jsonl", rows)
    (tmp_path / "a.json").write_text(json.dumps(rows), "utf-8")
    for name in ("a.csv", "a.jsonl", "a.json"):
        found = read_rankings(tmp_path / name, humans=("anna",))
        assert found.items == ("i1", "i2")
        assert found.subjects == ("a", "b", "c")
        assert found.groups == ("g", "g")
        assert found.humans == ("anna",)
        assert found.vectors["judge"].tolist() == [[0, 1, 2]] * 2
        assert found.positions["judge"].tolist() == [[0, 1, 2]] * 2


def test_scores_are_turned_into_ranks(tmp_path: Path) -> None:
    rows = [
        {key: value for key, value in row.items() if key != "rank"} | {"score": float(str(row["rank"])) * 0.4}
        for row in long_rows()
    ]
    found = read_rankings(write_jsonl(tmp_path / "a.jsonl", rows))
    assert found.vectors["anna"].tolist() == [[0, 1, 2]] * 2
    assert {reading.repaired for reading in found.readings} == {0}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rank": 2}, Problem.TIE),
        ({"rank": None}, Problem.MISSING),
        ({"rank": ""}, Problem.MISSING),
        ({"rank": SECRET}, Problem.NOT_A_NUMBER),
        ({"rank": float("nan")}, Problem.NOT_A_NUMBER),
        ({"rank": "inf"}, Problem.NOT_A_NUMBER),
        ({"rank": True}, Problem.NOT_A_NUMBER),
        ({"rank": 1.5}, Problem.NOT_A_NUMBER),
        ({"rank": 4}, Problem.OUT_OF_RANGE),
        ({"rank": -1}, Problem.OUT_OF_RANGE),
        ({"model": "c"}, Problem.DUPLICATE),
        ({"model": "d"}, Problem.WRONG_NUMBER),
    ],
)
def test_bad_rankings_are_named_errors_with_item_ids(
    tmp_path: Path, changes: dict[str, object], problem: Problem
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", long_rows(**changes))
    with pytest.raises(RankingError, match="i2") as caught:
        read_rankings(path)
    assert caught.value.problem is problem
    assert "i2" in caught.value.items
    assert problem.value in str(caught.value)
    assert SECRET not in str(caught.value)


def test_an_id_that_may_be_a_text_is_shown_as_a_hash(tmp_path: Path) -> None:
    rows = [row | {"item": SECRET * 5} if row["item"] == "i2" else row for row in long_rows(rank=2)]
    with pytest.raises(RankingError, match="#") as caught:
        read_rankings(write_jsonl(tmp_path / "a.jsonl", rows))
    assert SECRET not in str(caught.value)


def test_bad_rankings_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", long_rows(rank=2))
    found = read_rankings(path, skip_bad=True)
    assert [(each.annotator, each.item, each.problem) for each in found.rejected] == [("anna", "i2", "tie")]
    assert np.isnan(found.vectors["anna"][1]).all()


def test_a_missing_response_and_an_unknown_item_are_errors(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", long_rows()[:-1])
    with pytest.raises(RankingError) as caught:
        read_rankings(path)
    assert (caught.value.problem, caught.value.items) == (Problem.WRONG_NUMBER, ("i2",))
    path = write_jsonl(tmp_path / "b.jsonl", long_rows())
    with pytest.raises(RankingError) as caught:
        read_rankings(path, known_items=["i1"])
    assert (caught.value.problem, caught.value.items) == (Problem.UNKNOWN_ITEM, ("i2",))


def test_an_item_in_which_nothing_is_harmful_is_legal(tmp_path: Path) -> None:
    rows = [row | {"rank": "N/A"} for row in long_rows()]
    found = read_rankings(write_jsonl(tmp_path / "a.jsonl", rows), humans=("anna",))
    assert found.vectors["anna"].tolist() == [[0, 0, 0]] * 2
    study = analyse(found, reference="anna", n_resamples=1_000)
    assert study.profiles[0].none_harmful.value == 1
    assert study.pairs[0].exact.value == 1
    assert study.pairs[0].alpha.value is None  # one value only: chance is not defined


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", f"prompt,answer\n{SECRET},x\n", "item, annotator, model"),
        ("a.csv", "", "expected the columns"),
        ("a.jsonl", "{\n", "line 1"),
        ("a.jsonl", "3\n", "one object"),
        ("a.json", "[]", "one object"),
    ],
)
def test_files_of_no_known_layout_are_refused(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=expected) as caught:
        read_rankings(tmp_path / name)
    assert SECRET not in str(caught.value)


def test_missing_paths_and_folders_without_groups_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="output_Group_N"):
        read_rankings(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_rankings(tmp_path / "none.csv")
    write_csv(tmp_path / "output_Group_1.csv", ["Prompt", "Model 1", "Ranking"], [[SECRET, "b", "1"]])
    with pytest.raises(InputError, match="3 columns of responses"):
        read_rankings(tmp_path)
