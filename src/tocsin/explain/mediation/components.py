"""The components of each level, and their patches for one pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tocsin.explain.mediation.data import Tokens, Where
from tocsin.explain.mediation.records import LevelName
from tocsin.internals.anatomy import Anatomy, Site
from tocsin.internals.patching import Patch, Point

N_GROUPS = 64
PLACES = 12
"""Single places from the end that are looked at, at most."""


@dataclass(frozen=True, slots=True)
class Component:
    """Something that is patched as one."""

    level: LevelName
    name: str
    sites: tuple[Site, ...]
    where: Where | int
    """Which places; a number is a single place from the end."""
    block: int | None = None
    """From 1."""

    def patch(self, tokens: Tokens) -> Patch:
        """What is replaced in one pair; without places nothing is."""
        places = (self.where,) if isinstance(self.where, int) else tokens.places[self.where]
        return Patch(self.sites, places)

    def first_order(self, parts: dict[Point, np.ndarray], anatomy: Anatomy) -> float:
        """Its effect as the sum of its entries' attributions."""
        total = 0.0
        for site in self.sites:
            point = (site.kind, site.block)
            if point not in parts:
                return math.nan
            total += float(parts[point][anatomy.columns(site)].sum())
        return total


def window_size(n_blocks: int) -> int:
    """Blocks of a window: an eighth of the depth (card 05, section 3.4)."""
    return max(1, round(n_blocks / 8))


def sweep_components(anatomy: Anatomy, levels: Sequence[str], *, tails: Sequence[Tokens]) -> list[Component]:
    """Components of layers, modules, windows, heads and places; each level only if it is asked for."""
    blocks = range(anatomy.n_blocks)
    found: list[Component] = []
    has_places = "content" in tails[0].places
    if "layer" in levels:
        found += [Component("layer", f"block {b + 1}", (Site("layer", b),), "at", b + 1) for b in blocks]
        if has_places:
            found += [
                Component("layer_at_content", f"block {b + 1}", (Site("layer", b),), "content", b + 1)
                for b in blocks
            ]
    kinds = ("attention", "mlp")
    if "module" in levels:
        for kind in kinds:
            sites = [Site(kind, b) for b in blocks]  # type: ignore[arg-type]
            found += [Component("module", site.name, (site,), "at", site.block + 1) for site in sites]
    wide = window_size(anatomy.n_blocks)
    if "window" in levels and wide > 1:
        for kind in kinds:
            for b in range(anatomy.n_blocks - wide + 1):
                chosen = tuple(Site(kind, each) for each in range(b, b + wide))  # type: ignore[arg-type]
                name = f"blocks {b + 1}-{b + wide} {kind}"
                found.append(Component("window", name, chosen, "at", b + 1 + wide // 2))
    if "head" in levels:
        for b in blocks:
            for head in range(anatomy.n_heads):
                site = Site("head", b, head)
                found.append(Component("head", site.name, (site,), "at", b + 1))
    if "token" in levels and has_places:
        column = (Site("embedding", 0), *(Site("layer", b) for b in blocks))
        for where in ("changed", "unchanged", "template"):
            found.append(Component("region", _REGIONS[where], column, where))
        shortest = min(tokens.tail for tokens in tails)
        found += [
            Component("place", f"place {place}", column, place) for place in range(-min(PLACES, shortest), 0)
        ]
    return found


_REGIONS = {
    "changed": "content that differs",
    "unchanged": "content that is the same",
    "template": "end of the template",
}


def group_components(anatomy: Anatomy, block: int) -> list[Component]:
    """Windows of neighbouring neurons of one block (from 0), at most `N_GROUPS`."""
    wide = math.ceil(anatomy.n_neurons / N_GROUPS)
    sites = [
        Site("neurons", block, first, min(first + wide, anatomy.n_neurons))
        for first in range(0, anatomy.n_neurons, wide)
    ]
    return [Component("group", site.name, (site,), "at", block + 1) for site in sites]


def neuron_components(block: int, neurons: Sequence[int]) -> list[Component]:
    """Single neurons of one block (from 0)."""
    sites = [Site("neurons", block, int(j), int(j) + 1) for j in neurons]
    return [Component("neuron", site.name, (site,), "at", block + 1) for site in sites]
