"""Rankings by people: a study in one SQLite file, and the local pages on which it is done."""

from tocsin.judges.annotate.agreement import live_agreement
from tocsin.judges.annotate.records import Annotator, Progress, StudySettings
from tocsin.judges.annotate.store import Study

__all__ = ["Annotator", "Progress", "Study", "StudySettings", "live_agreement"]
