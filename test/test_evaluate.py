"""Evaluation: figures against scikit-learn, and the real models on real images."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score
from support.reports import unsure_evidence, world_rules
from support.tinymodels import MAIN_CLASSES, SUB_CLASSES, World, random_rules, write_dataset, write_model, write_world

from classaug_ros.cli import main as classaug
from classaug_ros.data.dataset import load_dataset
from classaug_ros.data.examples import Example
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.calibration import Calibration
from classaug_ros.evaluation.evaluate import Evaluation, Prediction, evaluate, label_files
from classaug_ros.evaluation.report import load_report
from classaug_ros.imaging.images import Frame
from classaug_ros.learning.learn import count, derive_rules
from classaug_ros.models.card import load_model
from classaug_ros.pipeline.cpu import Pipeline
from classaug_ros.rules import Rules, RuleSet
from classaug_ros.rules.decision import Decision
from classaug_ros.rules.task import Task

SHARED = Path(__file__).resolve().parents[2] / "shared"


def run(
    world: World,
    rules: Rules,
    dataset: Path | None = None,
    limit: int | None = None,
    labels: Path | None = None,
    decision: Decision = Decision(),  # noqa: B008 (frozen)
) -> Evaluation:
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        source, tasks = load_dataset(dataset or world.dataset), [Task.load(world.task)]
        watchers = [] if labels is None else [label_files(labels)]
        return evaluate(pipeline, source, tasks, RuleSet([rules]), decision, limit=limit, watchers=watchers)


# Truth classes: road, person, bicycle, bag, car. Output: road, rider, car, person, bicycle.
WRONG = 5
COUNTS_AS = {
    "main_only": {"road": 0, "rider": WRONG, "car": 4},
    "sub_only": {name: number for number, name in enumerate(SUB_CLASSES)},
    "table": {"road": 0, "rider": WRONG, "car": 4, "person": 1, "bicycle": 2},
}


def test_the_figures_are_scikit_learn_s(world: World) -> None:
    """On noise, with everything done again in NumPy: predictions, look-up, what counts as what."""
    rules = world_rules(world)
    evaluation = run(world, rules)
    assert evaluation.images == 5
    assert evaluation.scoring.names == SUB_CLASSES
    truth = np.concatenate([values.ravel() for values in world.truths.values()])
    scored = truth < len(SUB_CLASSES)
    main, sub = (
        np.concatenate([weights.scores(image).argmax(axis=0).ravel() for image in world.images.values()])
        for weights in (world.main_weights, world.sub_weights)
    )
    predictions: dict[str, tuple[NDArray[np.intp], tuple[str, ...]]] = {
        "main_only": (main, MAIN_CLASSES),
        "sub_only": (sub, SUB_CLASSES),
        "table": (rules.table[main, sub].astype(np.intp), rules.output.names),
    }
    for method, (ids, names) in predictions.items():
        meaning = np.array([COUNTS_AS[method][name] for name in names])[ids]
        reference = jaccard_score(truth[scored], meaning[scored], labels=range(5), average=None)
        iou = evaluation.iou(method)
        assert list(iou) == list(SUB_CLASSES)
        np.testing.assert_allclose(list(iou.values()), reference)
        means = {"main": reference[[0, 4]], "added": reference[[1, 2]], "all": reference[[0, 1, 2, 4]]}
        miou = evaluation.miou(method)
        assert list(miou) == ["main", "added", "all"]  # bag is neither: in no mean
        for kind, values in means.items():
            assert miou[kind] == pytest.approx(values.mean())
    assert evaluation.miou("main_only")["added"] == 0


def test_unlabelled_pixels_are_wrong_and_counted(world: World) -> None:
    """Against the same decision without a bound: pixels less confident than it become none of the classes."""
    rules = world_rules(world, "probability")
    whole, evaluation = run(world, rules), run(world, rules, decision=Decision(min_confidence=0.6))
    assert evaluation.methods.in_use == "probability"
    for method in ("main_only", "sub_only", "table"):
        np.testing.assert_array_equal(evaluation.matrices[method].counts, whole.matrices[method].counts)
    before, after = (each.matrices["probability"].counts for each in (whole, evaluation))
    np.testing.assert_array_equal(before.sum(axis=1), after.sum(axis=1))
    assert (after[:, :-1] <= before[:, :-1]).all()
    assert after[:, -1].sum() > before[:, -1].sum()
    for frame in evaluation.frames:
        assert frame.unlabelled == pytest.approx(1 - sum(frame.shares))
        assert 0.05 < frame.unlabelled < 0.95
    assert evaluation.unlabelled == pytest.approx(np.mean([frame.unlabelled for frame in evaluation.frames]))
    assert whole.unlabelled == 0
    judged = evaluation.calibration.pixels
    assert judged == sum(one.pixels for one in whole.calibration.bins() if one.end > 0.61) + sum(
        one.pixels for one in evaluation.calibration.bins() if one.end < 0.61
    )
    assert judged < whole.calibration.pixels == before.sum()


def test_confidence_is_judged_by_what_labels_count_as(world: World) -> None:
    """The calibration of the table is that of its confidences, looked up pixel by pixel."""
    rules = world_rules(world)
    sure, right = [], []
    for name, image in world.images.items():
        main, sub = (w.scores(image).argmax(axis=0) for w in (world.main_weights, world.sub_weights))
        meaning = np.array([COUNTS_AS["table"][n] for n in rules.output.names])[rules.table[main, sub]]
        scored = world.truths[name] < len(SUB_CLASSES)
        sure.append(np.round(255 * rules.confidence[main, sub])[scored].astype(np.uint8))
        right.append((meaning == world.truths[name])[scored])
    expected = Calibration()
    expected.update(np.concatenate(sure), np.concatenate(right))
    evaluation = run(world, rules)
    assert repr(evaluation.calibration.bins()) == repr(expected.bins())
    assert 0 <= evaluation.calibration.error() == expected.error()


def test_perfect_predictions_score_one(world: World, tmp_path: Path) -> None:
    for name, image in world.images.items():
        truth = world.sub_weights.scores(image).argmax(axis=0).astype(np.uint8)
        cv2.imwrite(str(world.dataset.parent / "labels" / f"{name.split('/')[1]}.png"), truth)
    evaluation = run(world, world_rules(world))
    assert set(evaluation.iou("sub_only").values()) == {1.0}
    assert evaluation.miou("sub_only") == {"main": 1.0, "added": 1.0, "all": 1.0}


def test_labels_are_written_as_they_are(world: World, tmp_path: Path) -> None:
    rules = world_rules(world)
    run(world, rules, labels=tmp_path / "labels", limit=3)
    assert sorted(file.name for file in (tmp_path / "labels").iterdir()) == ["0000.png", "0001.png", "0002.png"]
    for name, image in list(world.images.items())[:3]:
        main, sub = (w.scores(image).argmax(axis=0) for w in (world.main_weights, world.sub_weights))
        stored = cv2.imread(str(tmp_path / "labels" / f"{name.split('/')[1]}.png"), cv2.IMREAD_UNCHANGED)
        assert stored is not None
        assert stored.dtype == rules.table.dtype
        np.testing.assert_array_equal(stored, rules.table[main, sub])


def test_every_frame_has_its_own_result(world: World, tmp_path: Path) -> None:
    evaluation = run(world, world_rules(world), limit=3)
    assert [frame.name for frame in evaluation.frames] == ["0000", "0001", "0002"]
    for number, frame in enumerate(evaluation.frames):
        alone = one_image(world, tmp_path / str(number), number)
        assert frame.miou == {method: alone.miou(method)["all"] for method in ("main_only", "sub_only", "table")}
        assert sum(frame.shares) == pytest.approx(1)
        assert frame.seconds > 0


def one_image(world: World, folder: Path, number: int) -> Evaluation:
    """Evaluate a data set of one image of the world, by rules learned on all."""
    folder.mkdir()
    rules = world_rules(world)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        shutil.copy(world.dataset.parent / kind / f"{number:04}.png", folder / kind)
    for file in ("dataset.yaml", "classes.csv"):
        shutil.copy(world.dataset.parent / file, folder)
    return run(world, rules, folder / "dataset.yaml")


def test_without_ground_truth_nothing_is_scored_but_shares_are_told(world: World, tmp_path: Path) -> None:
    class Unlabelled:
        name, truth = "drive", None

        def __len__(self) -> int:
            return len(world.images)

        def __iter__(self) -> Iterator[Example]:
            for name, image in world.images.items():
                yield Example(name, Frame(image, "rgb"), None, "/front", 7)

    rules = world_rules(world)
    seen: list[tuple[Example, Prediction]] = []
    with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
        evaluation = evaluate(
            pipeline,
            Unlabelled(),
            [Task.load(world.task)],
            RuleSet([rules]),
            watchers=[lambda *both: seen.append(both)],
        )
    assert evaluation.scoring.names == ()
    assert all(map(math.isnan, evaluation.miou("table").values()))
    assert [frame.camera for frame in evaluation.frames] == ["/front"] * 5
    for (example, prediction), frame in zip(seen, evaluation.frames, strict=True):
        main, sub = (w.scores(example.frame.pixels).argmax(axis=0) for w in (world.main_weights, world.sub_weights))
        np.testing.assert_array_equal(prediction.main, main)
        np.testing.assert_array_equal(prediction.output, rules.table[main, sub])
        assert frame.shares == tuple((rules.table[main, sub] == k).mean() for k in range(len(rules.output)))


def test_limit_scores_the_first_images(world: World, tmp_path: Path) -> None:
    rules = world_rules(world)
    evaluation = run(world, rules, limit=2)
    assert evaluation.images == 2
    expected = sum((world.truths[name] < 5).sum() for name in list(world.truths)[:2])
    assert all(matrix.counts.sum() == expected for matrix in evaluation.matrices.values())


def test_truth_in_output_classes_is_scored_by_name(world: World, tmp_path: Path) -> None:
    rules = world_rules(world)
    dataset, _, _ = write_dataset(tmp_path, "truth", 0, (12, 10), seed=0)
    names = rules.output.names
    rows = "".join(f"{number},{name},0,0,0\n" for number, name in enumerate(names))
    (dataset.parent / "classes.csv").write_text("id,name,r,g,b\n" + rows, encoding="utf-8")
    for name, image in world.images.items():
        main, sub = (w.scores(image).argmax(axis=0) for w in (world.main_weights, world.sub_weights))
        stem = name.split("/")[1]
        cv2.imwrite(str(dataset.parent / "images" / f"{stem}.png"), image[:, :, ::-1])
        cv2.imwrite(str(dataset.parent / "labels" / f"{stem}.png"), rules.table[main, sub])
    evaluation = run(world, rules, dataset)
    assert evaluation.scoring.names == names
    rules_iou = evaluation.iou("table")
    assert {value for value in rules_iou.values() if not math.isnan(value)} == {1.0}
    assert evaluation.miou("table")["all"] == 1.0
    assert evaluation.miou("main_only")["all"] < 1.0


def test_classes_that_do_not_occur_are_in_no_mean(world: World, tmp_path: Path) -> None:
    """Nothing but *sky* in the truth, which no model knows: every mean but those of false alarms is undefined."""
    rules = world_rules(world)
    for file in (world.dataset.parent / "labels").iterdir():
        cv2.imwrite(str(file), np.full((12, 10), 200, np.uint8))
    evaluation = run(world, rules)
    for method in evaluation.matrices:
        assert all(map(math.isnan, evaluation.iou(method).values()))
        assert all(map(math.isnan, evaluation.miou(method).values()))


def test_rules_of_another_task_or_model_are_refused(world: World, tmp_path: Path) -> None:
    rules = world_rules(world)
    world.task.write_text(world.task.read_text().replace("[person, bicycle]", "[person]"))
    with pytest.raises(ConfigError, match="the rules were learned for another task"):
        run(world, rules)
    other = write_world(tmp_path / "other", images=1, seed=50)
    with pytest.raises(ConfigError, match="learned with another main model"):
        run(other, rules)


@pytest.fixture
def trio(world: World) -> list[Path]:
    """The world's files beside those of a second sub model, which adds *bag* and *person*, with rules for both."""
    second = write_model(world.folder / "second", ("road", "bag", "person"), (12, 10), seed=7)
    task = world.folder / "second.yaml"
    text = "main: main/classes.csv\nsub: second/classes.csv\nsimilar: {road: [road]}\nadd: [person, bag]\n"
    task.write_text(text, encoding="utf-8")
    evidence = unsure_evidence(Task.load(task), seed=3)
    evidence.bias[3] += 3  # *bag*, which the first does not have, wins somewhere
    rules = replace(random_rules(load_model(world.main), load_model(second), task, 2, "probability"), evidence=evidence)
    world_rules(world, "probability").save(world.folder / "rules.yaml")
    rules.save(world.folder / "second_rules.yaml")
    return [world.sub, second, world.folder / "rules.yaml", world.folder / "second_rules.yaml", world.task, task]


def several(world: World, files: list[Path], *more: str) -> list[str]:
    pairs = {"--sub": files[:2], "--rules": files[2:4], "--task": files[4:]}
    options = [word for name, paths in pairs.items() for word in (name, *map(str, paths))]
    given = ["--main", str(world.main), "--dataset", str(world.dataset), "--report", str(world.folder / "report")]
    return ["evaluate", *given, *options, *more]


def test_several_sub_models_are_scored_alone_and_together(
    world: World, trio: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert classaug(several(world, trio, "--save-labels", "--prefer", "main", "--video")) == 0
    told = capsys.readouterr().out
    report = load_report(world.folder / "report")
    titles = ["main alone", "sub alone", "second alone", "table rules", "probability rules"]
    assert [result["title"] for result in report["methods"].values()] == titles
    assert list(report["methods"]) == ["main_only", "sub_only", "sub2_only", "table", "probability"]
    assert all(title in told for title in titles)
    assert list(report["provenance"]["models"]) == ["main", "sub", "sub2"]
    assert report["provenance"]["decision"] == {"prefer": "main", "min_confidence": 0.0, "contours": False}
    assert report["classes"]["bag"] == "added"
    rules = RuleSet([Rules.load(path) for path in trio[2:4]])
    assert [one["name"] for one in report["output"]] == list(rules.output.names)
    decision = Decision(prefer="main")
    used: set[int] = set()
    with Pipeline(load_model(world.main), *map(load_model, trio[:2])) as pipeline:
        for name, image in world.images.items():
            label = pipeline.augment(Frame(image, "rgb"), rules, decision).label
            path = world.folder / "report" / "labels" / f"{name.split('/')[1]}.png"
            np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), label)
            used.update(label.ravel().tolist())
    assert rules.output.index("bag") in used


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--rules", "third.yaml"), "found 2 of --sub, 3 of --rules, 2 of --task; give one of each per sub model"),
        (("--sub-card", "card.yaml"), "found 2 of --sub, 2 of --rules, 2 of --task, 1 of --sub-card; give one of each"),
    ],
)
def test_each_sub_model_has_rules_and_a_task(
    world: World, trio: list[Path], capsys: pytest.CaptureFixture[str], more: tuple[str, ...], complaint: str
) -> None:
    assert classaug(several(world, trio, *more)) == 2
    assert complaint in capsys.readouterr().err


def test_rules_in_the_wrong_order_are_refused(
    world: World, trio: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sub, second, first_rules, second_rules, *tasks = trio
    assert classaug(several(world, [sub, second, second_rules, first_rules, *tasks])) == 2
    assert "the rules were learned for another task than this one" in capsys.readouterr().err
    assert classaug(several(world, [second, sub, first_rules, second_rules, *tasks])) == 2
    assert "the rules are for a sub model with 5 classes" in capsys.readouterr().err


def test_contours_go_with_probability_alone(world: World, trio: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert classaug(several(world, trio, "--contours")) == 0
    world_rules(world).save(trio[2])
    capsys.readouterr()
    assert classaug(several(world, trio, "--contours")) == 2
    assert "contours need rules of kind probability" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["x", "-0.1", "1.01", "nan"])
def test_a_least_confidence_is_a_share(world: World, capsys: pytest.CaptureFixture[str], share: str) -> None:
    with pytest.raises(SystemExit):
        classaug(["evaluate", f"--min-confidence={share}"])
    assert f"--min-confidence: expected a number from 0 to 1, found '{share}'" in capsys.readouterr().err


@dataclass(frozen=True)
class Figures:
    """mIoU in per cent: main, added and all classes."""

    main_only: tuple[float, float, float]
    sub_only: tuple[float, float, float]
    table: tuple[float, float, float]


def camvid(counts_file: Path) -> Evaluation:
    """Learn on CamVid's train, score on its val, with the real models."""
    data = SHARED / "data" / "camvid"
    task = Task.load(SHARED / "tasks" / "ade20k31_cityscapes19.yaml")
    models = load_model(SHARED / "models" / "ade20k31"), load_model(SHARED / "models" / "cityscapes19")
    with Pipeline(*models) as pipeline:
        rules = derive_rules(count(pipeline, [load_dataset(data / "train.yaml")], task, counts_file), task)
        return evaluate(pipeline, load_dataset(data / "val.yaml"), [task], RuleSet([rules]))


def assert_figures(evaluation: Evaluation, expected: Figures, tolerance: float) -> None:
    for method in ("main_only", "sub_only", "table"):
        figures = [100 * value for value in evaluation.miou(method).values()]
        assert figures == pytest.approx(getattr(expected, method), abs=tolerance), (method, figures)


@pytest.mark.skipif(not (SHARED / "data/camvid").is_dir(), reason="no ../shared")
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_models_on_camvid(tmp_path: Path) -> None:
    """Figures of an independent implementation, on all of train and val."""
    evaluation = camvid(tmp_path / "counts.npz")
    assert evaluation.images == 101
    assert_figures(evaluation, Figures((61.5, 0.0, 39.2), (71.6, 14.3, 50.8), (63.0, 20.7, 47.6)), 1.0)
    best = evaluation.miou("probability")
    alone, table = [evaluation.miou(method) for method in ("main_only", "sub_only")], evaluation.miou("table")
    assert all(best[mean] > one[mean] for mean in best for one in (*alone, table))
    assert best["main"] > alone[0]["main"] + 0.1
    assert best["all"] > table["all"] + 0.1
    for within, miou in evaluation.contour_miou("probability").items():
        assert all(miou[mean] > evaluation.contour_miou("table")[within][mean] for mean in miou)
    assert evaluation.calibration.error() < 0.04
