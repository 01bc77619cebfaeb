"""Judges and reference metrics, and what can be said about them: benchmark scores, rankings, agreement.

A judge is a detector whose items are responses (`Kind.RESPONSE`, with the request in `prompt`), so it stands
in the same registry and is measured by the same `evaluate`. Importing this package registers them
(entry-point group `tocsin`).
"""

from tocsin.judges import classifier as _classifier
from tocsin.judges import embedding as _embedding
from tocsin.judges import guards as _guards
from tocsin.judges import lexical as _lexical
from tocsin.judges import prompted as _prompted
from tocsin.judges import strings as _strings

__all__: list[str] = []

_REGISTERED = (_classifier, _embedding, _guards, _lexical, _prompted, _strings)
