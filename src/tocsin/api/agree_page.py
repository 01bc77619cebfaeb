"""The page of an agreement study, which is also what the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.core.stats.item_sums import Estimate
from tocsin.judges.agreement import Agreement
from tocsin.judges.agreement.records import PairAgreement
from tocsin.report import Figure, Ranged, Section, StudyPage, Table
from tocsin.report.charts import Interval, intervals
from tocsin.report.study import Cell

_MORE = ("quadratic_kappa", "ac1", "ac2", "rbo_50", "tau_b")
_CELLS = ("exact", "binary_accuracy", "binary_kappa", "alpha", "top_one", "rbo_90")
_TITLES = {
    "exact": "exact",
    "binary_accuracy": "harmful or not",
    "binary_kappa": "binary kappa",
    "alpha": "ordinal alpha",
    "top_one": "top 1",
    "rbo_90": "RBO .9",
    "rbo_50": "RBO .5",
    "tau_b": "tau-b",
    "quadratic_kappa": "quadratic kappa",
    "ac1": "AC1",
    "ac2": "AC2",
}
_LIMITS = (
    "Rank-biased overlap forgives length: 'only A' and 'A, then B' agree fully. Read it beside alpha.",
    "Agreement with one person's ranking is bounded by how well that person agrees with others.",
    "Intervals are over items, with the annotators as they are; other annotators may differ more.",
)


def agreement_page(found: Agreement) -> StudyPage:
    """What a reader should see of the study."""
    return StudyPage(
        title=_headline(found),
        lead=(
            f"{len(found.humans) + len(found.judges)} annotators ranked the responses of "
            f"{len(found.subjects)} models by harmfulness; '{found.reference}' is the reference, on "
            f"{found.n_items:,} items. Intervals hold 95 %, from resampling whole items."
        ),
        sections=[
            _agreement(found),
            _against_people(found),
            _models(found),
            _position(found),
            _parts(found),
            _rows(found),
        ],
        limits=_LIMITS,
    )


def _headline(found: Agreement) -> str:
    best = max(
        (
            p
            for p in found.pairs
            if p.a == found.reference and p.b in found.judges and p.alpha.value is not None
        ),
        key=lambda p: p.alpha.value or 0.0,
        default=None,
    )
    if best is None:
        return f"Agreement with '{found.reference}'"
    return f"The judge nearest to '{found.reference}' is '{best.b}', alpha {best.alpha.value:.2f}"


def _of_reference(found: Agreement) -> list[PairAgreement]:
    return [p for p in found.pairs if p.a == found.reference]


def _agreement(found: Agreement) -> Section:
    marks = [
        Interval(f"{p.a} - {p.b}", p.alpha.value, p.alpha.low, p.alpha.high)
        for p in found.pairs
        if p.alpha.value is not None and p.alpha.low is not None and p.alpha.high is not None
    ]
    parts: list[Table | Figure] = []
    if marks:
        low = min(0.0, *(mark.low for mark in marks))
        parts.append(
            Figure(
                title="Ordinal alpha of pairs",
                markup=intervals("alpha", "Krippendorff's ordinal alpha", marks, low=low),
            )
        )
    parts += [
        _pairs("Pairs of annotators", found.pairs, _CELLS),
        _pairs("Further measures", found.pairs, _MORE),
        Table(
            title="The same measures by chance",
            columns=("pair", *(_TITLES[name] for name in (*_CELLS, *_MORE))),
            rows=[
                [f"{p.a} - {p.b}", *(p.permuted.get(name) for name in (*_CELLS, *_MORE))] for p in found.pairs
            ],
            note="Expected where the rankings of one annotator are shuffled among the items.",
        ),
        Table(
            title="Several annotators at once",
            columns=("annotators", "who", "items", "ordinal alpha", "Fleiss's kappa"),
            rows=[[s.name, ", ".join(s.annotators), s.n, _cell(s.alpha), s.fleiss_kappa] for s in found.sets],
        ),
    ]
    return Section(title="Agreement", parts=parts)


def _pairs(title: str, pairs: Sequence[PairAgreement], names: Sequence[str]) -> Table:
    return Table(
        title=title,
        columns=("pair", "items", *(_TITLES[name] for name in names)),
        rows=[[f"{p.a} - {p.b}", p.n, *_estimates(p, names)] for p in pairs],
    )


def _estimates(pair: PairAgreement, names: Sequence[str]) -> list[Cell | Ranged]:
    """Only alpha is shown with its interval, so that a table fits a screen; the JSON has all of them."""
    found = {
        "exact": pair.exact,
        "binary_accuracy": pair.binary_accuracy,
        "binary_kappa": pair.binary_kappa,
        "alpha": pair.alpha,
        "top_one": pair.top_one,
        "rbo_90": pair.rbo_90,
        "rbo_50": pair.rbo_50,
        "tau_b": pair.tau_b,
        "quadratic_kappa": pair.quadratic_kappa,
        "ac1": pair.ac1,
        "ac2": pair.ac2,
    }
    return [_cell(found[name]) if name == "alpha" else found[name].value for name in names]


def _against_people(found: Agreement) -> Section:
    rows: list[list[Cell | Ranged]] = [
        [p.b, _cell(p.alpha), _cell(p.relative_alpha)] for p in found.pairs if p.relative_alpha is not None
    ]
    if found.ceiling is None or found.ceiling.value is None:
        text = "No second person ranked the same items, so there is no ceiling to set the judges against."
        return Section(title="Relative to people", paragraphs=[text])
    peers = [p for p in _of_reference(found) if p.b in found.humans]
    text = (
        f"'{found.reference}' and other people reach alpha {_cell(found.ceiling)} on "
        f"{', '.join(str(p.n) for p in peers)} items. A judge at 1 agrees as well as they do."
    )
    table = Table(title="Judges", columns=("judge", "alpha", "alpha / ceiling"), rows=rows)
    return Section(title="Relative to people", paragraphs=[text], parts=[table])


def _models(found: Agreement) -> Section:
    profiles = Table(
        title="How each annotator sees the models",
        columns=("annotator", "items", "model", "not harmful", "mean rank", "most harmful", "none harmful"),
        rows=[
            [
                p.annotator,
                p.n,
                s.subject,
                _cell(s.not_harmful),
                _cell(s.mean_rank),
                s.top.value,
                p.none_harmful.value,
            ]
            for p in found.profiles
            for s in p.subjects
        ],
        note="Ranks: 0 is not harmful, higher is more harmful.",
    )
    friedman = Table(
        title="Do the models differ? Friedman's test",
        columns=("annotator", "items", "chi-square", "p"),
        rows=[[c.annotator, c.n, c.friedman_chi2, _p(c.friedman_p)] for c in found.comparisons],
    )
    pairs = Table(
        title="Pairs of models",
        columns=(
            "annotator",
            "first",
            "second",
            "first higher",
            "second higher",
            "ties",
            "Wilcoxon p",
            "sign p",
        ),
        rows=[
            [
                c.annotator,
                p.first,
                p.second,
                p.first_higher,
                p.second_higher,
                p.ties,
                _p(p.wilcoxon_p),
                _p(p.sign_p),
            ]
            for c in found.comparisons
            for p in c.pairs
        ],
        note="P-values are Holm-corrected over the pairs of one annotator.",
    )
    strengths = Table(
        title="Strengths in log odds; higher is more harmful",
        columns=("annotator", "model", "Bradley-Terry", "Plackett-Luce"),
        rows=[
            [c.annotator, s.subject, _cell(s.bradley_terry), _cell(s.plackett_luce)]
            for c in found.comparisons
            for s in c.strengths
        ],
    )
    return Section(title="Models", parts=[profiles, friedman, pairs, strengths])


def _position(found: Agreement) -> Section:
    table = Table(
        title="Does an annotator favour a place in the order?",
        columns=("annotator", "verdict", "items", "p", "mean rank by place", "why"),
        rows=[
            [
                p.annotator,
                p.verdict,
                p.n,
                _p(p.p_value),
                " / ".join(f"{mean:.3f}" for mean in p.mean_rank) or None,
                p.reason or None,
            ]
            for p in found.position
        ],
        note="Permutation test, Holm-corrected over annotators; biased below p = 0.01.",
    )
    return Section(title="Position", parts=[table])


def _parts(found: Agreement) -> Section:
    table = Table(
        title=f"Agreement with '{found.reference}' on parts of the items",
        columns=("part", "annotator", "items", "exact", "ordinal alpha", "RBO .9"),
        rows=[[p.part, p.b, p.n, p.exact.value, _cell(p.alpha), p.rbo_90.value] for p in found.parts],
    )
    return Section(title="Unanimous and contested items, groups", parts=[table] if found.parts else [])


def _rows(found: Agreement) -> Section:
    table = Table(
        title="What was read",
        columns=("annotator", "rankings", "valid", "repaired", "rejected", "items", "incomplete rows"),
        rows=[
            [r.annotator, r.rows, r.valid, r.repaired, r.rejected, r.items, r.incomplete]
            for r in found.readings
        ],
        note="Repaired: the ranks skipped a number and were made dense. Of equal items the last counts.",
    )
    rejected = Table(
        title="Rejected rankings",
        columns=("annotator", "item", "problem"),
        rows=[[r.annotator, r.item, r.problem] for r in found.rejected],
    )
    return Section(
        title="Rankings", paragraphs=found.notes, parts=[table, rejected] if found.rejected else [table]
    )


def _cell(estimate: Estimate | None) -> Cell | Ranged:
    if estimate is None or estimate.value is None:
        return None
    if estimate.low is None or estimate.high is None:
        return estimate.value
    return Ranged(estimate.value, estimate.low, estimate.high)


def _p(value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
