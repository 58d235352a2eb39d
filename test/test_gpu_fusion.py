"""Fusion at full resolution on a GPU: equal to the specification whatever outputs, sizes and layouts there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from support.aot import BETWEEN, OLDEST_AND_NEWEST, compile_launches
from support.hardscores import KINDS, scores_of

from classaug_ros.fusion import reference
from classaug_ros.fusion.scores import Scores
from classaug_ros.imaging.encodings import ENCODINGS, LAYOUTS, Layout
from classaug_ros.imaging.images import Frame
from classaug_ros.models.card import InputSpec, ModelCard, OutputKind, OutputSpec, Upsampling, load_model
from classaug_ros.models.labels import LabelMap, LabelSpace
from classaug_ros.rules import Provenance, Rules
from demo import parts

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from support.kernels import CPU, PICTURES, POISON, note_launches, poisoned  # noqa: E402

from classaug_ros.fusion.gpu import fuse as fuse_kernels  # noqa: E402
from classaug_ros.fusion.gpu import painting  # noqa: E402
from classaug_ros.fusion.gpu.fuse import Paint, Result, ScoreFusion, TableFusion  # noqa: E402
from classaug_ros.fusion.gpu.sampling_grid import EVERY, LABELS, PRUNED, REGISTERS, Samples  # noqa: E402

CONVENTIONS: tuple[Upsampling, ...] = get_args(Upsampling)
ALPHA = 0.4
UINT16 = np.dtype(np.uint16)


def card_of(
    classes: int, shape: tuple[int, int], convention: Upsampling = "half_pixel", kind: OutputKind = "logits"
) -> ModelCard:
    names = tuple(f"{classes} {kind} at {shape}: {k}" for k in range(classes))
    space = LabelSpace(names, tuple((k % 256, k * 7 % 256, k * 31 % 256) for k in range(classes)))
    image = InputSpec("image", 8, 8, "rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return ModelCard("card", space, image, OutputSpec("output", kind, *shape, convention))


def rules_of(main: ModelCard, sub: ModelCard) -> Rules:
    """Rules by chance: every pair of classes has its own label and confidence."""
    random = np.random.default_rng(1)
    names = (*main.classes.names, *(f"sub {name}" for name in sub.classes.names))
    output = LabelSpace(names, tuple((int(r), int(g), int(b)) for r, g, b in random.integers(0, 256, (len(names), 3))))
    m, n = len(main.classes), len(sub.classes)
    return Rules(
        main.classes.names,
        tuple(names[m:]),
        output,
        ("main",) * m + ("added",) * n,
        random.integers(0, m + n, (m, n)).astype(output.dtype),
        random.random((m, n), np.float32),
        None,
        "table",
        Provenance("", "", "", (), 0, 0, 0, "", ""),
    )


def outputs_of(card: ModelCard, batch: int, dtype: str, seed: int) -> NDArray[Any]:
    """N outputs of a model: mostly large areas of one class, and borders."""
    shape, classes = (card.output.height, card.output.width), len(card.classes)
    if card.output.kind == "labels":
        return np.random.default_rng(seed).integers(0, classes, (batch, *shape)).astype(dtype)
    return np.stack([scores_of("smooth", (classes, *shape), seed + k) for k in range(batch)]).astype(dtype)


def expected_labels(card: ModelCard, output: NDArray[Any], size: tuple[int, int]) -> LabelMap:
    if card.output.kind == "labels":
        return reference.nearest(output, size)
    return reference.label_map(output.astype(np.float32), size, card.output.upsample, UINT16)


def frames_of(batch: int, size: tuple[int, int], padding: int) -> tuple[NDArray[np.uint8], int]:
    """N x H x step bytes of BGR pixels whose rows are padded; and the step."""
    step = size[1] * 3 + padding
    return np.random.default_rng(2).integers(0, 256, (batch, size[0], step), np.uint8), step


def pixels_of(rows: NDArray[np.uint8], width: int) -> Frame:
    return Frame(np.ascontiguousarray(rows[:, : width * 3]).reshape(len(rows), width, 3), "bgr")


def assert_equal(result: Result, k: int, name: str, expected: NDArray[Any] | None) -> None:
    """Hold one of a frame's results against the expected one, None where it was not wanted."""
    actual = getattr(result, name)
    assert (actual is None) == (expected is None)
    if expected is not None:
        np.testing.assert_array_equal(actual[k].numpy(), expected)


@dataclass(frozen=True)
class Case:
    """Two models, and the image that both see."""

    size: tuple[int, int]
    main: ModelCard
    sub: ModelCard
    types: tuple[str, str] = ("float32", "float32")
    batch: int = 1
    padding: int = 0
    hows: tuple[int, int] = (PRUNED, PRUNED)


CASES = {
    "one pixel": Case((1, 1), card_of(3, (1, 1)), card_of(4, (2, 3), "asymmetric")),
    "odd size": Case((15, 33), card_of(5, (4, 5), "align_corners"), card_of(17, (7, 3)), padding=5),
    "three frames": Case((17, 68), card_of(7, (5, 9)), card_of(3, (3, 8), "asymmetric"), batch=3, padding=1),
    "half precision": Case((33, 100), card_of(19, (9, 12)), card_of(31, (5, 7)), ("float16", "float32")),
    "many classes": Case((20, 65), card_of(290, (3, 5)), card_of(40, (4, 6), "align_corners"), ("float32", "float16")),
    "one class": Case((9, 20), card_of(1, (3, 5)), card_of(2, (2, 2))),
    "a row and a column": Case((18, 40), card_of(4, (1, 9)), card_of(5, (6, 1), "asymmetric")),
    "labels": Case(
        (21, 67),
        card_of(6, (8, 9), kind="labels"),
        card_of(300, (40, 70), kind="labels"),
        ("int64", "uint16"),
        2,
        hows=(LABELS, LABELS),
    ),
    "labels and scores": Case(
        (33, 40), card_of(6, (8, 9), kind="labels"), card_of(9, (5, 6)), ("int8", "float32"), hows=(LABELS, PRUNED)
    ),
    "probabilities": Case((24, 31), card_of(6, (8, 9), kind="probabilities"), card_of(9, (5, 6), kind="probabilities")),
    "as fine as the image, and finer": Case((13, 20), card_of(5, (13, 20)), card_of(6, (31, 47)), hows=(PRUNED, EVERY)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_tables_give_what_the_specification_gives(case: Case) -> None:
    cards, size = (case.main, case.sub), case.size
    rules, (rows, step) = rules_of(*cards), frames_of(case.batch, size, case.padding)
    outputs = [
        outputs_of(card, case.batch, dtype, 3 + k)
        for k, (card, dtype) in enumerate(zip(cards, case.types, strict=True))
    ]
    result = poisoned(case.batch, size, rules.output.dtype)
    fuse = TableFusion(*cards, rules, size, LAYOUTS["bgr"], alpha=ALPHA, min_confidence=0.3, device=CPU)
    assert (fuse._main.how[0], fuse._sub.how[0]) == case.hows
    one, two = map(torch.from_numpy, outputs)
    fuse(one, two, torch.from_numpy(rows.reshape(case.batch, -1)), step, result)
    shares = np.round(rules.confidence * 255).astype(np.uint8)
    for k in range(case.batch):
        main, sub = (expected_labels(card, output[k], size) for card, output in zip(cards, outputs, strict=True))
        label, confidence = reference.look_up(main, sub, rules.table), reference.look_up(main, sub, shares)
        label[confidence < 255 * 0.3] = rules.output.unlabelled
        color, overlay = reference.paint(label, rules.output.palette(), pixels_of(rows[k], size[1]), ALPHA)
        assert_equal(result, k, "label", label)
        assert_equal(result, k, "confidence", confidence)
        assert_equal(result, k, "color", color)
        assert_equal(result, k, "overlay", overlay)
    assert not result.fault.any()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_hard_scores_are_those_of_the_specification(kind: str) -> None:
    convention, size = CONVENTIONS[KINDS.index(kind) % 3], (33, 70)
    scores = scores_of(kind, (5, 6, 9), 4)
    result = poisoned(1, size, np.dtype(np.uint8), ())
    fuse = score_fusion(scores, convention, size)
    assert fuse._samples.how[0] == PRUNED
    fuse(torch.from_numpy(scores[np.newaxis]), None, torch.zeros((1, 1), dtype=torch.uint8), 0, result)
    with np.errstate(under="ignore"):
        assert_equal(result, 0, "label", reference.label_map(scores, size, convention, np.dtype(np.uint8)))


@pytest.mark.parametrize("shape", [(5, 6), (20, 70)], ids=["pruned", "every"])
def test_offsets_of_64_bits_give_the_same(shape: tuple[int, int]) -> None:
    scores, size = scores_of("smooth", (5, *shape), 10), (16, 64)
    result, fuse = poisoned(1, size, np.dtype(np.uint8), ()), score_fusion(scores, "half_pixel", size)
    fuse._samples = replace(fuse._samples, how=(*fuse._samples.how[:3], 1))
    fuse(torch.from_numpy(scores[np.newaxis]), None, torch.zeros((1, 1), dtype=torch.uint8), 0, result)
    assert_equal(result, 0, "label", reference.label_map(scores, size, "half_pixel", np.dtype(np.uint8)))


def score_fusion(
    scores: NDArray[np.float32], convention: Upsampling, size: tuple[int, int], min_confidence: float = 0.0
) -> ScoreFusion:
    groups, palette = np.arange(len(scores), dtype=np.int32) // 2, card_of(len(scores), (1, 1)).classes.palette()
    numbers: dict[str, Any] = {"alpha": ALPHA, "min_confidence": min_confidence}
    shape = (scores.shape[1], scores.shape[2])
    unlabelled = len(palette) - 1
    return ScoreFusion(
        convention, groups, palette, unlabelled, size, LAYOUTS["bgr"], shape=shape, device=CPU, **numbers
    )


@pytest.mark.parametrize("wanted", [PICTURES, (), ("color",), ("overlay",)], ids=["all", "label", "color", "overlay"])
@pytest.mark.parametrize(("classes", "least"), [(9, 0.5), (300, 0.1), (9, 0.0)])
def test_scores_give_labels_and_the_probability_of_their_groups(
    classes: int, least: float, wanted: tuple[str, ...]
) -> None:
    batch, size = 2, (19, 44)
    scores = np.stack([scores_of("smooth", (classes, 4, 6), k) for k in range(batch)])
    groups = np.arange(classes, dtype=np.int32) // 2
    pooled = scores[:, ::2]
    posterior = np.stack([reference.posterior(each) for each in pooled])
    fuse = score_fusion(scores[0], "align_corners", size, least)
    rows, step = frames_of(batch, size, 3)
    palette = card_of(classes, (1, 1)).classes.palette()
    result = poisoned(batch, size, np.dtype(np.uint8 if classes < 256 else np.uint16), wanted)
    asked = torch.from_numpy(posterior) if least or "confidence" in wanted else None
    fuse(torch.from_numpy(scores), asked, torch.from_numpy(rows.reshape(batch, -1)), step, result)
    for k in range(batch):
        label = reference.label_map(scores[k], size, "align_corners", UINT16)
        confidence = reference.confidence(label, Scores(pooled[k], "align_corners"), groups)
        if least:
            label[confidence < 255 * least] = len(palette) - 1
        color, overlay = reference.paint(label, palette, pixels_of(rows[k], size[1]), ALPHA)
        assert_equal(result, k, "label", label)
        for name, expected in (("confidence", confidence), ("color", color), ("overlay", overlay)):
            assert_equal(result, k, name, expected if name in wanted else None)


@pytest.mark.parametrize("name", ["rgb8", "bgra8", "mono8", "uyvy", "yuyv"])
@pytest.mark.parametrize("width", [8, 66])
def test_overlays_of_every_layout(name: str, width: int) -> None:
    encoding, size, random = ENCODINGS[name], (5, width), np.random.default_rng(5)
    samples = random.integers(0, 256, (*size, encoding.channels), np.uint8)
    frame = Frame.encoded(samples, encoding)
    layout, rows = frame.raw()
    label = random.integers(0, 256, size).astype(np.uint8)
    palette = random.integers(0, 256, (256, 3), np.uint8)
    result = poisoned(1, size, np.dtype(np.uint8))
    result.label[0] = torch.from_numpy(label)
    paint = Paint(palette, size, layout, alpha=ALPHA, device=CPU)
    paint(torch.from_numpy(rows.reshape(1, -1).copy()), rows.shape[1], result)
    color, overlay = reference.paint(label, palette, Frame(frame.rgb(), "rgb"), ALPHA)
    assert_equal(result, 0, "color", color)
    assert_equal(result, 0, "overlay", overlay)
    assert_equal(result, 0, "confidence", np.full(size, POISON))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_overlays_of_labels_past_255(alpha: float) -> None:
    size, random = (3, 12), np.random.default_rng(6)
    label, palette = random.integers(0, 65536, size).astype(np.uint16), random.integers(0, 256, (65536, 3), np.uint8)
    rows, step = frames_of(1, size, 0)
    result = poisoned(1, size, UINT16)
    result.label[0] = torch.from_numpy(label)
    Paint(palette, size, LAYOUTS["bgr"], alpha=alpha, device=CPU)(torch.from_numpy(rows.reshape(1, -1)), step, result)
    color, overlay = reference.paint(label, palette, pixels_of(rows[0], size[1]), alpha)
    assert_equal(result, 0, "color", color)
    assert_equal(result, 0, "overlay", overlay)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # that is what is asked for
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(4, 6), (20, 70)], ids=["pruned", "every"])
def test_scores_that_are_no_numbers_are_faults_of_their_frame_and_model(shape: tuple[int, int], value: float) -> None:
    cards, size = (card_of(5, shape), card_of(4, (3, 3))), (16, 64)
    main, sub = (torch.from_numpy(outputs_of(card, 3, "float32", 7)) for card in cards)
    main[1, 3, shape[0] - 1, shape[1] - 1] = value
    sub[2, 0] = value
    rules, result = rules_of(*cards), poisoned(3, size, np.dtype(np.uint8))
    fuse = TableFusion(*cards, rules, size, LAYOUTS["bgr"], alpha=ALPHA, min_confidence=0, device=CPU, bits=(0, 2))
    fuse(main, sub, torch.zeros((3, 16 * 192), dtype=torch.uint8), 192, result)
    assert result.fault.tolist() == [0, 1, 4]
    assert int(result.label.max()) < len(rules.output)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8"])
def test_labels_that_are_no_classes_are_faults_and_index_nothing(dtype: str) -> None:
    cards, size = (card_of(5, (6, 7), kind="labels"), card_of(4, (3, 3), kind="labels")), (12, 14)
    main, sub = (torch.from_numpy(outputs_of(card, 4, dtype, 8)) for card in cards)
    main[1, 2, 3] = 5
    main[2, 5, 6] = {"int64": 2**40, "int8": -1, "uint8": 255}[dtype]
    sub[2, 0, 0] = 4
    rules, result = rules_of(*cards), poisoned(4, size, np.dtype(np.uint8))
    fuse = TableFusion(*cards, rules, size, LAYOUTS["bgr"], alpha=ALPHA, min_confidence=0, device=CPU)
    fuse(main, sub, torch.zeros((4, 12 * 42), dtype=torch.uint8), 42, result)
    assert result.fault.tolist() == [0, 1, 3, 0]
    assert int(result.label.max()) < len(rules.output)


def test_what_does_not_fit_is_refused() -> None:
    cards, size = (card_of(5, (6, 7)), card_of(4, (3, 3), kind="labels")), (12, 14)
    fuse = TableFusion(*cards, rules_of(*cards), size, LAYOUTS["bgr"], alpha=ALPHA, min_confidence=0, device=CPU)
    main, sub = torch.zeros((1, 5, 6, 7)), torch.zeros((1, 3, 3), dtype=torch.int32)
    frames, result = torch.zeros((1, 12 * 42), dtype=torch.uint8), poisoned(1, size, np.dtype(np.uint8))
    fuse(main, sub, frames, 42, result)
    with pytest.raises(ValueError, match=r"output \(1, 5, 7, 6\)"):
        fuse(torch.zeros((1, 5, 7, 6)), sub, frames, 42, result)
    with pytest.raises(ValueError, match="not contiguous"):
        fuse(torch.zeros((1, 5, 7, 6)).transpose(2, 3), sub, frames, 42, result)
    with pytest.raises(ValueError, match="frames are 1 x 504 bytes, expected 1 x 515"):
        fuse(main, sub, frames, 43, result)
    with pytest.raises(ValueError, match="label is"):
        fuse(main, sub, frames, 42, poisoned(1, (14, 12), np.dtype(np.uint8)))
    score = score_fusion(np.zeros((5, 6, 7), np.float32), "half_pixel", size)
    with pytest.raises(ValueError, match="confidence needs a posterior"):
        score(main, None, frames, 42, result)
    with pytest.raises(ValueError, match=r"posterior is \(1, 3, 7, 6\)"):
        score(main, torch.zeros((1, 3, 7, 6)), frames, 42, result)


def test_every_fusion_is_one_launch_of_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = note_launches(monkeypatch, fuse_kernels.fuse_labels, fuse_kernels.fuse_scores, painting.paint_labels)
    launches_of((20, 70), card_of(5, (3, 4)), card_of(4, (3, 3)))
    names = ["fuse_labels", "fuse_scores", "paint_labels"]
    assert launched == [(name, (2, 2, 1), False) for name in names]


@pytest.mark.parametrize(
    ("size", "shape", "how"),
    [
        ((1080, 1920), (128, 256), (PRUNED, 32, 16, 0)),
        ((1080, 1920), (270, 480), (PRUNED, 128, 4, 0)),
        ((1080, 1920), (33, 33), (PRUNED, 4, 32, 0)),
        ((360, 480), (1024, 2048), (EVERY, 1, 1, 0)),
        ((1080, 1920), (8192, 8192), (EVERY, 1, 1, 1)),
    ],
)
def test_how_classes_are_found(size: tuple[int, int], shape: tuple[int, int], how: tuple[int, ...]) -> None:
    assert Samples.of_scores(40, shape, "half_pixel", size, CPU).how == how


@pytest.mark.parametrize("size", [(180, 240), pytest.param((360, 480), marks=pytest.mark.slow)], ids=str)
def test_the_demo_s_models_give_what_the_pipeline_gives(size: tuple[int, int]) -> None:
    pytest.importorskip("onnxruntime")
    from classaug_ros.pipeline.cpu import Pipeline
    from classaug_ros.rules import RuleSet
    from classaug_ros.rules.decision import Decision
    from demo.scenes import render_scene

    folder = Path(parts.__file__).parent / "models"
    main, sub = load_model(folder / "main"), load_model(folder / "sub")
    made = Provenance("", main.fingerprint, sub.fingerprint, (), 0, 0, 0, "", "")
    rules = demo_rules(main.card, sub.card, made)
    frame = Frame(np.ascontiguousarray(render_scene(3).image[: size[0], : size[1]]), "rgb")
    with Pipeline(main, sub, threads=1, concurrent=False) as pipeline:
        inferred = pipeline.infer(pipeline.prepare(frame))
        one, two = (torch.from_numpy(np.array(output)[np.newaxis]) for output in inferred.outputs)
        decision = Decision(min_confidence=0.2)
        wanted: dict[str, Any] = {"confidence": True, "color": True, "overlay": True, "alpha": ALPHA}
        augmented = pipeline.fuse(inferred, RuleSet([rules]), decision, **wanted)
    layout, rows = frame.raw()
    result = poisoned(1, frame.size, rules.output.dtype)
    fuse = TableFusion(main.card, sub.card, rules, frame.size, layout, alpha=ALPHA, min_confidence=0.2, device=CPU)
    fuse(one, two, torch.from_numpy(rows.reshape(1, -1).copy()), rows.shape[1], result)
    for name in ("label", *PICTURES):
        assert_equal(result, 0, name, getattr(augmented, name))
    assert not result.fault.any()


def demo_rules(main: ModelCard, sub: ModelCard, made: Provenance) -> Rules:
    """Rules by chance for the demo's models, whose main and sub classes share names."""
    added = [k for k, name in enumerate(sub.classes.names) if name not in main.classes.names]
    names = (*main.classes.names, *(sub.classes.names[k] for k in added))
    output = LabelSpace(names, (*main.classes.colors, *(sub.classes.colors[k] for k in added)))
    random, (m, n) = np.random.default_rng(9), (len(main.classes), len(sub.classes))
    table = random.integers(0, len(names), (m, n)).astype(output.dtype)
    sources = ("main",) * m + ("added",) * len(added)
    confidence = random.random((m, n), np.float32)
    return Rules(main.classes.names, sub.classes.names, output, sources, table, confidence, None, "table", made)


def launches_of(
    size: tuple[int, int],
    main: ModelCard,
    sub: ModelCard,
    types: tuple[Any, Any] = (torch.float32, torch.float32),
    layout: Layout = LAYOUTS["bgr"],
    wanted: tuple[str, ...] = PICTURES,
) -> None:
    """Launch all three kernels, on zeros."""
    rules = rules_of(main, sub)
    outputs: list[Any] = []
    for card, dtype in zip((main, sub), types, strict=True):
        shape = (card.output.height, card.output.width)
        classes = () if card.output.kind == "labels" else (len(card.classes),)
        outputs.append(torch.zeros((1, *classes, *shape), dtype=dtype))
    step = size[1] * layout.stride
    frames = torch.zeros((1, size[0] * step), dtype=torch.uint8)
    result = poisoned(1, size, rules.output.dtype, wanted)
    numbers: dict[str, Any] = {"alpha": ALPHA, "min_confidence": 0.3}
    TableFusion(main, sub, rules, size, layout, device=CPU, **numbers)(outputs[0], outputs[1], frames, step, result)
    if main.output.kind != "labels":
        groups, shape = np.zeros(len(rules.output), np.int32), (main.output.height, main.output.width)
        painted = rules.output.palette(), rules.output.unlabelled
        fuse = ScoreFusion("half_pixel", groups, *painted, size, layout, shape=shape, device=CPU, **numbers)
        fuse(torch.zeros((1, len(groups), *shape)), torch.zeros((1, 1, *shape)), frames, step, result)
    if wanted == PICTURES:
        Paint(rules.output.palette(), size, layout, alpha=ALPHA, device=CPU)(frames, step, result)


FULL, CITY, STREET = (1080, 1920), card_of(19, (128, 256)), card_of(31, (128, 128))


def common_launches() -> None:
    launches_of(FULL, CITY, STREET)


def further_launches() -> None:
    """Launch what differs in what it is compiled for."""
    launches_of(FULL, CITY, STREET, (torch.float16, torch.float16), LAYOUTS["rgb"], ())
    launches_of((1081, 1923), card_of(300, (128, 128)), card_of(150, (33, 33)), (torch.float16, torch.float32))
    launches_of(FULL, card_of(19, (1024, 2048)), card_of(31, (270, 480)), layout=Layout(2, 0, 0, 0, luma=1))
    launches_of(FULL, card_of(19, (512, 512), kind="labels"), STREET, (torch.int64, torch.float16))
    launches_of((1, 1), card_of(1, (1, 1)), card_of(2, (1, 1), kind="labels"), (torch.float32, torch.uint8))


@pytest.mark.parametrize(
    ("launches", "targets"),
    [
        (common_launches, OLDEST_AND_NEWEST),
        pytest.param(common_launches, BETWEEN, marks=pytest.mark.slow),
        pytest.param(further_launches, OLDEST_AND_NEWEST, marks=pytest.mark.slow),
    ],
    ids=["common ones, oldest and newest GPU", "common ones, GPUs between", "further ones, oldest and newest GPU"],
)
def test_kernels_compile_without_spills(launches: Callable[[], None], targets: tuple[int, ...]) -> None:
    for compiled in compile_launches(launches, targets):
        assert compiled.spilled == 0, compiled
        assert compiled.registers <= REGISTERS, compiled
        assert compiled.fused == 0, compiled  # as bits are to be those of the CPU
        assert compiled.shared <= 8192, compiled  # bytes; three programs of a multiprocessor's 100 KB and more
        assert compiled.accesses.get("st.global.b8", 0) == 0 or not compiled.constants["WORDS"], compiled
