"""The kernel that makes the inputs of all models from the bytes of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from support.aot import all_targets, compile_launches  # noqa: E402
from support.kernels import Launch, note_launches  # noqa: E402

from classaug_ros.engines.preprocess import Preprocessor  # noqa: E402
from classaug_ros.fusion import reference  # noqa: E402
from classaug_ros.fusion.gpu import preprocess  # noqa: E402
from classaug_ros.fusion.gpu.pixels import load_rgb  # noqa: E402
from classaug_ros.fusion.gpu.preprocess import Preprocess  # noqa: E402
from classaug_ros.imaging.encodings import ENCODINGS, LAYOUTS  # noqa: E402
from classaug_ros.imaging.images import Frame  # noqa: E402
from classaug_ros.models.card import ColorOrder, InputSpec  # noqa: E402

ENCODED = {
    name: ENCODINGS[name] for name in ("rgb8", "bgr8", "rgba8", "bgra8", "mono8", "8UC4", "yuv422", "yuv422_yuy2")
}
MEAN, SCALE = (123.675, 116.28, 103.53), (0.01712475, -0.017507, 2.0)


def spec(height: int, width: int, color: ColorOrder = "rgb") -> InputSpec:
    return InputSpec("image", height, width, color, MEAN, SCALE)


MODELS = (spec(15, 34), spec(40, 21, "bgr"), spec(9, 70), spec(1, 1, "bgr"))
SIZES = {
    "same": (15, 34),
    "larger": (61, 102),
    "twice": (30, 68),
    "smaller": (6, 10),
    "least": (1, 2),
    "wide": (2, 4096),
}


@pytest.fixture
def one_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each input in one program: interpreted, that is many times faster."""
    monkeypatch.setattr(preprocess, "TILE", (64, 128))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    return note_launches(monkeypatch, preprocess.prepare)


def random_frames(
    batch: int, size: tuple[int, int], stride: int, padding: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
    """Return images as batch x bytes, the same as batch x H x bytes of a row without padding, and their step."""
    row = size[1] * stride
    data = np.random.default_rng(size).integers(0, 256, (batch, size[0], row + padding), np.uint8)
    return data.reshape(batch, -1), data[:, :, :row], row + padding


def poisoned(models: Sequence[InputSpec], batch: int = 1) -> list[Any]:
    """Inputs of models, full of what none of them may keep."""
    return [torch.full((batch, 3, model.height, model.width), torch.nan) for model in models]


@pytest.mark.usefixtures("one_tile")
@pytest.mark.parametrize("padding", [0, 7])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("name", ENCODED)
def test_inputs_are_those_of_the_reference_to_the_bit_and_near_the_cpu_s(
    name: str, size: tuple[int, int], padding: int, launches: list[Launch]
) -> None:
    encoding = ENCODED[name]
    assert encoding.layout is not None
    frames, rows, step = random_frames(1, size, encoding.layout.stride, padding)
    images = poisoned(MODELS)
    Preprocess(MODELS, size, encoding.layout, images)(torch.from_numpy(frames), step)
    assert len(launches) == 1
    frame = Frame.encoded(rows[0].reshape(*size, encoding.channels), encoding)
    pixels = reference.colors(rows[0], encoding.layout)
    for model, image in zip(MODELS, images, strict=True):
        np.testing.assert_array_equal(image[0].numpy(), reference.prepare(pixels, model))
        levels = (image.numpy() - Preprocessor(model)(frame)) / np.array(SCALE)[:, np.newaxis, np.newaxis]
        assert np.abs(levels).max() <= 1


@pytest.mark.parametrize("name", ["bgr8", "mono8", "uyvy"])
def test_a_batch_is_prepared_in_one_launch_tile_by_tile(name: str, launches: list[Launch]) -> None:
    layout = ENCODINGS[name].layout
    assert layout is not None
    size, models = (33, 50), (spec(9, 130), spec(6, 20, "bgr"))
    frames, rows, step = random_frames(3, size, layout.stride, 3)
    images = poisoned(models, batch=3)
    prepare = Preprocess(models, size, layout, images)
    for shown in (frames, frames[::-1].copy()):
        prepare(torch.from_numpy(shown), step)
    assert [each.grid for each in launches] == [(3, 3, 6)] * 2
    for number in range(3):
        pixels = reference.colors(rows[2 - number], layout)
        for model, image in zip(models, images, strict=True):
            np.testing.assert_array_equal(image[number].numpy(), reference.prepare(pixels, model))


@pytest.mark.usefixtures("one_tile")
def test_same_size_leaves_the_levels_as_they_are() -> None:
    layout = ENCODINGS["rgb8"].layout
    assert layout is not None
    pixels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    (image,) = images = poisoned([spec(16, 16)])
    Preprocess([spec(16, 16)], (16, 16), layout, images)(torch.from_numpy(pixels.reshape(1, -1)), 48)
    np.testing.assert_array_equal(image.numpy(), Preprocessor(spec(16, 16))(Frame(pixels, "rgb")))


@pytest.mark.usefixtures("one_tile")
def test_nothing_is_written_outside_an_input() -> None:
    frames, _, step = random_frames(2, (15, 34), 3, 0)
    blocks = [torch.full((image.numel() + 200,), torch.nan) for image in poisoned(MODELS, batch=2)]
    images = [block[100:-100].view(image.shape) for block, image in zip(blocks, poisoned(MODELS, batch=2), strict=True)]
    Preprocess(MODELS, (15, 34), LAYOUTS["rgb"], images)(torch.from_numpy(frames), step)
    for block, image in zip(blocks, images, strict=True):
        assert not image.isnan().any()
        assert block[:100].isnan().all()
        assert block[-100:].isnan().all()


@pytest.mark.usefixtures("one_tile")
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (6, 10)], ids=str)
def test_nothing_is_read_outside_an_image(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies there would have no weight, but need not be the process's to read."""
    furthest: list[tuple[int, int]] = []

    def noted(base: Any, y: Any, x: Any, *rest: Any) -> Any:
        furthest.append((y.handle.data.max(), x.handle.data.max()))
        return load_rgb(base, y, x, *rest)

    monkeypatch.setattr(preprocess, "load_rgb", noted)
    frames, _, step = random_frames(1, size, 3, 0)
    Preprocess(MODELS, size, LAYOUTS["rgb"], poisoned(MODELS))(torch.from_numpy(frames), step)
    assert tuple(np.max(furthest, axis=0)) == (size[0] - 1, size[1] - 1)


@pytest.mark.parametrize(
    "image",
    [torch.zeros(1, 3, 34, 15), torch.zeros(1, 3, 15, 34).half(), torch.zeros(1, 3, 34, 15).mT, torch.zeros(3, 15, 34)],
    ids=["other shape", "fp16", "strided", "no batch"],
)
def test_inputs_that_are_none_are_refused(image: Any) -> None:
    with pytest.raises(ValueError, match="input"):
        Preprocess(MODELS[:1], (5, 4), LAYOUTS["rgb"], [image])


@pytest.mark.parametrize(("batch", "length", "step"), [(2, 60, 12), (1, 59, 12), (1, 60, 13)])
def test_frames_that_are_too_few_or_too_short_are_refused(
    batch: int, length: int, step: int, launches: list[Launch]
) -> None:
    prepare = Preprocess(MODELS, (5, 4), LAYOUTS["rgb"], poisoned(MODELS))
    with pytest.raises(ValueError, match=f"frames {batch} x {length} bytes, expected 1 x {4 * step + 12} at least"):
        prepare(torch.zeros((batch, length), dtype=torch.uint8), step)
    assert not launches


def launch_all() -> None:
    """Launch the kernel for layouts of every kind."""
    for name in ("rgb8", "mono8", "uyvy", "yuyv"):
        layout = ENCODINGS[name].layout
        assert layout is not None
        step = 34 * layout.stride
        prepare = Preprocess(MODELS, (30, 34), layout, poisoned(MODELS))
        prepare(torch.zeros((1, 30 * step), dtype=torch.uint8), step)


@all_targets
def test_kernels_compile_for_all_gpus_without_spills_or_fused_arithmetic(targets: tuple[int, ...]) -> None:
    compiled = compile_launches(launch_all, targets)
    assert len(compiled) == 4 * len(targets)
    for each in compiled:
        assert (each.spilled, each.fused) == (0, 0), each
        assert each.registers <= 64, each
