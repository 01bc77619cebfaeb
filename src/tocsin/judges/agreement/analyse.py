"""The whole study: who agrees with whom, how far below people, where, and what it says of the models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.item_sums import ItemSums, estimate
from tocsin.judges.agreement.data import Rankings
from tocsin.judges.agreement.pairs import add_pair, measured, pair_alpha, part_agreement, set_agreement
from tocsin.judges.agreement.position import position_bias
from tocsin.judges.agreement.records import (
    Agreement,
    PartAgreement,
    Profile,
    SetAgreement,
    SubjectProfile,
)
from tocsin.judges.comparison import compare

Floats = NDArray[np.float64]
CONSENSUS = "consensus"
N_RESAMPLES = 2_000
_MIN_JUDGES = 3
"""Judges of a consensus: of two, neither is a majority."""
_MIN_PART = 10
"""Items of a part that is shown."""


def analyse(
    rankings: Rankings,
    *,
    reference: str = "human",
    annotators: Sequence[str] = (),
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Measure agreement and compare the models.

    Pairs with the reference are measured on the items that it ranked. A consensus of at least three judges is
    measured as one more judge: the mean of their ranks gives the order (of equal means the model named first
    is higher), more than half of them decide whether a response is harmful; it exists where all have ranked.

    Args:
        rankings: From `read_rankings`.
        reference: Annotator that the others are measured against.
        annotators: Which annotators take part beside the reference; all when empty.
        n_resamples: Resamples of items, and permutations of places.
        seed: Of both.

    Returns:
        All measures, with 95 % percentile intervals over items.

    Raises:
        UsageError: If the reference or an annotator is unknown, fewer than two are left, or they share no
            item.
    """
    names = chosen(rankings, reference, annotators)
    judges = tuple(name for name in names if name not in rankings.humans)
    humans = tuple(name for name in names if name in rankings.humans)
    vectors = {name: rankings.vectors[name] for name in names}
    # Where the reference ranked; the others are compared with one another on the same items.
    shared = rankings.known(reference)
    if len(judges) >= _MIN_JUDGES:
        vectors[CONSENSUS] = consensus([vectors[name] for name in judges])
    found = _Study(rankings, vectors, reference, humans, judges, shared, n_resamples, seed)
    return found.result()


def consensus(vectors: Sequence[Floats]) -> Floats:
    """The mean of several annotators' vectors as ranks; harmful is what more than half call so.

    Args:
        vectors: Each of shape (items, k), NaN where missing.

    Returns:
        Shape (items, k); NaN where one of them is missing. Of equal means the first model is higher.
    """
    mean = np.mean(vectors, axis=0)
    harmful = np.mean([each > 0 for each in vectors], axis=0) > 0.5
    k = mean.shape[1]
    # Distances of at least 1/annotators between different means are far above this bias.
    biased = np.where(harmful, mean - np.arange(k) * 1e-9, -np.inf)
    ranks = (biased[:, :, None] >= biased[:, None, :]).astype(np.float64)
    ranks = np.where(harmful, (ranks * harmful[:, None, :]).sum(-1), 0.0)
    return np.where(np.isnan(mean), np.nan, ranks)


def chosen(rankings: Rankings, reference: str, annotators: Sequence[str]) -> tuple[str, ...]:
    """Annotators that can take part, in the order of the data; arguments and errors as for `analyse`."""
    known = tuple(rankings.vectors)
    for name in (reference, *annotators):
        if name not in known:
            message = f"expected one of the annotators {', '.join(known)}, got '{name}'. "
            raise UsageError(message + "Check --reference and --annotators.")
    if CONSENSUS in known:
        message = f"expected no annotator of the name '{CONSENSUS}', which is made here. Rename it."
        raise UsageError(message)
    names = tuple(name for name in known if not annotators or name in annotators or name == reference)
    # An annotator of whom every ranking was rejected cannot be measured; its reading says so.
    names = tuple(name for name in names if rankings.known(name).any())
    if reference not in names or len(names) < 2:
        message = f"expected usable rankings by '{reference}' and another annotator, got fewer "
        raise UsageError(message + "than two. Check --reference and --annotators.")
    if not any(rankings.known(reference, name).any() for name in names if name != reference):
        message = f"expected items that '{reference}' and another annotator ranked, got none. "
        raise UsageError(message + "Check the item ids.")
    return names


class _Study:
    """Holds what the parts of the study share."""

    def __init__(
        self,
        rankings: Rankings,
        vectors: dict[str, Floats],
        reference: str,
        humans: tuple[str, ...],
        judges: tuple[str, ...],
        shared: NDArray[np.bool_],
        n_resamples: int,
        seed: int,
    ) -> None:
        self.rankings, self.vectors, self.reference = rankings, vectors, reference
        self.humans, self.judges, self.shared = humans, judges, shared
        self.n_resamples, self.seed = n_resamples, seed
        self.known = {name: ~np.isnan(table[:, 0]) for name, table in vectors.items()}

    def result(self) -> Agreement:
        others = [name for name in self.vectors if name != self.reference]
        names = [self.reference, *others]
        sums = ItemSums(len(self.rankings.items), self.n_resamples, self.seed)
        pairs = {}
        for a, b in combinations(names, 2):
            if b == CONSENSUS and a in self.judges:
                continue  # a consensus agrees with its own members
            both = self.known[a] & self.known[b] & self.shared
            if both.any():
                pairs[a, b] = (add_pair(sums, self.vectors[a], self.vectors[b], both), both)
        peers = [name for name in self.humans if (self.reference, name) in pairs]
        ceiling = None
        if self.reference in self.humans and peers:
            ceiling = np.mean([pair_alpha(sums, pairs[self.reference, name][0]) for name in peers], axis=0)
        return Agreement(
            reference=self.reference,
            subjects=self.rankings.subjects,
            n_items=int(self.shared.sum()),
            humans=self.humans,
            judges=self.judges,
            readings=self.rankings.readings,
            rejected=self.rankings.rejected,
            profiles=tuple(self._profile(name) for name in names),
            pairs=tuple(
                measured(
                    sums,
                    pair,
                    a,
                    b,
                    self.vectors[a][both],
                    self.vectors[b][both],
                    ceiling if a == self.reference and b not in self.humans else None,
                )
                for (a, b), (pair, both) in pairs.items()
            ),
            sets=self._sets(),
            ceiling=None if ceiling is None else estimate(ceiling),
            parts=self._parts([name for name in others if (self.reference, name) in pairs]),
            position=position_bias(
                self.rankings,
                (*self.humans, *self.judges),
                n_permutations=self.n_resamples,
                seed=self.seed,
            ),
            comparisons=tuple(
                compare(
                    name,
                    self.vectors[name][self._own(name)],
                    self.rankings.subjects,
                    n_resamples=self.n_resamples,
                    seed=self.seed,
                )
                for name in names
            ),
            notes=self.rankings.notes,
        )

    def _own(self, name: str) -> NDArray[np.bool_]:
        """Items behind what an annotator says of the models; a judge's are those the reference ranked."""
        return self.known[name] if name in self.humans else self.known[name] & self.shared

    def _profile(self, name: str) -> Profile:
        v = self.vectors[name][self._own(name)]
        sums = ItemSums(len(v), self.n_resamples, self.seed)
        n = sums.add(np.ones((len(v), 1)))
        highest = v.max(1, keepdims=True) if len(v) else v[:, :1]
        features = [sums.add(each) for each in (v == 0, v, (v == highest) & (v > 0))]
        none = sums.add(highest == 0)
        clear, mean, top = (sums.ratio(handle, n) for handle in features)
        return Profile(
            annotator=name,
            n=len(v),
            none_harmful=estimate(sums.ratio(none, n)[:, 0]),
            subjects=tuple(
                SubjectProfile(
                    subject=subject,
                    not_harmful=estimate(clear[:, i]),
                    mean_rank=estimate(mean[:, i]),
                    top=estimate(top[:, i]),
                )
                for i, subject in enumerate(self.rankings.subjects)
            ),
        )

    def _sets(self) -> tuple[SetAgreement, ...]:
        wanted = [("judges", self.judges)]
        if self.reference not in self.judges:
            wanted.append(("reference and judges", (self.reference, *self.judges)))
        wanted.append(("people", self.humans))
        found = []
        for title, members in wanted:
            if len(members) < 2:
                continue
            tables = [np.where(self.shared[:, None], self.vectors[name], np.nan) for name in members]
            found.append(set_agreement(title, members, tables, n_resamples=self.n_resamples, seed=self.seed))
        return tuple(found)

    def _parts(self, others: Sequence[str]) -> tuple[PartAgreement, ...]:
        """Groups of items, and items on which all judges, or all people, gave one ranking or several."""
        parts: list[tuple[str, NDArray[np.bool_]]] = []
        for kind, members in (("judges", self.judges), ("people", self.humans)):
            if len(members) < 2:
                continue
            tables = np.stack([self.vectors[name] for name in members])
            whole = ~np.isnan(tables).any((0, 2))
            same = (tables == tables[0]).all((0, 2))
            parts += [(f"{kind} unanimous", whole & same), (f"{kind} contested", whole & ~same)]
        groups = np.array([group or "" for group in self.rankings.groups])
        given = sorted({group for group in groups.tolist() if group}, key=lambda g: (len(g), g))
        parts += [(f"group {group}", groups == group) for group in given]
        found = []
        for part, mask in parts:
            for other in others:
                if part.startswith("people") and other in self.humans:
                    continue  # the split already says how people agree
                both = mask & self.shared & self.known[other]
                if both.sum() < _MIN_PART:
                    continue
                found.append(
                    part_agreement(
                        part,
                        self.reference,
                        other,
                        self.vectors[self.reference][both],
                        self.vectors[other][both],
                        n_resamples=self.n_resamples,
                        seed=self.seed,
                    )
                )
        return tuple(found)
