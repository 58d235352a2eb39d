"""Comparison of reports: differences, warnings, and bounds as a gate in CI."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.reports import evaluate_world
from support.tinymodels import write_world

from classaug_ros.cli import main as classaug
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.report import write_report
from classaug_ros.evaluation.report.compare import Bound, broken, load_runs, to_markdown, warnings
from classaug_ros.rules.decision import Decision

Report = dict[str, Any]
Change = Callable[[Report], None]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return evaluate_world(write_world(tmp_path_factory.mktemp("world"), images=3)).report


@pytest.fixture
def reports(base: Report, tmp_path: Path) -> Callable[..., list[Path]]:
    def write(*changes: Change) -> list[Path]:
        folders = [tmp_path / "a"]
        write_report(base, folders[0])
        for number, change in enumerate(changes):
            report = copy.deepcopy(base)
            change(report)
            folders.append(tmp_path / f"other{number}")
            write_report(report, folders[-1])
        return folders

    return write


def nothing(_: Report) -> None:
    """Leave a report as it is."""


def iou(name: str, points: float | None) -> Change:
    """Change the IoU of a class, and the mean over the main classes, by points."""

    def change(report: Report) -> None:
        result = report["methods"]["table"]
        result["iou"][name] = None if points is None else result["iou"][name] + points
        if points is not None:
            result["miou"]["main"] += points / 2

    return change


def in_provenance(*keys: str | int, value: Any) -> Change:
    def change(report: Report) -> None:
        part: Any = report["provenance"]
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value

    return change


def frames_less(report: Report) -> None:
    report["frames"].pop()


def other_truth(report: Report) -> None:
    for result in report["methods"].values():
        result["confusion"][0][0] += 1


def other_classes(report: Report) -> None:
    report["classes"]["truck"] = report["classes"].pop("car")
    for result in report["methods"].values():
        result["iou"]["truck"] = result["iou"].pop("car")


def other_kinds(report: Report) -> None:
    report["classes"]["bag"] = "added"


def rows(text: str, heading: str) -> dict[str, list[str]]:
    part = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in lines[2:]}


def test_classes_are_sorted_by_how_much_they_changed(base: Report, reports: Callable[..., list[Path]]) -> None:
    text = to_markdown(load_runs(reports(iou("car", -3), iou("road", 1))))
    before = base["methods"]["table"]["iou"]
    assert list(rows(text, "IoU % per class, table rules").items()) == [
        (
            "car",
            [
                "main",
                f"{before['car']:.1f}",
                f"{before['car'] - 3:.1f}",
                "-3.0",
                f"{before['car']:.1f}",
                "+0.0",
            ],
        ),
        (
            "road",
            [
                "main",
                f"{before['road']:.1f}",
                f"{before['road']:.1f}",
                "+0.0",
                f"{before['road'] + 1:.1f}",
                "+1.0",
            ],
        ),
    ]
    assert "| class | kind | A " in text
    assert "| C - A |" in text
    assert "Unchanged (by less than 0.05 points): person, bicycle, bag." in text


def test_means_of_every_method_are_compared(base: Report, reports: Callable[..., list[Path]]) -> None:
    text = to_markdown(load_runs(reports(iou("car", -3))))
    part = text.partition("## mIoU %")[2].partition("##")[0]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"][2:]
    titles = {"main_only": "main alone", "sub_only": "sub alone", "table": "table rules"}
    expected = []
    for method, title in titles.items():
        for mean, value in base["methods"][method]["miou"].items():
            change = -1.5 if (method, mean) == ("table", "main") else 0.0
            expected.append([title, mean, f"{value:.1f}", f"{value + change:.1f}", f"{change:+.1f}"])
    assert found == expected


def test_a_class_without_a_score_on_one_side_comes_first(reports: Callable[..., list[Path]]) -> None:
    text = to_markdown(load_runs(reports(lambda report: (iou("car", 5)(report), iou("person", None)(report))[0])))
    found = rows(text, "IoU % per class, table rules")
    assert list(found) == ["person", "car"]
    assert found["person"][2:] == ["-", "-"]


def test_other_methods_are_told_on_demand(reports: Callable[..., list[Path]]) -> None:
    runs = load_runs(reports(nothing))
    assert "## IoU % per class, sub alone\n\nUnchanged" in to_markdown(runs, ["sub_only"])
    assert "sub alone\n\n" not in to_markdown(runs)


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (in_provenance("models", "main", "fingerprint", value="f" * 64), "A and B have different main models (main "),
        (in_provenance("models", "sub", "fingerprint", value="f" * 64), "A and B have different sub models (sub "),
        (in_provenance("rules", 0, "task", value="f" * 64), "A and B have different tasks"),
        (in_provenance("rules", 0, "fingerprint", value="f" * 64), "A and B have different rules"),
        (in_provenance("package_version", value="9.9"), "A and B were evaluated with different versions"),
        (frames_less, "A and B are of different images (3 and 2, 2 of them the same)"),
        (other_truth, "A and B are of different ground truth of the same images"),
        (other_classes, "A and B are of different classes (car, truck in one alone)"),
        (other_kinds, "A and B are of classes that are main or added in one alone"),
    ],
)
def test_what_else_differs_is_told(reports: Callable[..., list[Path]], change: Change, warning: str) -> None:
    runs = load_runs(reports(change))
    (found,) = warnings(runs)
    assert found.startswith(warning)
    assert f"> - {found}" in to_markdown(runs)


@pytest.fixture(scope="module")
def weighed(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The same world by rules of kind probability, which leave pixels unlabelled."""
    world = write_world(tmp_path_factory.mktemp("weighed"), images=3)
    return evaluate_world(world, kind="probability", decision=Decision(min_confidence=0.4)).report


def test_rules_of_different_kinds_are_compared_as_they_are_used(
    base: Report, weighed: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder, report in zip(folders, (base, weighed), strict=True):
        write_report(report, folder)
    runs = load_runs(folders)
    parts = ("prefer evidence", "min_confidence {}", "contours False")
    assert warnings(runs) == [
        "A and B have different rules",
        "A and B have different kinds of rules in use",
        f"A and B decide differently ({', '.join(parts).format(0.0)} and {', '.join(parts).format(0.4)})",
    ]
    text = to_markdown(runs, ["in_use", "probability"])
    lines = text.partition("## mIoU %")[2].partition("##")[0].splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"][2:]
    used = "in use: table rules / probability rules"
    assert [row[:2] for row in found[2::3]] == [
        [title, "all"] for title in ("main alone", "sub alone", "table rules", "probability rules", used)
    ]
    before, after = base["methods"]["table"]["miou"]["all"], weighed["methods"]["probability"]["miou"]["all"]
    assert found[-1][2:] == [f"{before:.1f}", f"{after:.1f}", f"{round(after - before, 1):+.1f}"]
    assert found[-4][2:] == ["-", f"{after:.1f}", "-"]
    assert f"## IoU % per class, {used}" in text
    assert set(rows(text, "IoU % per class, probability rules")) == set(base["classes"])
    gained = after - before
    assert gained > 0.5
    for bound, status in ((gained - 0.1, 1), (gained + 0.1, 0)):
        assert classaug(["compare", *map(str, reversed(folders)), f"--max-drop=all={bound}"]) == status
        assert ("all: B lost" in capsys.readouterr().err) == bool(status)


def test_a_method_that_no_report_has_is_a_mistake(
    reports: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = list(map(str, reports(nothing)))
    assert classaug(["compare", *folders, "--method", "table", "--method", "rules"]) == 2
    expected = "expected one of: in_use, main_only, sub_only, table"
    assert capsys.readouterr() == ("", f"classaug compare: --method rules: no report has it; {expected}\n")


def test_a_report_of_an_older_program_is_refused(
    reports: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = reports(lambda report: report.update(format=1))
    assert classaug(["compare", *map(str, folders)]) == 2
    assert capsys.readouterr().err.endswith("report.json: expected format 2, found 1; evaluate again\n")


def test_another_sub_model_more_is_told(reports: Callable[..., list[Path]]) -> None:
    def one_more(report: Report) -> None:
        report["provenance"]["models"]["sub2"] = {"name": "voc", "fingerprint": "f" * 64}

    assert warnings(load_runs(reports(one_more))) == [
        f"A and B have different sub2 models (none and voc {'f' * 12})",
    ]


def test_equal_reports_differ_in_nothing(reports: Callable[..., list[Path]]) -> None:
    runs = load_runs(reports(nothing))
    assert warnings(runs) == []
    assert ">" not in to_markdown(runs)


@pytest.mark.parametrize(
    ("bounds", "status", "complaint"),
    [
        ([], 0, ""),
        (["main=2"], 0, ""),
        (["main=1.5"], 0, ""),
        (["main=1.4", "added=0", "all=0"], 1, "bound broken: main: B lost 1.50 points"),
        (["car=2.5"], 1, "bound broken: car: B lost 3.00 points"),
        (["road=0"], 0, ""),
        (["boat=1"], 2, "has no class 'boat'; expected one of: main, added, all, road"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_the_exit_status_tells_whether_a_bound_was_broken(
    reports: Callable[..., list[Path]],
    capsys: pytest.CaptureFixture[str],
    bounds: list[str],
    status: int,
    complaint: str,
) -> None:
    folders = reports(iou("car", -3.0))
    options = [word for bound in bounds for word in ("--max-drop", bound)]
    assert classaug(["compare", *map(str, folders), *options]) == status
    output = capsys.readouterr()
    assert output.out.startswith("# Comparison\n") == (status < 2)
    assert complaint in output.err
    assert bool(output.err) == bool(complaint)


def test_a_gain_never_breaks_a_bound(reports: Callable[..., list[Path]]) -> None:
    folders = map(str, reports(iou("car", 3.0)))
    assert classaug(["compare", *folders, "--max-drop", "main=0", "--max-drop", "car=0"]) == 0


def test_every_later_report_is_held_to_the_bounds(
    reports: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = map(str, reports(nothing, iou("car", -3.0)))
    assert classaug(["compare", *folders, "--max-drop", "car=1"]) == 1
    assert "car: C lost 3.00" in capsys.readouterr().err


def test_a_score_that_is_gone_breaks_its_bound(
    reports: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    folders = list(map(str, reports(iou("car", None))))
    assert classaug(["compare", *folders, "--max-drop", "car=50"]) == 1
    assert "bound broken: car: B has no score" in capsys.readouterr().err
    assert classaug(["compare", *reversed(folders), "--max-drop", "car=50"]) == 2
    assert "has no score for 'car'" in capsys.readouterr().err


@pytest.mark.parametrize("change", [frames_less, other_truth, other_kinds])
def test_no_bound_is_judged_on_other_data(
    reports: Callable[..., list[Path]], capsys: pytest.CaptureFixture[str], change: Change
) -> None:
    folders = list(map(str, reports(change)))
    assert classaug(["compare", *folders, "--max-drop", "main=50"]) == 2
    assert "no bound can be judged; evaluate both on the same data" in capsys.readouterr().err
    assert classaug(["compare", *folders]) == 0


def changed_anywhere(report: Report) -> Iterator[tuple[str, Report]]:
    """Return the report with one value of it missing or of another kind, for all of its values in turn."""

    def places(value: Any, where: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        if isinstance(value, (dict, list)):
            for key in list(value)[:3] if isinstance(value, dict) else range(min(len(value), 2)):
                yield (*where, key)
                yield from places(value[key], (*where, key))

    for where in places(report, ()):
        others: tuple[Any, ...] = (None, "x", [], {}, True, 1e999)
        for other in others:
            changed = copy.deepcopy(report)
            part: Any = changed
            for key in where[:-1]:
                part = part[key]
            if other is None:
                del part[where[-1]]
            else:
                part[where[-1]] = other
            yield f"{where} = {other!r}", changed


def test_a_report_broken_anywhere_is_compared_or_refused(base: Report, tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    files[0].write_text(json.dumps(base), encoding="utf-8")
    refused = []
    for where, changed in changed_anywhere(base):
        files[1].write_text(json.dumps(changed), encoding="utf-8")
        for paths in (files, files[::-1]):
            refused += compared(paths, where)
    assert len(refused) > 300
    assert [line for line in refused if "\n" in line] == []


def compared(paths: list[Path], where: str) -> list[str]:
    """Compare reports; return what it is refused for."""
    try:
        runs = load_runs(paths)
        to_markdown(runs)
        broken(runs, [Bound("all", 1.0)])
    except ConfigError as error:
        return [str(error)]
    except Exception as error:
        raise AssertionError(where) from error
    return []


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"format": NaN}', b'{"format": 2', b"\xff", b"", b"{}"],
    ids=["nested", "NaN", "cut off", "not UTF-8", "empty", "nothing in it"],
)
def test_a_broken_report_is_refused_by_name(
    reports: Callable[..., list[Path]], content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = reports(nothing)
    (folders[1] / "report.json").write_bytes(content)
    assert classaug(["compare", *map(str, folders)]) == 2
    told = capsys.readouterr().err
    assert "report.json: is no report.json of `classaug evaluate`; name one" in told
    assert told.count("\n") == 1


def test_what_cannot_be_compared_is_a_mistake(
    reports: Callable[..., list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder, _) = reports(nothing)
    assert classaug(["compare", str(folder)]) == 2
    assert "expected two reports or more, found 1" in capsys.readouterr().err
    assert classaug(["compare", str(folder), str(tmp_path / "nowhere")]) == 2
    assert "nowhere: cannot be read" in capsys.readouterr().err
    unscored = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    unscored["classes"] = {}
    (tmp_path / "u.json").write_text(json.dumps(unscored), encoding="utf-8")
    assert classaug(["compare", str(folder), str(tmp_path / "u.json")]) == 2
    assert "u.json: has no scores: it is of images without ground truth" in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["main", "=1", "main=x", "main=-1", "main=nan"])
def test_a_bound_is_a_name_and_points(bound: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        classaug(["compare", "a", "b", "--max-drop", bound])
    assert ended.value.code == 2
    assert f"expected something such as main=0.5, found '{bound}'" in capsys.readouterr().err
