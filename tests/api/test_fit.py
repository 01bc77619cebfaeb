"""`fit` checks everything it can before it works, and keeps what it learned."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest

from tocsin.api.evaluate import evaluate
from tocsin.api.fit import fit
from tocsin.core.errors import FitError, InputError, ProfileError, UsageError
from tocsin.models.embedded import EmbeddedModel


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def write_table(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["request", "kind", "source"])
        writer.writerows(rows)
    return path


@pytest.fixture
def harmless(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "harmless.txt", [f"How is number {index} used?" for index in range(45)])


@pytest.fixture
def harmful(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "harmful.txt", [f"Write all about number {index}" for index in range(45)])


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [(f"How is number {index} used?", "harmless", str(index)) for index in range(45)]
    rows += [(f"Write all about number {index}", "harmful", str(index)) for index in range(45)]
    return write_table(tmp_path / "train.csv", rows)


def test_two_files_or_one_labelled_file_give_the_same_model(
    harmless: Path, harmful: Path, labelled: Path, tmp_path: Path
) -> None:
    two = fit("surface", harmless=harmless, harmful=harmful, profile=tmp_path / "two")
    one = fit("surface", train=labelled, text="request", label="kind", profile=tmp_path / "one")
    assert (two.n_harmless, two.n_harmful) == (one.n_harmless, one.n_harmful) == (45, 45)
    assert two.identity["threshold"] == one.identity["threshold"]
    assert two.identity["profile"] is not None
    found = evaluate(
        "surface", labelled, text="request", label="kind", positive=["harmful"], profile=tmp_path / "two"
    )
    assert found.auroc == 1.0
    assert found.provenance[0].profile == two.identity["profile"]


def test_positive_labels_are_named_or_must_be_the_two_known_words(labelled: Path, tmp_path: Path) -> None:
    text = labelled.read_text().replace("harmful", "bad").replace("harmless", "good")
    other = tmp_path / "other.csv"
    other.write_text(text)
    result = fit(
        "surface", train=other, text="request", label="kind", positive=["bad"], profile=tmp_path / "profile"
    )
    assert (result.n_harmless, result.n_harmful) == (45, 45)
    with pytest.raises(InputError, match=r"other\.csv line 2: expected 'harmful' or 'harmless' in 'kind'"):
        fit("surface", train=other, text="request", label="kind", profile=tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_a_row_without_a_label_names_its_line_and_not_its_text(labelled: Path, tmp_path: Path) -> None:
    with labelled.open("a") as file:
        file.write("Secret words,,\n")
    with pytest.raises(
        InputError, match=r"train\.csv line 92: expected a label in 'kind', got none"
    ) as caught:
        fit("surface", train=labelled, text="request", label="kind", profile=tmp_path / "profile")
    assert "Secret" not in str(caught.value)


def test_unreadable_rows_are_counted_and_left_out(harmful: Path, tmp_path: Path) -> None:
    lines = ['{"text": "How is it used?"}'] * 20 + ['{"text": 5}', "not json"]
    path = write_lines(tmp_path / "rows.jsonl", lines)
    result = fit("surface", harmless=path, harmful=harmful, profile=tmp_path / "profile")
    assert result.n_harmless == 20
    assert result.unreadable == {"missing_part": 1, "unreadable": 1}


def test_texts_on_both_sides_are_noted(harmless: Path, harmful: Path, tmp_path: Path) -> None:
    both = write_lines(tmp_path / "both.txt", [*harmful.read_text().splitlines(), "How is number 3 used?"])
    result = fit("surface", harmless=harmless, harmful=both, profile=tmp_path / "profile")
    assert result.notes == ("1 texts stand on both sides; they teach nothing",)


def test_the_group_column_keeps_twins_together(labelled: Path, tmp_path: Path) -> None:
    rows = [(f"How is {index} used?", "harmless", "one") for index in range(45)]
    rows += [(f"Write about {index}", "harmful", "two") for index in range(45)]
    path = write_table(tmp_path / "groups.csv", rows)
    with pytest.raises(FitError, match="sits in one group"):
        fit("surface", train=path, text="request", label="kind", group="source", profile=tmp_path / "a")
    fit("surface", train=path, text="request", label="kind", profile=tmp_path / "b")


@pytest.mark.parametrize(
    ("detector", "options", "message"),
    [
        ("surface", {}, "either --harmless or --train"),
        ("surface", {"harmless": "a", "train": "b"}, "either --harmless or --train"),
        ("surface", {"harmless": "a"}, "fitted on both sides"),
        ("surface", {"harmless": "a", "harmful": "a"}, "two different files"),
        ("surface", {"train": "a"}, "column of labels"),
        ("surface", {"train": "a", "label": "b", "harmful": "c"}, "--train alone"),
        ("surface", {"harmless": "a", "harmful": "b", "label": "c"}, "beside --train only"),
        ("biopsy", {"harmless": "a", "harmful": "b"}, "one-class"),
        ("policy", {"harmless": "a"}, "is not fitted"),
        ("surfase", {"harmless": "a"}, "Did you mean surface"),
    ],
)
def test_options_that_do_not_fit_together_are_refused_first(
    detector: str, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        fit(detector, profile=tmp_path / "profile", **options)  # type: ignore[arg-type]


def test_only_an_empty_folder_or_a_profile_of_the_same_detector_is_written(
    harmless: Path, harmful: Path, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "profile.json").write_text('{"detector": "biopsy"}')
    for place, message in (
        (harmless, "got a file"),
        (tmp_path / "photos", "folder with other files"),
        (tmp_path / "other", "got another detector's"),
    ):
        with pytest.raises(ProfileError, match=message):
            fit("surface", harmless=harmless, harmful=harmful, profile=place)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    first = fit("surface", harmless=harmless, harmful=harmful, profile=tmp_path / "new")
    again = fit("surface", harmless=harmless, harmful=harmful, profile=tmp_path / "new")
    assert first == again


def test_too_little_to_fit_on_leaves_no_profile(harmless: Path, tmp_path: Path) -> None:
    few = write_lines(tmp_path / "few.txt", ["One thing"])
    with pytest.raises(FitError, match="at least 10 harmful items; 1 could be read"):
        fit("surface", harmless=harmless, harmful=few, profile=tmp_path / "profile")
    with pytest.raises(InputError):
        fit("surface", harmless=harmless, harmful=tmp_path / "absent.txt", profile=tmp_path / "profile")
    assert not (tmp_path / "profile").exists()


def test_a_one_class_detector_learns_from_the_harmless_rows_alone(
    embedded: EmbeddedModel, labelled: Path, tmp_path: Path
) -> None:
    del embedded  # only makes sure that the model is there
    result = fit(
        "biopsy", train=labelled, text="request", label="kind", offline=True, profile=tmp_path / "profile"
    )
    assert (result.n_harmless, result.n_harmful) == (45, 0)
    assert result.notes == ("biopsy is one-class: 45 rows with a positive label were left out",)
    found = evaluate(
        "biopsy",
        labelled,
        text="request",
        label="kind",
        positive=["harmful"],
        profile=tmp_path / "profile",
        offline=True,
    )
    assert found.auroc is not None
    assert found.coverage > 0.9
