"""Reports: plain records in, a table, JSON, SARIF 2.1.0 or one self-contained HTML page out.

Studies hand over a `StudyPage` instead of rows. Every other function takes a `RunInfo` and rows (an iterator,
read once) and works in bounded memory. Examined text is shown only by
`write_html_report(..., include_text=True)` and by the JSON forms with the same argument.
"""

from tocsin.report.html import write_html_report
from tocsin.report.json_output import render_json, render_jsonl
from tocsin.report.records import DetectorNote, Measured, Prevalence, ReportRow, RunInfo, Setting
from tocsin.report.sarif import render_sarif
from tocsin.report.study import Figure, Ranged, Section, StudyPage, Table, render_study, write_study_page
from tocsin.report.summary import Outcomes, Summary, summarise
from tocsin.report.table import render_table
from tocsin.report.visible import visible

__all__ = [
    "DetectorNote",
    "Figure",
    "Measured",
    "Outcomes",
    "Prevalence",
    "Ranged",
    "ReportRow",
    "RunInfo",
    "Section",
    "Setting",
    "StudyPage",
    "Summary",
    "Table",
    "render_json",
    "render_jsonl",
    "render_sarif",
    "render_study",
    "render_table",
    "summarise",
    "visible",
    "write_html_report",
    "write_study_page",
]
