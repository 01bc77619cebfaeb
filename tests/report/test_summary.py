from __future__ import annotations

import itertools
import random
import tracemalloc

from hypothesis import given
from hypothesis.strategies import floats, lists
from made_up import provenance, row, rows

from tocsin.core.records import Finding, Kind, Reason
from tocsin.report import Outcomes, summarise
from tocsin.report.summary import DISTINCT_NAMES, OTHER, TOP_PLACES, PointSample, Tally

FINDING = Finding(rule="skill/name-missing", message="expected a name, got none", line=2)


def test_every_item_falls_in_one_class() -> None:
    summary = summarise(
        [
            row(0, 0.9),
            row(1, 0.9, known=True),
            row(2, reason=Reason.EMPTY),
            row(3, 0.1, left_out=("3 windows",)),
            row(4, 0.1, partial=("file cut at 1 MB",)),
            row(5, 0.1),
        ]
    )
    assert summary.outcomes() == Outcomes(items=6, flagged=1, known=1, not_judged=1, partial=2, clean=1)


def test_an_item_is_flagged_when_any_detector_flags_it_and_partial_when_one_abstains() -> None:
    summary = summarise(
        [
            row(0, 0.1, detector="a"),
            row(1, 0.1, detector="a"),
            row(2, reason=Reason.CODE, detector="a"),
            row(0, 0.9, detector="b"),
            row(1, reason=Reason.CODE, detector="b"),
            row(2, reason=Reason.CODE, detector="b"),
        ]
    )
    assert summary.outcomes() == Outcomes(items=3, flagged=1, known=0, not_judged=1, partial=1, clean=0)
    assert summary.rows == 6
    assert summary.detectors["b"].abstained == 2


def test_findings_and_notes_of_an_item_count_once_however_many_detectors_read_it() -> None:
    both = [
        row(0, 0.1, detector=name, findings=(FINDING,), partial=("cut",), kind=Kind.SKILL) for name in "ab"
    ]
    summary = summarise(both)
    assert [(rule, group.count) for rule, group in summary.findings.items()] == [("skill/name-missing", 1)]
    assert summary.partial.total() == 1
    assert summary.kinds.items() == [("skill", 1)]


def test_known_findings_are_counted_apart() -> None:
    summary = summarise([row(0, 0.1, findings=(FINDING,), known_rules=frozenset({FINDING.rule}))])
    assert (summary.findings.total(), summary.known_findings) == (0, 1)


def test_top_rows_are_the_highest_scores_and_equal_ones_keep_the_order_of_the_input() -> None:
    given_rows = [row(i, score) for i, score in enumerate([0.7, 0.9, 0.8, 0.9, 0.2])]
    summary = summarise(given_rows, top=3)
    assert [r.origin.ordinal for r in summary.top()] == [1, 3, 2]
    assert summary.flagged_rows == 4


@given(lists(floats(0, 1), max_size=40))
def test_order_of_rows_does_not_change_the_summary(scores: list[float]) -> None:
    given_rows = [row(i, score) for i, score in enumerate(scores)]
    shuffled = random.Random(1).sample(given_rows, len(given_rows))
    one, other = summarise(given_rows, top=5), summarise(shuffled, top=5)
    assert one.outcomes() == other.outcomes()
    assert [r.origin.ordinal for r in one.top()] == [r.origin.ordinal for r in other.top()]


def test_score_of_one_falls_in_the_last_bin_and_the_bins_add_up() -> None:
    summary = summarise([row(0, 1.0), row(1, 0.0), row(2, 0.5)])
    detector = summary.detectors["harmfulness"]
    assert detector.bins_flagged[-1] == 1
    assert (detector.bins_unflagged[0], detector.bins_unflagged[20]) == (1, 1)
    assert sum(detector.bins_flagged) + sum(detector.bins_unflagged) == detector.scored == 3


def test_several_thresholds_of_one_detector_are_all_kept() -> None:
    summary = summarise([row(0, 0.1), row(1, 0.1, made_with=provenance(0.4))])
    assert summary.detectors["harmfulness"].thresholds == {(0.6, "profile"): 1, (0.4, "profile"): 1}


def test_notes_that_differ_in_numbers_only_form_one_group_with_bounded_places() -> None:
    summary = summarise(row(i, 0.1, left_out=(f"{i} windows after 64",)) for i in range(30))
    ((note, group),) = summary.partial.items()
    assert note == "N windows after N"
    assert (group.count, len(group.places), group.detail) == (30, TOP_PLACES, "0 windows after 64")


def test_names_beyond_the_limit_are_counted_together() -> None:
    tally = Tally()
    for i in range(DISTINCT_NAMES + 10):
        tally.add(f"name {i}")
    assert dict(tally.items())[OTHER] == 10
    assert tally.total() == DISTINCT_NAMES + 10


def test_point_sample_is_bounded_and_does_not_depend_on_order() -> None:
    one, other = PointSample(50), PointSample(50)
    for i in range(1000):
        one.add(i, float(i), 0.0)
        other.add(999 - i, float(999 - i), 0.0)
    assert len(one.points()) == 50
    assert one.points() == other.points()
    assert one.seen == 1000


def test_plot_numbers_that_are_absent_or_no_numbers_are_left_out() -> None:
    summary = summarise(
        [
            row(0, 0.9, extra={"theta": 1.0, "phi": 2.0}),
            row(1, 0.9, extra={"theta": "wide", "phi": 2.0}),
            row(2, 0.9, extra={"theta": None, "phi": 2.0}),
            row(3, 0.9, extra={"theta": True, "phi": 2.0}),
        ]
    )
    planes = summary.detectors["harmfulness"].planes
    assert list(planes) == ["polar"]
    assert [point.ordinal for point in planes["polar"].flagged.points()] == [0]


def test_memory_stays_flat_as_rows_grow() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        summarise(itertools.islice(rows(count, planes=True), count))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000)  # warm caches
    # Ten times the rows: one byte for each more item and the same bounded samples.
    assert peak(20_000) < 1.5 * peak(5_000) + 100_000
