"""How a model became unsafe, what is left of its safety, what brings it back (arXiv 2604.18510, card 02)."""

from tocsin.explain.audit.comparable import check_comparable
from tocsin.explain.audit.data import AuditData, AuditSettings, Prompt, ReplyJudge, Wording
from tocsin.explain.audit.judging import RegisteredJudge
from tocsin.explain.audit.records import AuditStudy
from tocsin.explain.audit.study import Control, study_audit
from tocsin.explain.audit.verdict import Route

__all__ = [
    "AuditData",
    "AuditSettings",
    "AuditStudy",
    "Control",
    "Prompt",
    "RegisteredJudge",
    "ReplyJudge",
    "Route",
    "Wording",
    "check_comparable",
    "study_audit",
]
