"""Harmless stand-in data and screenshots of every state of the annotation pages.

    python scripts/annotation_example.py data responses.jsonl
    python scripts/annotation_example.py screenshots docs/images

Needs Chromium and its driver for the screenshots.
"""

from __future__ import annotations
