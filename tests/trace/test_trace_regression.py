"""Regressions of shape: hand-computed errors, references, and what cannot be computed."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("statsmodels")
pytest.importorskip("duckdb")
pytest.importorskip("ibis")

from tocsin.core.errors import InputError, MissingExtraError, UsageError  # noqa: E402
from tocsin.trace.cascades import Cascades  # noqa: E402
from tocsin.trace.compare.attributes import Attributes  # noqa: E402
from tocsin.trace.compare.regression import Covariates, Regression, regress  # noqa: E402
from tocsin.trace.engine.covariates import covariates  # noqa: E402
from tocsin.trace.engine.engine import backend  # noqa: E402


def plain(n: int) -> Covariates:
    return Covariates(np.ones(n), np.ones(n), np.zeros(n, bool))


def estimates(found: Regression) -> dict[str, float]:
    return {term.name: term.estimate for term in found.terms}


def test_two_kinds_give_the_difference_of_means_with_hc1_errors() -> None:
    # other: 1, 2, 3 (mean 2, sum of squares 2); misinfo: 4, 8 (mean 6, sum of squares 8).
    # HC1 variance of the difference: 5 / (5 - 2) * (2 / 3^2 + 8 / 2^2) = 3.7037.
    labels = ["other"] * 3 + ["misinfo"] * 2
    found = regress({"depth": [1, 2, 3, 4, 8]}, Attributes.of(labels))[0]
    assert found.errors == "HC1"
    assert found.references == {"content": "other"}
    intercept, misinfo = found.terms
    assert intercept.estimate == pytest.approx(2)
    assert (misinfo.name, misinfo.n) == ("content: misinfo", 2)
    assert misinfo.estimate == pytest.approx(4)
    assert misinfo.error == pytest.approx(math.sqrt(3.7037037))
    # t with 3 degrees of freedom: 3.182446 at 95 %.
    assert misinfo.high - misinfo.estimate == pytest.approx(3.182446 * misinfo.error, rel=1e-5)
    # Around the means 10 of the 29.2 remain: 1 - 10 / 29.2.
    assert found.r_squared == pytest.approx(1 - 10 / 29.2)


def test_cascades_of_one_source_are_clustered() -> None:
    generator = np.random.default_rng(0)
    sources = np.repeat(np.arange(40), 5)
    labels = np.where(np.repeat(generator.random(40) < 0.5, 5), "misinfo", "other")
    depth = np.repeat(generator.normal(size=40), 5) + generator.normal(size=200)
    alone = regress({"depth": depth}, Attributes.of(labels))[0]
    joined = regress({"depth": depth}, Attributes.of(labels), clusters=sources)[0]
    assert joined.errors == "clustered, 40 sources"
    assert joined.terms[1].estimate == pytest.approx(alone.terms[1].estimate)
    # By hand: B (sum over sources of ss') B G / (G - 1) (n - 1) / (n - k), B = (X'X)^-1, s = X'e of a source.
    design = np.stack([np.ones(200), labels == "misinfo"], 1).astype(float)
    bread = np.linalg.inv(design.T @ design)
    residuals = depth - design @ (bread @ design.T @ depth)
    sums = np.stack([(design * residuals[:, None])[sources == source].sum(0) for source in range(40)])
    variance = bread @ (sums.T @ sums) @ bread * 40 / 39 * 199 / 198
    assert joined.terms[1].error == pytest.approx(math.sqrt(variance[1, 1]))
    assert joined.terms[1].error > 1.5 * alone.terms[1].error


def test_a_planted_effect_is_separated_from_traits_that_go_with_it() -> None:
    generator = np.random.default_rng(1)
    n = 2_000
    hops = generator.integers(0, 7, n)
    modality = generator.choice(["chat", "image", "video"], n)
    # Harmful items are mostly images, as published; images are deeper by 1, misinfo by 0.5.
    labels = np.where(generator.random(n) < np.where(modality == "image", 0.6, 0.1), "misinfo", "other")
    busy = generator.random(n)
    depth = (
        0.3 * np.minimum(hops, 5) + 1.0 * (modality == "image") + 0.5 * (labels == "misinfo") + 2 * busy
        + generator.normal(0, 0.5, n)
    )  # fmt: skip
    known = Covariates(100 + 50 * busy, generator.random(n), np.zeros(n, bool))
    found = regress({"depth": depth}, Attributes.of(labels, modality, hops), known)[0]
    assert found.references == {"forwarding": "0", "modality": "chat", "content": "other"}
    values = estimates(found)
    assert values["content: misinfo"] == pytest.approx(0.5, abs=0.1)
    assert values["modality: image"] == pytest.approx(1, abs=0.1)
    assert values["modality: video"] == pytest.approx(0, abs=0.1)
    assert values["forwarding: 5plus"] == pytest.approx(1.5, abs=0.15)
    assert values["group activity"] == pytest.approx(2, abs=0.15)
    assert values["author activity"] == pytest.approx(0, abs=0.15)
    assert next(term.n for term in found.terms if term.name == "forwarding: 5plus") == int((hops >= 5).sum())


def test_mixed_and_unknown_cascades_do_not_enter() -> None:
    labels = ["other", "misinfo"] * 5
    mixed = np.zeros(10, bool)
    mixed[:2] = True
    hops = [0, 1, math.nan, 1, 0, 0, 1, 0, 1, 1]
    values = np.arange(10.0)
    values[5] = math.nan
    found = regress(
        {"depth": values}, Attributes.of(labels, forwarding=hops), Covariates(np.ones(10), np.ones(10), mixed)
    )[0]
    assert found.left_out == {"mixed label or modality": 2, "no forwarding counter": 1, "no value": 1}
    assert found.n == 6
    assert set(estimates(found)) == {"intercept", "forwarding: 1", "content: misinfo"}


def test_without_the_usual_reference_the_most_frequent_category_serves() -> None:
    found = regress({"depth": [1, 2, 4, 3, 5]}, Attributes.of(["b", "b", "b", "a", "a"]))[0]
    assert found.references == {"content": "b"}
    lowest = regress({"depth": [1, 2, 4, 3]}, Attributes.of(["x"] * 4, forwarding=[3, 3, 4, 4]))[0]
    assert lowest.references == {"forwarding": "3"}


@pytest.mark.parametrize(
    ("values", "labels", "clusters", "reason"),
    [
        ([1, 2, 3, 4], ["x"] * 4, None, "no trait differs"),
        ([1, 2], ["x", "other"], None, "2 cascades for 2 terms"),
        ([3, 3, 3], ["x", "x", "other"], None, "all values are equal"),
        ([1, 1, 2, 2], ["x", "x", "other", "other"], None, "fit every cascade exactly"),
        ([1, 2, 2, 4], ["x", "x", "other", "other"], [1] * 4, "share one source"),
    ],
)
def test_what_cannot_be_computed_says_why(
    values: list[int], labels: list[str], clusters: list[int] | None, reason: str
) -> None:
    found = regress({"depth": values}, Attributes.of(labels), clusters=clusters)[0]
    assert found.reason.startswith("not computable: ")
    assert reason in found.reason
    assert found.terms == ()


def test_traits_that_determine_each_other_are_named() -> None:
    labels = ["other", "other", "x", "x", "other", "x"]
    modality = ["chat", "chat", "image", "image", "chat", "image"]
    found = regress({"depth": [1, 2, 3, 5, 4, 6]}, Attributes.of(labels, modality), plain(6))[0]
    assert found.reason == "not computable: traits determine each other"


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(UsageError, match="expected 2 values of depth"):
        regress({"depth": [1]}, Attributes.of(["a", "b"]))
    with pytest.raises(UsageError, match="expected 2 values of clusters"):
        regress({"depth": [1, 2]}, Attributes.of(["a", "b"]), clusters=[1])


def test_a_regression_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.regression.linear_model", None)
    with pytest.raises(MissingExtraError, match="trace"):
        regress({"depth": [1, 2, 3, 5]}, Attributes.of(["a", "a", "b", "b"]))


def test_covariates_come_from_messages_and_links(tmp_path: Path) -> None:
    # Item 1 begins in group a (row 0, author p) and in group b (row 2, author q; row 3 is later).
    messages = {
        "row": [0, 1, 2, 3, 4, 5],
        "group_key": ["a", "a", "b", "b", "b", "c"],
        "author_key": ["p", "p", "q", "p", "p", "q"],
        "time": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "modality": ["chat"] * 6,
        "label": ["x", None, "y", "other", None, None],
    }
    links = {"row": [0, 1, 2, 3, 4, 5], "item": [1, 2, 1, 1, 3, 3]}
    pq.write_table(pa.table(messages), tmp_path / "messages.parquet")
    pq.write_table(pa.table(links), tmp_path / "links.parquet")
    with backend("duckdb", tmp_path) as connection:
        tables = (
            connection.read_parquet(str(tmp_path / f"{name}.parquet")) for name in ("messages", "links")
        )
        found = connection.to_pyarrow(covariates(*tables))
    pq.write_table(found, tmp_path / "covariates.parquet")
    assert found.to_pylist() == [
        # Group a holds 2 messages, b 3; p wrote 4 and q 2.
        {"cascade": 1, "group_activity": 2.5, "author_activity": 3.0, "labels": 2, "modalities": 1},
        {"cascade": 3, "group_activity": 2.0, "author_activity": 3.0, "labels": 0, "modalities": 1},
    ]
    cascades = Cascades.of(np.array([3, 1]), np.array(["a", "b"]), np.array([0.0, 1.0]))
    read = Covariates.read(tmp_path / "covariates.parquet", cascades)
    assert read.is_mixed.tolist() == [True, False]
    assert read.group_activity.tolist() == [2.5, 2.0]
    with pytest.raises(InputError, match="none for 1"):
        Covariates.read(
            tmp_path / "covariates.parquet", Cascades.of(np.array([2]), np.array(["a"]), np.array([0.0]))
        )
