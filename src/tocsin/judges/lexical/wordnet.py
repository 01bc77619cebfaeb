"""Synonyms from the WordNet 3.0 files of Debian's package `wordnet-base`, read as they lie on disk.

NLTK's reader needs a download of its own and seconds to load. METEOR asks for synonyms only, so the sorted
index files are searched in place and nothing is loaded.
"""

from __future__ import annotations

import mmap
from functools import lru_cache
from pathlib import Path

WORDNET = Path("/usr/share/wordnet")
_PARTS = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
# (ending, replacement) of regular inflection, from WordNet's documentation of `morphy`.
_ENDINGS = {
    "noun": [
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ],
    "verb": [
        ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", ""),
    ],
    "adj": [("er", ""), ("est", ""), ("er", "e"), ("est", "e")],
    "adv": [],
}  # fmt: skip


class WordNet:
    """Synonyms of English words.

    Args:
        folder: Holds `index.*`, `data.*` and `*.exc` of WordNet 3.0.

    Raises:
        OSError: If a file is missing.
    """

    def __init__(self, folder: Path = WORDNET) -> None:
        self._index = {part: _Mapped(folder / f"index.{part}") for part in _PARTS}
        self._data = {part: _Mapped(folder / f"data.{part}") for part in _PARTS}
        self._exceptions = {part: _exceptions(folder / f"{part}.exc") for part in _PARTS}

    def synonyms(self, word: str) -> frozenset[str]:
        """All single words that share a sense with this word or with a base form of it, the word among them.

        Args:
            word: In lower case.
        """
        found = set()
        for part in _PARTS:
            for form in self._forms(word, part):
                for offset in self._offsets(form, part):
                    found |= self._names(offset, part)
        return frozenset(found)

    def _forms(self, word: str, part: str) -> list[str]:
        irregular = self._exceptions[part].get(word)
        forms = irregular or [word[: -len(old)] + new for old, new in _ENDINGS[part] if word.endswith(old)]
        return list(dict.fromkeys([word, *forms]))

    def _offsets(self, form: str, part: str) -> list[int]:
        line = self._index[part].find(form)
        if line is None:
            return []
        fields = line.split()
        # lemma, part, number of synsets, number of pointers, pointers, two counts, then the offsets
        return [int(field) for field in fields[-int(fields[2]) :]]

    def _names(self, offset: int, part: str) -> set[str]:
        fields = self._data[part].line_at(offset).split()
        names = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
        # Adjectives may carry a marker of their place, as in `galore(ip)`.
        return {name.partition("(")[0] for name in names if "_" not in name}


@lru_cache(maxsize=1)
def installed() -> WordNet | None:
    """The files of this machine; None where they are not installed."""
    try:
        return WordNet()
    except OSError:
        return None


class _Mapped:
    """A sorted text file that is searched without being read."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def line_at(self, offset: int) -> str:
        end = self._bytes.find(b"\n", offset)
        return self._bytes[offset : end if end >= 0 else len(self._bytes)].decode("ascii", "replace")

    def find(self, word: str) -> str | None:
        """The line whose first field is the word; lines are sorted by it, byte by byte."""
        wanted = word.encode("utf-8", "surrogatepass")
        if not wanted or b" " in wanted:
            return None
        low, high = 0, len(self._bytes)
        while low < high:
            middle = (low + high) // 2
            start = self._bytes.rfind(b"\n", 0, middle) + 1
            end = self._bytes.find(b"\n", start)
            end = len(self._bytes) if end < 0 else end
            line = self._bytes[start:end]
            # The licence at the top is indented, so its lines have an empty first field.
            key = line[: line.find(b" ")] if b" " in line else line
            if key == wanted:
                return line.decode("ascii", "replace")
            if key < wanted:
                low = end + 1
            else:
                high = start
        return None


def _exceptions(path: Path) -> dict[str, list[str]]:
    lines = (line.split() for line in path.read_text("ascii", "replace").splitlines())
    return {fields[0]: fields[1:] for fields in lines if len(fields) > 1}
