"""Reports of an evaluation: report.json for programs, report.md and report.html for people.

``report_data`` makes the data that all three are made from; ``ClassChanges`` and ``Pictures`` watch the evaluation
for it.
"""

from classaug_ros.evaluation.report.class_changes import ClassChanges
from classaug_ros.evaluation.report.markdown import table_2, to_markdown
from classaug_ros.evaluation.report.pictures import Pictures
from classaug_ros.evaluation.report.report_data import build_report
from classaug_ros.evaluation.report.report_files import load_report, write_report

__all__ = ["ClassChanges", "Pictures", "build_report", "load_report", "table_2", "to_markdown", "write_report"]
