"""The cache gives back what was put, whole or not at all, to any number of processes."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from tocsin.core.cache import Cache
from tocsin.core.errors import RunError
from tocsin.core.home import home

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache("replies", root=tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(key=json_values, value=json_values)
def test_any_json_value_comes_back_equal_under_any_json_key(
    cache: Cache, key: JsonValue, value: JsonValue
) -> None:
    cache.put(key, value)
    assert cache.get(key, "absent") == value


def test_an_absent_key_gives_the_default_and_a_cached_null_does_not(cache: Cache) -> None:
    assert cache.get("a", "absent") == "absent"
    cache.put("a", None)
    assert cache.get("a", "absent") is None


def test_the_order_of_object_keys_does_not_matter_but_every_value_does(cache: Cache) -> None:
    cache.put({"model": "m", "pass": 1}, "one")
    assert cache.get({"pass": 1, "model": "m"}) == "one"
    assert cache.get({"model": "m", "pass": 2}) is None
    assert cache.get({"model": "m", "pass": "1"}) is None


def test_a_later_value_replaces_an_earlier_one(cache: Cache) -> None:
    cache.put("a", 1)
    cache.put("a", 2)
    assert cache.get("a") == 2


@pytest.mark.parametrize("damage", [b"", b'{"value": 1', b"[1]", b'{"value": 1, "other": 2}', b"\xff\xfe"])
def test_a_damaged_entry_counts_as_absent_and_can_be_written_again(cache: Cache, damage: bytes) -> None:
    cache.put("a", 1)
    cache.path("a").write_bytes(damage)
    assert cache.get("a", "absent") == "absent"
    cache.put("a", 1)
    assert cache.get("a") == 1


def test_keys_are_never_written_to_disk(cache: Cache) -> None:
    cache.put({"text": "private words"}, "reply")
    assert b"private words" not in cache.path({"text": "private words"}).read_bytes()
    assert "private" not in str(cache.path({"text": "private words"}))


def test_entries_are_readable_by_their_owner_only(cache: Cache) -> None:
    cache.put("a", 1)
    assert stat.S_IMODE(cache.path("a").stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.path("a").parent.stat().st_mode) == 0o700


def test_a_value_that_is_not_json_is_refused_and_leaves_no_file(cache: Cache) -> None:
    with pytest.raises(ValueError, match="JSON"):
        cache.put("a", float("nan"))
    assert not list(cache.folder.rglob("*"))


def test_a_folder_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "replies").write_text("a file where the folder should be")
    with pytest.raises(RunError, match="TOCSIN_HOME"):
        Cache("replies", root=tmp_path).put("a", 1)


WRITER = """
import sys
from pathlib import Path
from tocsin.core.cache import Cache
cache = Cache("replies", root=Path(sys.argv[1]))
for round in range(150):
    cache.put("shared", [int(sys.argv[2])] * 2000)
    seen = cache.get("shared", "absent")
    assert isinstance(seen, list) and len(seen) == 2000 and len(set(seen)) == 1, "a torn entry was read"
"""


def test_several_processes_writing_one_key_never_see_a_torn_entry(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)], stderr=subprocess.PIPE)
        for n in range(3)
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors.decode()
    entry = Cache("replies", root=tmp_path).get("shared")
    assert isinstance(entry, list)
    assert len(entry) == 2000
    assert not list(tmp_path.rglob("*.part"))


def test_the_cache_lives_under_tocsin_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOCSIN_HOME", str(tmp_path))
    assert home() == tmp_path
    cache = Cache("chat")
    cache.put("a", 1)
    assert cache.path("a").is_relative_to(tmp_path / "cache" / "chat")
    assert json.loads(cache.path("a").read_text()) == {"value": 1}
