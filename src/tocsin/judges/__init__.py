"""Judges and reference metrics, and what can be said about them: benchmark scores, rankings, agreement.

A judge is a detector whose items are responses (`Kind.RESPONSE`, with the request in `prompt`), so it stands
in the same registry and is measured by the same `evaluate`. Importing this package registers them
(entry-point group `tocsin`).
"""

__all__: list[str] = []
