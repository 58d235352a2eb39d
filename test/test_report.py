"""Reports: report.json for programs, report.md for people."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tinymodels import SUB_CLASSES, World, write_world

from classaug_ros import __version__
from classaug_ros.dataset import load_dataset
from classaug_ros.errors import ConfigError
from classaug_ros.evaluate import Evaluation, evaluate
from classaug_ros.learn import count, derive_rules
from classaug_ros.models import load_model
from classaug_ros.pipeline import Pipeline
from classaug_ros.report import build_report, table_2, to_markdown, write_report
from classaug_ros.task import Task


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"), images=3)


@pytest.fixture(scope="module")
def evaluated(world: World) -> tuple[Evaluation, dict[str, Any]]:
    task, dataset = Task.load(world.task), load_dataset(world.dataset)
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        rules = derive_rules(count(pipeline, [dataset], task, world.folder / "c.npz"), task, 3)
        evaluation = evaluate(pipeline, dataset, task, rules)
        return evaluation, build_report(evaluation, pipeline, dataset, rules)


def test_the_methods_have_miou_and_iou_in_per_cent(evaluated: tuple[Evaluation, dict[str, Any]]) -> None:
    evaluation, report = evaluated
    assert list(report["methods"]) == ["main_only", "sub_only", "rules"]
    for method, result in report["methods"].items():
        assert list(result["miou"]) == ["main", "added", "all"]
        assert list(result["iou"]) == list(SUB_CLASSES)
        for key, ratios in (("miou", evaluation.miou(method)), ("iou", evaluation.iou(method))):
            assert result[key] == pytest.approx({name: 100 * ratio for name, ratio in ratios.items()})
        assert result["confusion"] == evaluation.matrices[method].counts.tolist()


def test_the_report_says_where_it_comes_from(evaluated: tuple[Evaluation, dict[str, Any]], world: World) -> None:
    _, report = evaluated
    assert report["classes"] == {"road": "main", "person": "added", "bicycle": "added", "bag": "neither", "car": "main"}
    made = report["provenance"]
    assert (made["dataset"], made["images"], made["package_version"]) == ("drive", 3, __version__)
    assert made["models"]["main"] == {"name": "main", "fingerprint": load_model(world.main).fingerprint}
    assert made["models"]["sub"]["fingerprint"] == load_model(world.sub).fingerprint
    assert made["rules"]["min_support"] == 3
    assert made["rules"]["task"] == Task.load(world.task).fingerprint


def test_both_files_are_written(evaluated: tuple[Evaluation, dict[str, Any]], tmp_path: Path) -> None:
    _, report = evaluated
    write_report(report, tmp_path / "new" / "report")
    folder = tmp_path / "new" / "report"
    assert sorted(file.name for file in folder.iterdir()) == ["report.json", "report.md"]
    stored = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(report))
    assert (folder / "report.md").read_text(encoding="utf-8") == to_markdown(report)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/file/report\.json: cannot be written"):
        write_report(report, tmp_path / "file")


def test_what_is_undefined_is_null_in_json_and_a_dash_for_people(
    evaluated: tuple[Evaluation, dict[str, Any]], world: World, tmp_path: Path
) -> None:
    evaluation, _ = evaluated
    empty = Evaluation(evaluation.scoring, {m: type(c)(5) for m, c in evaluation.matrices.items()}, ())
    assert math.isnan(empty.miou("rules")["all"])
    task, dataset = Task.load(world.task), load_dataset(world.dataset)
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        rules = derive_rules(count(pipeline, [dataset], task, world.folder / "c.npz"), task)
        report = build_report(empty, pipeline, dataset, rules)
    write_report(report, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    stored = json.loads(text, parse_constant=pytest.fail)
    assert stored["methods"]["rules"]["miou"] == {"main": None, "added": None, "all": None}
    assert "| rules            | -            | -             | -   |" in table_2(report)


def test_table_2_is_the_paper_s(evaluated: tuple[Evaluation, dict[str, Any]]) -> None:
    _, report = evaluated
    lines = table_2(report).splitlines()
    assert lines[0].split("|")[1:-1] == [" mIoU %           ", " main classes ", " added classes ", " all  "]
    assert len({len(line) for line in lines}) == 1
    for line, method, title in zip(
        lines[2:], report["methods"], ("main model alone", "sub model alone", "rules"), strict=True
    ):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        miou = report["methods"][method]["miou"]
        assert cells == [title, *(f"{miou[kind]:.1f}" for kind in ("main", "added", "all"))]


def test_the_markdown_holds_every_class_and_its_origin(evaluated: tuple[Evaluation, dict[str, Any]]) -> None:
    _, report = evaluated
    text = to_markdown(report)
    assert text.startswith("# Class augmentation on drive\n\n| mIoU %")
    assert table_2(report) in text
    for name, kind in report["classes"].items():
        ious = [f"{result['iou'][name]:.1f}" for result in report["methods"].values()]
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} "))
        assert [cell.strip() for cell in row.strip("|").split("|")] == [name, kind, *ious]
    assert "- 3 images of data set drive" in text
    assert "min_support 3" in text
