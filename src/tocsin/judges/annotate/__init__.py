"""Rankings by people: a study in one SQLite file, and the local pages on which it is done."""

from tocsin.judges.annotate.agreement import live_agreement
from tocsin.judges.annotate.store import Annotator, Progress, Study, StudySettings

__all__ = ["Annotator", "Progress", "Study", "StudySettings", "live_agreement"]
