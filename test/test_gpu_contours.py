"""Labels that follow the image's edges on a GPU: equal to the specification, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.hardscores import KINDS, above, scores_of

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from support.aot import BETWEEN, OLDEST_AND_NEWEST, compile_launches  # noqa: E402
from support.kernels import CPU, PICTURES, POISON, note_launches, poisoned  # noqa: E402

from classaug_ros.fusion import reference  # noqa: E402
from classaug_ros.fusion.gpu import contours, guided_filter  # noqa: E402
from classaug_ros.fusion.gpu import fuse as fuse_kernels  # noqa: E402
from classaug_ros.fusion.gpu.contours import Contours  # noqa: E402
from classaug_ros.fusion.gpu.fuse import Result, ScoreFusion  # noqa: E402
from classaug_ros.fusion.gpu.guided_argmax import GREY, GUIDED, Bent  # noqa: E402
from classaug_ros.fusion.gpu.sampling_grid import Samples  # noqa: E402
from classaug_ros.fusion.scores import Scores  # noqa: E402
from classaug_ros.imaging.encodings import ENCODINGS, LAYOUTS, Layout  # noqa: E402
from classaug_ros.imaging.images import Frame  # noqa: E402
from classaug_ros.models.card import Upsampling  # noqa: E402

CONVENTIONS: tuple[Upsampling, ...] = get_args(Upsampling)
TEMPTING = ("noise", "ties", "ulp apart", "each an ulp better", "almost certain")
ALPHA = 0.4
PALETTE = np.random.default_rng(0).integers(0, 256, (65536, 3), np.uint8)


@pytest.fixture(autouse=True)
def _large_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes as long for large blocks as for small ones."""
    monkeypatch.setattr(contours, "BENT", (8, 1024))
    monkeypatch.setattr(contours, "COMPARED", (16, 1024))


def picture(size: tuple[int, int], encoding: str = "bgr8", seed: int = 0) -> Frame:
    """A few areas of one shade each, and noise that is faint in one half: strong edges, weak ones, and none."""
    random = np.random.default_rng(seed)
    channels = ENCODINGS[encoding].channels
    areas = random.integers(0, 256, (3, 4, channels), np.uint8)
    rows, columns = (np.arange(pixels) * parts // pixels for pixels, parts in zip(size, (3, 4), strict=True))
    noise = random.integers(-40, 41, (*size, channels))
    noise[: size[0] // 2] //= 8
    return Frame.encoded((areas[rows][:, columns] + noise).clip(0, 255).astype(np.uint8), ENCODINGS[encoding])


def padded(frames: list[Frame], padding: int) -> tuple[Any, int, Layout]:
    """Bytes of frames whose rows are padded, the step, and the layout."""
    layout, rows = frames[0].raw()
    step = rows.shape[1] + padding
    data = np.full((len(frames), rows.shape[0], step), POISON, np.uint8)
    for each, frame in zip(data, frames, strict=True):
        each[:, : rows.shape[1]] = frame.raw()[1]
    return torch.from_numpy(data.reshape(len(frames), -1)), step, layout


@dataclass(frozen=True, eq=False)
class Guided:
    """Launchers for scores, N x classes x h x w, and frames."""

    scores: NDArray[np.float32]
    convention: Upsampling
    frames: list[Frame]
    padding: int = 0
    min_confidence: float = 0

    @property
    def groups(self) -> NDArray[np.int32]:
        return np.arange(self.scores.shape[1], dtype=np.int32) // 2

    def run(self, result: Result, posterior: Any = None) -> tuple[Contours, Any]:
        """Bend scores in poisoned memory and fill the result."""
        data, step, layout = padded(self.frames, self.padding)
        _, classes, h, w = self.scores.shape
        size = self.frames[0].size
        made = Contours(classes, (h, w), self.convention, size, layout, CPU, len(self.frames))
        for buffer in (made._guide, made._black, made._white, made._offsets, made._slopes):
            buffer.fill_(torch.nan)
        made._contenders.fill_(-1)
        made._greatest.fill_(1)
        how: dict[str, Any] = {"alpha": ALPHA, "min_confidence": self.min_confidence, "device": CPU}
        fuse = ScoreFusion(self.convention, self.groups, PALETTE, POISON, size, layout, shape=(h, w), **how)
        scores = torch.from_numpy(self.scores)
        bent = made(scores, data, step)
        fuse(scores, posterior, data, step, result, bent)
        np.testing.assert_array_equal(scores.numpy(), self.scores)
        return made, bent


def assert_guided(case: Guided, dtype: str = "uint8", *, flat: bool = False) -> None:
    """Hold scores in black and white, and labels, to the specification."""
    size = case.frames[0].size
    result = poisoned(len(case.frames), size, dtype, ())
    made, bent = case.run(result)
    for number, (values, frame) in enumerate(zip(case.scores, case.frames, strict=True)):
        grey = frame.grey(size)
        with np.errstate(under="ignore"):
            black, white, ids = reference.guided(Scores(values, case.convention), grey)
            label = reference.guided_label_map(black, white, ids, grey, np.dtype(dtype))
        np.testing.assert_array_equal(np.flatnonzero(made._greatest[number].numpy()), ids)
        guide = reference.averaged(grey, black.values.shape[1:], black.convention)
        np.testing.assert_array_equal(made._guide[number].numpy(), guide, strict=True)
        np.testing.assert_array_equal(bent.black.output[number].numpy()[ids], black.values, strict=True)
        np.testing.assert_array_equal(bent.white[number].numpy()[ids], white.values, strict=True)
        np.testing.assert_array_equal(result.label[number].numpy(), label, strict=True)
        assert flat or not np.array_equal(label, reference.label_map(values, size, case.convention, np.dtype(dtype)))


def said(
    kind: str, classes: int, grid: tuple[int, int], convention: Upsampling, frames: list[Frame], padding: int = 0
) -> Guided:
    scores = [scores_of(kind, (classes, *grid), 7 * classes + number) for number in range(len(frames))]
    return Guided(np.stack(scores), convention, frames, padding)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    ("grid", "size"),
    [((5, 7), (33, 70)), ((9, 20), (33, 70)), ((20, 9), (33, 70)), ((15, 33), (15, 33)), ((30, 40), (15, 33))],
    ids=["coarse", "as fine as the guide", "finer one way", "as fine as the image", "finer"],
)
def test_labels_are_the_specification_s(grid: tuple[int, int], size: tuple[int, int], convention: Upsampling) -> None:
    assert_guided(said("noise", 5, grid, convention, [picture(size)], padding=5))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (130, 3)], ids=str)
@pytest.mark.parametrize("grid", [(1, 1), (2, 1), (3, 4)], ids=str)
def test_images_and_grids_of_any_size(grid: tuple[int, int], size: tuple[int, int]) -> None:
    assert_guided(said("noise", 4, grid, "align_corners", [picture(size)]), flat=True)


def test_a_larger_image() -> None:
    assert_guided(said("smooth", 6, (32, 64), "half_pixel", [picture((150, 200))]))


@pytest.mark.parametrize(("classes", "dtype"), [(1, "uint8"), (33, "uint8"), (270, "uint16")])
def test_from_one_class_to_hundreds(classes: int, dtype: str) -> None:
    assert_guided(said("noise", classes, (7, 9), "half_pixel", [picture((12, 21))]), dtype, flat=classes == 1)


def test_every_frame_of_a_batch_has_its_own_classes_and_edges() -> None:
    case = said("noise", 9, (5, 6), "asymmetric", [picture((21, 34), seed=seed) for seed in range(3)], padding=1)
    for number in range(3):
        case.scores[number, number::3] -= 100
    assert_guided(case)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "huge"])
def test_scores_that_tempt_into_mistakes(kind: str) -> None:
    convention = CONVENTIONS[KINDS.index(kind) % 3]
    assert_guided(said(kind, 5, (6, 9), convention, [picture((33, 66))]), flat=True)


def assert_none_is_left_out(
    black: NDArray[np.float32], white: NDArray[np.float32], convention: Upsampling
) -> NDArray[np.uint8]:
    """Hold the labels of scores that ``guided`` would not give, classes x h x w, to the specification; return them."""
    size, (classes, h, w) = (20, 66), black.shape
    frame = picture(size)
    data, step, layout = padded([frame], 0)
    samples = Samples.of_scores(classes, (h, w), convention, size, CPU)
    scores = torch.from_numpy(black[np.newaxis])
    words = torch.full((1, -(-classes // 32), h, w), -1, dtype=torch.int32)
    bent = Bent(samples.source(scores, 1, 0), torch.from_numpy(white), words)
    guided_filter.compare[1, 1](
        scores, bent.white, torch.ones(classes, dtype=torch.int32), words, classes, h, w, 16, 64
    )
    result = poisoned(1, size, np.uint8, ())
    how: dict[str, Any] = {"shape": (h, w), "alpha": ALPHA, "min_confidence": 0, "device": CPU}
    fuse = ScoreFusion(convention, np.zeros(classes, np.int32), PALETTE, POISON, size, layout, **how)
    fuse(scores, None, data, step, result, bent)
    dark, bright = Scores(black, convention), Scores(white, convention)
    with np.errstate(under="ignore"):
        ids, grey = np.arange(classes), frame.grey(size)
        expected = reference.guided_label_map(dark, bright, ids, grey, np.dtype(np.uint8))
    np.testing.assert_array_equal(result.label[0].numpy(), expected, strict=True)
    return expected.astype(np.uint8)


@pytest.mark.parametrize(
    "kind", [kind if kind in TEMPTING else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS]
)
def test_no_class_that_could_win_is_left_out(kind: str) -> None:
    black, white = (scores_of(kind, (35, 6, 9), seed) for seed in (1, 2))
    assert_none_is_left_out(black, black[::-1].copy() if "ulp" in kind else white, CONVENTIONS[KINDS.index(kind) % 3])


@pytest.mark.parametrize("corner", list(np.ndindex(2, 2, 2)), ids=str)
def test_a_class_that_is_greatest_at_one_corner_of_a_cell_is_not_left_out(corner: tuple[int, int, int]) -> None:
    ends = np.zeros((2, 2, 2, 2), np.float32)  # black and white, two classes, one cell
    ends[:, 1] = -0.01
    ends[corner[0], 1, corner[1], corner[2]] = 1
    assert len(np.unique(assert_none_is_left_out(ends[0].copy(), ends[1].copy(), "align_corners"))) == 2


@pytest.mark.parametrize("value", [0.7, -1, 0.3, 7e-6, -3e4])
def test_a_class_that_is_equal_but_for_rounding_is_not_left_out(value: float) -> None:
    """Where the last of them is rounded to the others, the lowest id wins."""
    order = np.stack([above(np.full((2, 2), value, np.float32), k) for k in range(3)])
    assert len(np.unique(assert_none_is_left_out(order, order, "half_pixel"))) > 1


@pytest.mark.parametrize("name", ["rgb8", "bgra8", "mono8", "uyvy", "yuyv"])
def test_brightness_of_every_layout(name: str) -> None:
    assert_guided(said("noise", 4, (5, 6), "half_pixel", [picture((13, 34), name)], padding=2))


def test_brightness_of_every_colour_is_opencv_s() -> None:
    colours = np.arange(1 << 24, dtype=np.uint32)
    channels = [(colours >> shift & 255).astype(np.uint8) for shift in (16, 8, 0)]
    grey = np.stack(channels).T @ np.array(GREY, np.uint32)
    expected = cv2.cvtColor(np.stack(channels, axis=-1).reshape(4096, 4096, 3), cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(grey + (1 << 14) >> 15, expected.ravel())


@pytest.mark.parametrize("least", [0, 0.5], ids=["all labelled", "sure ones labelled"])
@pytest.mark.parametrize("wanted", [PICTURES, ("confidence",), ("overlay",)], ids=str)
def test_confidence_is_the_one_without_contours(wanted: tuple[str, ...], least: float) -> None:
    size, frames = (19, 44), [picture((19, 44), seed=seed) for seed in range(2)]
    case = Guided(said("smooth", 6, (4, 6), "align_corners", frames).scores, "align_corners", frames, 3, least)
    posterior = np.stack([reference.posterior(each[::2]) for each in case.scores])
    result = poisoned(2, size, np.uint8, wanted)
    case.run(result, torch.from_numpy(posterior))
    for number, frame in enumerate(frames):
        grey = frame.grey(size)
        bent = reference.guided(Scores(case.scores[number], "align_corners"), grey)
        label = reference.guided_label_map(*bent, grey, np.dtype(np.uint8))
        pooled = Scores(case.scores[number, ::2], "align_corners")
        confidence = reference.confidence(label, pooled, case.groups)
        label[confidence < 255 * least] = POISON
        color, overlay = reference.paint(label, PALETTE, frame, ALPHA)
        for name, expected in zip(("label", *PICTURES), (label, confidence, color, overlay), strict=True):
            found = getattr(result, name)
            assert (found is not None) == (name in ("label", *wanted))
            if found is not None:
                np.testing.assert_array_equal(found[number].numpy(), expected, strict=True)


def test_few_classes_are_interpolated() -> None:
    """Of 40 that are greatest somewhere, as tiles are where areas meet, few are left in a cell."""
    frames = [picture((80, 100))]
    _, bent = said("smooth", 40, (12, 16), "half_pixel", frames).run(poisoned(1, (80, 100), np.uint8, ()))
    left = np.unpackbits(bent.contenders.numpy().view(np.uint8)).sum() / bent.contenders[0, 0].numel()
    assert 1 <= left < 8


def test_five_launches_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = (
        guided_filter.spread,
        guided_filter.bend,
        guided_filter.smooth,
        guided_filter.compare,
        fuse_kernels.fuse_scores,
    )
    launched = note_launches(monkeypatch, *kernels)
    said("noise", 4, (5, 6), "half_pixel", [picture((20, 70))] * 2).run(poisoned(2, (20, 70), np.uint8, ()))
    assert [(each.name, each.fused) for each in launched] == [
        (name, False) for name in ("spread", "bend", "smooth", "compare", "fuse_scores")
    ]


def test_what_does_not_fit_is_refused() -> None:
    made = Contours(5, (6, 7), "half_pixel", (12, 14), LAYOUTS["bgr"], CPU)
    scores, frames = torch.zeros((1, 5, 6, 7)), torch.zeros((1, 12 * 42), dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"output \(1, 5, 7, 6\)"):
        made(torch.zeros((1, 5, 7, 6)), frames, 42)
    with pytest.raises(ValueError, match="frames are 1 x 504 bytes, expected 1 x 515"):
        made(scores, frames, 43)
    with pytest.raises(ValueError, match="frames are 2 x 504 bytes, expected 1 x 504"):
        made(scores, frames.repeat(2, 1), 42)


def launches_of(
    size: tuple[int, int], classes: int, grid: tuple[int, int], layout: Layout, wanted: tuple[str, ...], dtype: str
) -> None:
    """Launch all kernels, on zeros."""
    step = size[1] * layout.stride
    frames = torch.zeros((1, size[0] * step), dtype=torch.uint8)
    scores, posterior = torch.zeros((1, classes, *grid)), torch.zeros((1, classes, *grid)) if wanted else None
    groups = np.zeros(classes, np.int32)
    numbers: dict[str, Any] = {"alpha": ALPHA, "min_confidence": 0, "device": CPU}
    fuse = ScoreFusion("half_pixel", groups, PALETTE, POISON, size, layout, shape=grid, **numbers)
    bent = Contours(classes, grid, "half_pixel", size, layout, CPU)(scores, frames, step)
    fuse(scores, posterior, frames, step, poisoned(1, size, dtype, wanted), bent)


def common_launches() -> None:
    launches_of((1080, 1920), 27, (128, 256), LAYOUTS["bgr"], PICTURES, "uint8")


def further_launches() -> None:
    """Launch what differs in what it is compiled for."""
    launches_of((1080, 1920), 27, (128, 256), LAYOUTS["rgb"], (), "uint8")
    launches_of((1, 1), 1, (1, 1), Layout(4, 2, 1, 0), ("confidence",), "uint8")
    launches_of((481, 643), 300, (256, 255), Layout(2, 0, 0, 0, luma=1), PICTURES, "uint16")


@pytest.mark.parametrize(
    ("launches", "targets"),
    [
        (common_launches, OLDEST_AND_NEWEST),
        pytest.param(common_launches, BETWEEN, marks=pytest.mark.slow),
        pytest.param(further_launches, OLDEST_AND_NEWEST, marks=pytest.mark.slow),
    ],
    ids=["common ones, oldest and newest GPU", "common ones, GPUs between", "further ones, oldest and newest GPU"],
)
def test_kernels_compile_without_spills_or_fused_arithmetic(
    launches: Callable[[], None], targets: tuple[int, ...]
) -> None:
    compiled = compile_launches(launches, targets)
    assert {each.kernel for each in compiled} == {"spread", "bend", "smooth", "compare", "fuse_scores"}
    for each in compiled:
        assert each.spilled == 0, each
        assert each.registers <= GUIDED, each
        assert each.fused == 0, each
