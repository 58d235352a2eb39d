"""Reports of an evaluation: report.json for programs, report.md and report.html for people.

``build`` makes the data that all three are made from; ``Turned`` and ``Pictures`` watch the evaluation for it.
"""

from classaug_ros.report.build import build_report
from classaug_ros.report.files import load_report, write_report
from classaug_ros.report.markdown import table_2, to_markdown
from classaug_ros.report.pictures import Pictures
from classaug_ros.report.turned import Turned

__all__ = ["Pictures", "Turned", "build_report", "load_report", "table_2", "to_markdown", "write_report"]
