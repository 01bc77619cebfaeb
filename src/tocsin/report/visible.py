"""Names and texts made safe to look at.

Paths, categories and examined text come from outside. Control characters could move a terminal's cursor or
recolour it, bidirectional overrides could make a name read as another one, and invisible characters could
hide text. All of them are replaced by a visible code such as ``[U+202E]``. Escaping for HTML is Jinja2's task
and comes after this.
"""

from __future__ import annotations

import re
import unicodedata

_KEPT_IN_TEXT = "\n\t"
# Categories Cc (control), Cf (format: bidi overrides, zero width, tags), Cs (lone surrogates, as in
# undecodable file names), Co (private use), Zl and Zp (line and paragraph separators).
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_PRINTABLE_ASCII = re.compile(r"[ -~]*")


def visible(text: str, *, keep_lines: bool = False, limit: int | None = None) -> str:
    r"""Replace every control, formatting and undecodable character by its visible code.

    Args:
        text: Any string, lone surrogates included.
        keep_lines: Keep line feeds and tabs, as for a block of text. Names are always one line.
        limit: Longest result wanted, counted in characters of `text`; a cut ends in `…`.

    Returns:
        A string that can be encoded as UTF-8 and printed on a terminal.

    Example:
        >>> visible("safe\u202egpj.exe")
        'safe[U+202E]gpj.exe'
    """
    cut = text if limit is None or len(text) <= limit else text[: max(limit - 1, 0)]
    if _PRINTABLE_ASCII.fullmatch(cut):
        shown = cut
    else:
        kept = _KEPT_IN_TEXT if keep_lines else ""
        shown = "".join(
            f"[U+{ord(character):04X}]" if character not in kept and _is_hidden(character) else character
            for character in cut
        )
    return shown if len(cut) == len(text) else shown + "…"


def _is_hidden(character: str) -> bool:
    code = ord(character)
    # Noncharacters such as U+FFFE have the category "unassigned", as letters newer than this Python have too.
    is_noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return is_noncharacter or unicodedata.category(character) in _HIDDEN_CATEGORIES
