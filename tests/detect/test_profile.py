"""A profile comes back as it was, or is refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import ProfileError
from tocsin.detect.profile import MANIFEST, TENSORS, Profile, load_profile

BINDING: dict[str, JsonValue] = {
    "model": "tiny",
    "revision": "0",
    "rows": [1, 2],
    "normalisation": ["whitespace"],
}


def profile(detector: str = "sample", **facts: float) -> Profile:
    tensors: dict[str, NDArray[np.floating]] = {
        "weights": np.arange(6, dtype=np.float32),
        "centres": np.eye(3)[:, ::2],
    }
    return Profile(detector, "1", BINDING, {"threshold": 0.1 + 0.2, **facts}, tensors)


def test_numbers_and_facts_come_back_to_the_last_bit(tmp_path: Path) -> None:
    kept = profile()
    kept.save(tmp_path / "p")
    again = load_profile(tmp_path / "p", "sample")
    assert (again.facts, again.binding, again.version, again.hash) == (
        kept.facts,
        kept.binding,
        "1",
        kept.hash,
    )
    for name, values in kept.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], values)
        assert again.tensors[name].dtype == values.dtype


@given(arrays.arrays(np.float64, 4, elements=st.floats(width=64)))
def test_the_hash_tells_numbers_apart(values: NDArray[np.float64]) -> None:
    one = Profile("d", "1", {}, {}, {"a": values})
    other = Profile("d", "1", {}, {}, {"a": np.append(values[:-1], [3.25])})
    assert (one.hash == other.hash) == (values.tobytes() == other.tensors["a"].tobytes())


def test_files_are_readable_by_others(tmp_path: Path) -> None:
    profile().save(tmp_path / "p")
    modes = {(tmp_path / "p" / name).stat().st_mode & 0o777 for name in (MANIFEST, TENSORS)}
    assert len(modes) == 1
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [MANIFEST, TENSORS]


def test_saving_again_replaces_the_own_profile_only(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    profile().save(folder)
    profile(n=2).save(folder)
    assert load_profile(folder, "sample").facts["n"] == 2
    with pytest.raises(ProfileError, match="holds a profile of 'sample'"):
        profile("other").save(folder)


def test_an_interrupted_save_can_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    profile().save(folder)
    (folder / MANIFEST).unlink()
    with pytest.raises(ProfileError, match="holds no profile"):
        load_profile(folder, "sample")
    profile().save(folder)
    assert load_profile(folder, "sample").hash == profile().hash


def test_what_is_not_a_profile_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ProfileError, match="not empty and holds no profile"):
        profile().save(tmp_path)
    with pytest.raises(ProfileError, match="is a file"):
        profile().save(tmp_path / "notes.txt")
    with pytest.raises(ProfileError, match="cannot be written"):
        profile().save(tmp_path / "notes.txt" / "inner")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def _cut_tensors(folder: Path) -> None:
    path = folder / TENSORS
    path.write_bytes(path.read_bytes()[:-3])


def _change_a_number(folder: Path) -> None:
    path = folder / TENSORS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _change_a_fact(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["facts"]["threshold"] = 0.9
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage",
    [
        _cut_tensors,
        _change_a_number,
        _change_a_fact,
        lambda folder: (folder / TENSORS).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{"),
        lambda folder: (folder / MANIFEST).write_text("[]"),
        lambda folder: (folder / MANIFEST).write_text('{"format": 1}'),
        lambda folder: (folder / MANIFEST).write_bytes(b"\xff\xfe"),
    ],
)
def test_a_damaged_profile_is_refused(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    profile().save(tmp_path / "p")
    damage(tmp_path / "p")
    with pytest.raises(ProfileError, match="is a damaged profile") as caught:
        load_profile(tmp_path / "p", "sample")
    assert "Fit it again" in str(caught.value)


def test_profiles_of_others_and_of_the_future_are_refused_by_name(tmp_path: Path) -> None:
    profile().save(tmp_path / "p")
    with pytest.raises(ProfileError, match="a profile of 'sample', not of 'other'"):
        load_profile(tmp_path / "p", "other")
    path = tmp_path / "p" / MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ProfileError, match="has format 99; this version reads 1"):
        load_profile(tmp_path / "p", "sample")


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "large"), ("revision", "1"), ("rows", [1, 3]), ("normalisation", []), ("template", "raw")],
)
def test_every_difference_in_what_binds_it_is_named(name: str, value: JsonValue) -> None:
    profile().check(BINDING)
    with pytest.raises(ProfileError, match=f"does not fit: {name} is ") as caught:
        profile().check(BINDING | {name: value})
    assert "tocsin fit sample" in str(caught.value)


def test_another_version_of_the_detector_is_a_difference() -> None:
    profile().check(BINDING, "1")
    with pytest.raises(ProfileError, match="version is '2', the profile has '1'"):
        profile().check(BINDING, "2")
