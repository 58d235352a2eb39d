"""Reports: report.json for programs, report.md and report.html for people."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.reports import Evaluated, evaluate_world
from support.tinymodels import SUB_CLASSES, write_world

from classaug_ros import __version__
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.evaluate import Scorer
from classaug_ros.evaluation.report import Pictures, build_report, load_report, table_2, to_markdown, write_report
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules.task import Task


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return evaluate_world(write_world(tmp_path_factory.mktemp("world"), images=3))


def test_the_methods_have_miou_and_iou_in_per_cent(evaluated: Evaluated) -> None:
    report, evaluation = evaluated.report, evaluated.evaluation
    assert list(report["methods"]) == ["main_only", "sub_only", "table"]
    for method, result in report["methods"].items():
        assert list(result["miou"]) == ["main", "added", "all"]
        assert list(result["iou"]) == list(SUB_CLASSES)
        for key, ratios in (("miou", evaluation.miou(method)), ("iou", evaluation.iou(method))):
            assert result[key] == pytest.approx({name: 100 * ratio for name, ratio in ratios.items()})
        assert result["confusion"] == evaluation.matrices[method].counts.tolist()


def test_the_report_holds_every_frame(evaluated: Evaluated) -> None:
    frames = evaluated.report["frames"]
    assert [frame["name"] for frame in frames] == ["0000", "0001", "0002"]
    for told, frame in zip(frames, evaluated.evaluation.frames, strict=True):
        assert (told["camera"], told["stamp"], told["apart"]) == ("", 0, 0)
        assert told["seconds"] == pytest.approx(frame.seconds, abs=1e-6)
        assert told["shares"] == pytest.approx(frame.shares, abs=1e-6)
        assert told["miou"] == pytest.approx({method: 100 * value for method, value in frame.miou.items()})


def test_the_report_says_where_it_comes_from(evaluated: Evaluated) -> None:
    report, world = evaluated.report, evaluated.world
    assert report["classes"] == {"road": "main", "person": "added", "bicycle": "added", "bag": "neither", "car": "main"}
    assert [(one["name"], one["source"]) for one in report["output"]] == [
        ("road", "main"),
        ("rider", "main"),
        ("car", "main"),
        ("person", "added"),
        ("bicycle", "added"),
    ]
    made = report["provenance"]
    assert (made["dataset"], made["truth"], made["images"]) == ("drive", "drive", 3)
    assert made["package_version"] == __version__
    assert made["models"]["main"] == {"name": "main", "fingerprint": load_model(world.main).fingerprint}
    assert made["models"]["sub"]["fingerprint"] == load_model(world.sub).fingerprint
    [learned] = made["rules"]
    assert (learned["kind"], learned["min_support"]) == ("table", 3)
    assert learned["task"] == Task.load(world.task).fingerprint


def test_what_main_classes_turned_into_is_counted(evaluated: Evaluated) -> None:
    world, [rules] = evaluated.world, evaluated.rules.rules
    expected = [[0] * (len(rules.output) + 1) for _ in rules.main_classes]
    for image in world.images.values():
        main, sub = (weights.scores(image).argmax(axis=0) for weights in (world.main_weights, world.sub_weights))
        for i, output in zip(main.ravel(), rules.table[main, sub].ravel(), strict=True):
            expected[i][output] += 1
    assert evaluated.report["turned"] == expected


def test_all_files_are_written(evaluated: Evaluated, tmp_path: Path) -> None:
    report = evaluated.report
    folder = tmp_path / "new" / "report"
    write_report(report, folder, evaluated.pictures)
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "report.json", "report.md"]
    assert load_report(folder) == load_report(folder / "report.json") == json.loads(json.dumps(report))
    assert (folder / "report.md").read_text(encoding="utf-8") == to_markdown(report)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/file/report\.json: cannot be written"):
        write_report(report, tmp_path / "file")


def test_the_json_has_a_line_for_each_innermost_list(evaluated: Evaluated, tmp_path: Path) -> None:
    write_report(evaluated.report, tmp_path)
    lines = [line.strip().rstrip(",") for line in (tmp_path / "report.json").read_text(encoding="utf-8").splitlines()]
    for row in evaluated.report["turned"]:
        assert json.dumps(row) in lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"{", "is no report.json of `classaug evaluate`"),
        (b"\xff", "is no report.json of `classaug evaluate`"),
        (b"[]", "is no report.json of `classaug evaluate`"),
        (b'{"methods": {}, "classes": {}, "provenance": {}}', "expected format 2, found None; evaluate again"),
    ],
)
def test_what_is_no_report_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_report(tmp_path)


def test_what_is_undefined_is_null_in_json_and_a_dash_for_people(evaluated: Evaluated, tmp_path: Path) -> None:
    evaluation = evaluated.evaluation
    empty = Scorer(evaluation.scoring, evaluation.methods).evaluation()
    assert math.isnan(empty.miou("table")["all"])
    with Pipeline(load_model(evaluated.world.main), load_model(evaluated.world.sub)) as pipeline:
        report = build_report(empty, pipeline, evaluated.source)
    write_report(report, tmp_path, Pictures(evaluated.source, [Task.load(evaluated.world.task)], evaluated.rules))
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    stored = json.loads(text, parse_constant=pytest.fail)
    assert stored["methods"]["table"]["miou"] == {"main": None, "added": None, "all": None}
    assert "| table rules | -            | -             | -   |" in table_2(report)


def test_table_2_is_the_paper_s(evaluated: Evaluated) -> None:
    report = evaluated.report
    lines = table_2(report).splitlines()
    assert lines[0].split("|")[1:-1] == [" mIoU %      ", " main classes ", " added classes ", " all  "]
    assert len({len(line) for line in lines}) == 1
    titles = ("main alone", "sub alone", "table rules")
    for line, method, title in zip(lines[2:], report["methods"], titles, strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        miou = report["methods"][method]["miou"]
        assert cells == [title, *(f"{miou[kind]:.1f}" for kind in ("main", "added", "all"))]


def test_the_markdown_holds_every_class_and_its_origin(evaluated: Evaluated) -> None:
    report = evaluated.report
    text = to_markdown(report)
    assert text.startswith("# Class augmentation on drive\n\n| mIoU %")
    assert table_2(report) in text
    for name, kind in report["classes"].items():
        ious = [f"{result['iou'][name]:.1f}" for result in report["methods"].values()]
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
        assert [cell.strip() for cell in row.strip("|").split("|")] == [name, kind, *ious]
    assert "- images: 3 of drive" in text
    assert "- ground truth: drive, for 3 of 3 images\n" in text
    assert "min_support 3" in text


def test_ground_truth_found_by_stamp_tells_how_far_it_was(evaluated: Evaluated) -> None:
    report: dict[str, Any] = json.loads(json.dumps(evaluated.report))
    for frame, apart in zip(report["frames"], (-2_500_000, None, 1_000_000), strict=True):
        frame["apart"] = apart
    told = "- ground truth: drive, for 2 of 3 images, at most 2.5 ms from its image's stamp\n"
    assert told in to_markdown(report)


def test_without_ground_truth_the_markdown_tells_shares(tmp_path: Path) -> None:
    evaluated = evaluate_world(write_world(tmp_path, images=2), truth=False)
    text = to_markdown(evaluated.report)
    assert "No ground truth: nothing is scored." in text
    assert "mIoU" not in text
    frames = evaluated.report["frames"]
    for number, one in enumerate(evaluated.report["output"]):
        share = sum(frame["shares"][number] for frame in frames) / 2
        row = next((line for line in text.splitlines() if line.startswith(f"| {one['name']} ")), None)
        if share:
            assert row is not None
            assert [cell.strip() for cell in row.strip("|").split("|")] == [
                one["name"],
                one["source"],
                f"{100 * share:.1f}",
            ]
