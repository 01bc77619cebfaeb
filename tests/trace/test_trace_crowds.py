"""Thousands of copies of one picture or clip: one item, in memory that grows with their number only."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tocsin.trace.link import clips as clips_module
from tocsin.trace.link.clips import Clips
from tocsin.trace.link.clusters import components, guarded
from tocsin.trace.link.hamming import CROWD, MAX_DISTANCE, distances, search

Hashes = NDArray[np.uint8]


def variants(random: np.random.Generator, base: Hashes, n: int) -> Hashes:
    """Hashes of n re-encodings, shape (n, 32): each with 1 to 5 % of its bits turned."""
    rates = random.uniform(0.01, 0.05, (n, 1))
    return np.packbits(np.unpackbits(base) ^ (random.random((n, 256)) < rates), axis=1)


def pictures(random: np.random.Generator, n: int) -> Hashes:
    return random.integers(0, 256, (n, 32), np.uint8)


def clips_of(media: list[Hashes]) -> Clips:
    """Clips of the frames of each medium."""
    hashes, frame = np.unique(np.concatenate(media), axis=0, return_inverse=True)
    return Clips(hashes, frame.ravel(), np.array([len(frames) for frames in media]))


def items_of(clips: Clips) -> NDArray[np.int64]:
    return guarded(clips.alike(), len(clips.sizes), clips.are_far)[0]


def every_pair(hashes: Hashes) -> NDArray[np.int64]:
    every = np.stack(np.triu_indices(len(hashes), 1), axis=1)
    return every[distances(hashes, every) <= MAX_DISTANCE]


def test_a_viral_picture_is_one_item_and_the_others_stay_apart() -> None:
    random = np.random.default_rng(1)
    viral = np.unique(variants(random, pictures(random, 1)[0], 20_000), axis=0)
    hashes = np.concatenate((viral, pictures(random, 5_000)))
    mixed = random.permutation(len(hashes))
    tracemalloc.start()
    near = search(hashes[mixed])
    items = items_of(Clips(hashes[mixed], np.arange(len(hashes)), np.ones(len(hashes), np.int64)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(near.pairs) <= 300 * len(hashes)
    assert peak < 1 << 30
    counts = np.bincount(items[np.argsort(mixed)][: len(viral)])
    assert counts.max() >= 0.999 * len(viral)
    others = items[np.argsort(mixed)][len(viral) :]
    assert len(np.unique(others)) == 5_000
    assert int(np.argmax(counts)) not in others


def test_two_viral_pictures_stay_two_items() -> None:
    random = np.random.default_rng(2)
    one = pictures(random, 1)[0]
    bits = np.unpackbits(one)
    bits[random.choice(256, 75, replace=False)] ^= 1
    families = [np.unique(variants(random, base, 3_000), axis=0) for base in (one, np.packbits(bits))]
    hashes = np.concatenate(families)
    items = items_of(Clips(hashes, np.arange(len(hashes)), np.ones(len(hashes), np.int64)))
    assert len(np.unique(items[: len(families[0])])) == 1
    assert len(np.unique(items[len(families[0]) :])) == 1
    assert items[0] != items[-1]


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(50, 700))
def test_a_sample_says_of_which_hashes_it_is_one(seed: int, n: int) -> None:
    """No pair is missing but between two hashes that are marked, and groups are those of all pairs."""
    random = np.random.default_rng(seed)
    crowd = variants(random, pictures(random, 1)[0], n)
    copies = [variants(random, base, 4) for base in pictures(random, 40)]
    hashes = random.permutation(np.unique(np.concatenate((crowd, *copies)), axis=0))
    near, expected = search(hashes), every_pair(hashes)
    found = set(map(tuple, near.pairs.tolist()))
    assert len(found) == len(near.pairs)
    assert found <= set(map(tuple, expected.tolist()))
    missing = [pair for pair in expected.tolist() if tuple(pair) not in found]
    assert all(near.is_partial[pair].all() for pair in missing)
    assert components(near.pairs, len(hashes)).tolist() == components(expected, len(hashes)).tolist()


def test_what_is_not_crowded_is_found_in_full() -> None:
    random = np.random.default_rng(3)
    families = [variants(random, base, 20) for base in pictures(random, 100)]
    hashes = random.permutation(np.unique(np.concatenate(families), axis=0))
    near = search(hashes)
    assert not near.is_partial.any()
    assert near.pairs.tolist() == every_pair(hashes).tolist()


def test_pairs_are_bounded_where_a_log_is_made_to_blow_them_up() -> None:
    """Hashes about one picture that no bucket gathers: in each piece they turn one of many sets of bits."""
    random = np.random.default_rng(4)
    turned = np.zeros((4_000, 16), np.uint16)
    for row in turned:
        row[random.choice(16, 15, replace=False)] = 1 << random.integers(0, 16, 15)
    hashes = np.unique(turned.view(np.uint8), axis=0)
    pairs = search(hashes).pairs
    assert len(pairs) <= (2 * CROWD + 16 * 17) * len(hashes)
    assert len(np.unique(components(pairs, len(hashes)))) == 1


def brute(media: list[Hashes]) -> list[list[int]]:
    """Links by the rule, from all distances."""
    linked = []
    for a in range(len(media)):
        for b in range(a + 1, len(media)):
            near = np.bitwise_count(media[a][:, None] ^ media[b][None]).sum(axis=2) <= MAX_DISTANCE
            sizes = near.shape
            shares = [near.any(axis=1 - side).sum() / sizes[side] for side in (0, 1)]
            if any(sizes[side] == min(sizes) and shares[side] >= 0.8 for side in (0, 1)):
                linked.append([a, b])
    return linked


def some_clips(random: np.random.Generator, n: int, scenes: int) -> list[Hashes]:
    """Clips of 1 to 7 re-encoded frames out of one film."""
    film = pictures(random, scenes)
    media = []
    for _ in range(n):
        picked = random.choice(scenes, random.integers(1, min(8, scenes + 1)), replace=False)
        frames = np.concatenate([variants(random, film[scene], 1) for scene in picked])
        media.append(np.unique(frames, axis=0))
    return media


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(3, 12))
def test_clips_link_exactly_as_comparing_all_frames_does(seed: int, n: int, scenes: int) -> None:
    media = some_clips(np.random.default_rng(seed), n, scenes)
    assert clips_of(media).alike().tolist() == brute(media)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_common_frames_never_link_what_the_rule_does_not(seed: int) -> None:
    media = some_clips(np.random.default_rng(seed), 60, 8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips_module, "MAX_HOLDERS", 5)
        found = clips_of(media).alike()
    expected = np.array(brute(media), np.int64).reshape(-1, 2)
    assert set(map(tuple, found.tolist())) <= set(map(tuple, expected.tolist()))
    assert components(found, 60).tolist() == components(expected, 60).tolist()


def test_a_title_card_of_thousands_joins_no_clips_but_counts_for_true_copies() -> None:
    random = np.random.default_rng(5)
    card = pictures(random, 1)[0]
    media = []
    for scenes in (pictures(random, 3) for _ in range(1_500)):
        for _ in range(2):
            # Three of four are the same without the card, which is less than four fifths.
            frames = [variants(random, base, 1) for base in (card, *scenes)]
            media.append(np.concatenate(frames))
    items = items_of(clips_of(media))
    assert (items[0::2] == items[1::2]).mean() >= 0.99
    assert len(np.unique(items[0::2])) == 1_500


def test_a_viral_clip_is_one_item() -> None:
    random = np.random.default_rng(6)
    scenes = pictures(random, 6)
    media = [np.concatenate([variants(random, base, 1) for base in scenes]) for _ in range(1_500)]
    media += [pictures(random, 6) for _ in range(300)]
    items = items_of(clips_of(media))
    assert np.bincount(items)[items[0]] >= 1_499
    assert len(np.unique(items)) <= 302
