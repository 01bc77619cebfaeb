"""Pictures and clips: hashes against the reference, exact search, links, and files that cannot be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from made_pictures import clouds, made
from tocsin.core.errors import InputError
from tocsin.trace.link.hamming import MAX_DISTANCE, distances, search
from tocsin.trace.link.media import MediaStore, frame_hashes
from tocsin.trace.link.pdq import from_hex, pdq_hash
from tocsin.trace.log.media_files import media_forms
from tocsin.trace.pipeline import TraceOptions, run_trace

LUMA = np.array([0.299, 0.587, 0.114])
# Hashes and qualities that the reference (pdqhash 0.2.8, Meta's C++) gives for `made(seed, rows, columns)`.
REFERENCE = [
    (0, 64, 64, "01530aa61553a2a65553aaa65552aaa65552aaa5fff0557a000faa83aab7fffd", 89),
    (1, 200, 300, "95e610112fe600115fe600117fe60011ffe60011ffe61011ffe6ffd9aaa1ffea", 81),
    (2, 777, 513, "faac5015ffec0005bfec4555ffec0005ffe800050009fffeaaaf5556aaacaaa8", 100),
    (3, 50, 90, "b6bbdb13eabb80b6eabb08362a9bc036aabb8032aabb4032aab9aabe0016ffc1", 100),
    (4, 1000, 130, "001700ab000702ab003f0aab003f2aab03ffaaaaaabfffff5555bbffffff0000", 53),
    (5, 20, 20, "bbad1147a6e12c07040f8407afe14545ffed5547e3e32227140fbabe416ee3e2", 100),
]


@pytest.mark.parametrize(("seed", "rows", "columns", "digits", "quality"), REFERENCE)
def test_hashes_are_those_of_the_reference(
    seed: int, rows: int, columns: int, digits: str, quality: int
) -> None:
    found, own = pdq_hash(made(seed, rows, columns) @ LUMA)
    assert own == quality
    # Another order of sums may turn a coefficient that is next to the median.
    assert int(np.bitwise_count(found ^ from_hex([digits])[0]).sum()) <= 2


def test_small_changes_stay_within_the_rule_and_other_pictures_do_not() -> None:
    picture = made(2, 400, 400)
    first, _ = pdq_hash(picture @ LUMA)
    brighter, _ = pdq_hash(np.clip(picture * 0.9 + 20, 0, 255) @ LUMA)
    smaller, _ = pdq_hash(picture[::2, ::2] @ LUMA)
    other, _ = pdq_hash(made(9, 400, 400) @ LUMA)
    hashes = np.stack((first, brighter, smaller, other))
    near = distances(hashes, np.array([[0, 1], [0, 2], [0, 3]]))
    assert near[0] <= MAX_DISTANCE
    assert near[1] <= MAX_DISTANCE
    assert near[2] > 2 * MAX_DISTANCE


def test_a_picture_without_structure_has_no_quality() -> None:
    assert pdq_hash(np.full((80, 80), 128.0))[1] == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60))
def test_the_search_finds_exactly_what_comparing_all_finds(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, (max(1, n // 6), 32), np.uint8)
    hashes = base[random.integers(0, len(base), n)]
    for row in hashes:
        for bit in random.choice(256, random.integers(0, 40), replace=False):
            row[bit // 8] ^= 1 << (bit % 8)
    hashes = np.unique(hashes, axis=0)
    first, second = np.triu_indices(len(hashes), 1)
    every = np.stack((first, second), axis=1)
    expected = every[distances(hashes, every) <= MAX_DISTANCE]
    assert search(hashes).pairs.tolist() == expected.tolist()


def word(seed: int, flips: int = 0) -> str:
    """A random hash with its first bits turned."""
    row = np.random.default_rng(seed).integers(0, 256, 32, np.uint8)
    bits = np.unpackbits(row)
    bits[:flips] ^= 1
    return np.packbits(bits).tobytes().hex()


def test_values_are_hashes_frames_or_anything_else() -> None:
    assert frame_hashes(word(1).upper()) == [word(1)]
    assert frame_hashes(f"{word(1)}@90, {word(2)};{word(1)}") == [word(1), word(2)]
    assert frame_hashes(f"{word(1)}@49") is None
    assert frame_hashes("file:0123") is None
    assert frame_hashes("") is None


def test_pictures_link_up_to_31_bits_and_never_across_modalities() -> None:
    store = MediaStore()
    numbers = [
        store.add(modality, value, None)
        for modality, value in [
            ("image", word(1)), ("image", word(1, 31)), ("image", word(1, 32)), ("video", word(1)),
            ("image", "sha-1"), ("image", "sha-1"), ("image", None),
        ]
    ]  # fmt: skip
    linked = store.link()
    items = linked.items[numbers].tolist()
    assert items[0] == items[1]
    # 32 bits from the first, but one from the second: a chain that stays near its centre is one item.
    assert items[2] == items[0]
    assert items[3] != items[0]
    assert items[4] == items[5]
    assert len(set(items)) == 4


def test_chains_that_leave_their_centre_are_cut() -> None:
    store = MediaStore()
    numbers = [store.add("image", word(1, 25 * step), None) for step in range(8)]
    linked = store.link()
    items = linked.items[numbers].tolist()
    # 175 bits lie between the ends; no two members of one item may be so far from their centre.
    assert items[0] != items[7]
    assert linked.cut > 0


def test_clips_link_when_most_frames_of_the_shorter_are_in_the_longer() -> None:
    def clip(*seeds: int) -> str:
        return " ".join(word(seed, seed % 7) for seed in seeds)

    store = MediaStore()
    values = [clip(*range(10)), clip(0, 1, 2, 3, 99), clip(0, 1, 2, 98, 99), clip(*range(20, 30))]
    numbers = [store.add("video", value, None) for value in values]
    items = store.link().items[numbers].tolist()
    assert items[0] == items[1]  # 4 of 5 frames
    # 3 of 5 are in the first clip, but 4 of 5 in the second (0, 1, 2 and 99).
    assert items[2] == items[1]
    assert items[3] not in items[:3]


def test_a_clip_that_everybody_has_is_still_one_item() -> None:
    store = MediaStore()
    shared = [word(seed) for seed in range(9)]
    numbers = [store.add("video", " ".join([*shared, word(1000 + i)]), None) for i in range(600)]
    assert len(set(store.link().items[numbers].tolist())) == 1


def test_files_are_hashed_inside_their_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    picture = Image.fromarray(clouds(1, 300))
    picture.save(folder / "one.png")
    picture.save(folder / "two.jpg", quality=40)
    frames = [Image.fromarray(clouds(seed, 100)) for seed in range(3)]
    frames[0].save(folder / "clip.gif", save_all=True, append_images=frames[1:], duration=700)
    (folder / "text.png").write_bytes(b"no picture at all")
    (folder / "cut.png").write_bytes((folder / "one.png").read_bytes()[:2000])
    picture.save(tmp_path / "outside.png")
    values = [
        "cut.png",
        "one.png",
        "two.jpg",
        "clip.gif",
        "text.png",
        "../outside.png",
        "nothing.png",
        "a\0b",
    ]
    forms, counts = media_forms(values, folder)
    assert counts == {"pictures": 2, "moving pictures": 1, "other files": 1, "broken pictures": 1,
                      "values without a file": 3}  # fmt: skip
    # 0, 700 and 1,400 ms: the first frame, and the first one a second or more after it.
    assert len(forms["clip.gif"].split()) == 2
    assert forms["text.png"].startswith("file:")
    hashes = from_hex([(frame_hashes(forms[name]) or [""])[0] for name in ("one.png", "two.jpg")])
    assert distances(hashes, np.array([[0, 1]]))[0] <= MAX_DISTANCE


def test_a_log_of_pictures_is_traced(tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    Image.fromarray(clouds(1, 300)).save(folder / "one.png")
    Image.fromarray(clouds(1, 300)).save(folder / "two.jpg", quality=40)
    Image.fromarray(clouds(7, 300)).save(folder / "other.png")
    log = tmp_path / "log.parquet"
    names = ["one.png", "two.jpg", "other.png"]
    pq.write_table(
        pa.table(
            {
                "message_id": ["1", "2", "3"],
                "group_id": ["a", "b", "c"],
                "author": ["x", "y", "z"],
                "timestamp": [1.0, 2.0, 3.0],
                "modality": ["image"] * 3,
                "media": names,
            }
        ),
        log,
    )
    result = run_trace(log, tmp_path / "run", TraceOptions(media=folder))
    assert result.counts["media"]["pictures"] == 3
    assert result.counts["link"]["items"] == 2
    assert result.counts["events"] == {"events": 2, "cascades": 1}
    with pytest.raises(InputError, match="folder of media files"):
        TraceOptions(media=tmp_path / "nowhere")
