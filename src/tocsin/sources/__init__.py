"""Readers: data files, chats, fine-tuning sets, skills and whole registries of them, as a stream of items."""

from tocsin.sources.baseline import Baseline, KnownFinding
from tocsin.sources.ignore import read_ignore_file
from tocsin.sources.limits import Limits
from tocsin.sources.skill_rules import SKILL_RULES
from tocsin.sources.source import Source, open_source

__all__ = ["SKILL_RULES", "Baseline", "KnownFinding", "Limits", "Source", "open_source", "read_ignore_file"]
