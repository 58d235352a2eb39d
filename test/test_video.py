"""Videos: what is written can be read again, whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.browser import browse, needs_chromium
from support.reports import CAMERAS, STEP, evaluate_world
from support.tinymodels import write_world

from classaug_ros.cli import main as classaug
from classaug_ros.data.dataset import load_dataset
from classaug_ros.data.examples import Example
from classaug_ros.errors import ConfigError
from classaug_ros.evaluation.evaluate import FrameScore, Prediction
from classaug_ros.evaluation.video import RATE, OverlayVideo, VideoFile, above, frame_rate, legend_strip
from classaug_ros.imaging.images import Frame
from classaug_ros.rules import RuleSet

BROWSERS_PLAY = {b"avc1", b"h264", b"vp09", b"vp90"}
COLORS = [(200, 40, 40), (40, 200, 40), (40, 40, 200)]


def read(path: Path) -> tuple[float, list[NDArray[np.uint8]]]:
    """Return the rate of a video and its frames, H x W x 3 RGB."""
    video = cv2.VideoCapture(str(path))
    frames: list[NDArray[np.uint8]] = []
    while True:
        there, frame = video.read()
        if not there:
            return float(video.get(cv2.CAP_PROP_FPS)), frames
        frames.append(np.asarray(frame[:, :, ::-1], np.uint8))


def plain(color: tuple[int, int, int], size: tuple[int, int] = (64, 96)) -> NDArray[np.uint8]:
    return np.full((*size, 3), color, np.uint8)


def codec_of(path: Path) -> bytes:
    return int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").lower()


@pytest.fixture(params=["PyAV", "OpenCV"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What writes videos: PyAV, or OpenCV as where PyAV is not installed."""
    if request.param == "PyAV":
        pytest.importorskip("av")
    else:
        monkeypatch.delitem(sys.modules, "classaug_ros.evaluation.h264", raising=False)
        monkeypatch.setitem(sys.modules, "av", None)
    return str(request.param)


@pytest.mark.usefixtures("encoder")
def test_frames_come_back_in_order_and_colour(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "new" / "video.mp4", 12.5) as video:
        for color in COLORS:
            video.write(plain(color))
    rate, frames = read(tmp_path / "new" / "video.mp4")
    assert rate == pytest.approx(12.5)
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 3
    for frame, color in zip(frames, COLORS, strict=True):
        assert np.abs(frame.mean(axis=(0, 1)) - color).max() < 6


def test_browsers_can_play_it(tmp_path: Path, encoder: str) -> None:
    """OpenCV falls back to a codec that browsers do not know where it has no other."""
    with VideoFile(tmp_path / "video.mp4", 10) as video:
        video.write(plain(COLORS[0]))
    assert codec_of(tmp_path / "video.mp4") in {"PyAV": {b"avc1", b"h264"}, "OpenCV": BROWSERS_PLAY}[encoder]


def test_codecs_that_are_not_there_are_not_told(tmp_path: Path) -> None:
    """In a program of its own: FFmpeg's level is that of its first use."""
    program = (
        "import sys, pathlib, numpy, classaug_ros.evaluation.video as video\n"
        "sys.modules['av'] = None\n"  # which would be asked first
        "video.CODECS = ('avc1', 'hvc1', 'av01', *video.CODECS)\n"
        "with video.VideoFile(pathlib.Path(sys.argv[1]), 10) as file:\n"
        "    file.write(numpy.zeros((64, 96, 3), numpy.uint8))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "video.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert (tmp_path / "video.mp4").is_file()


def test_without_h264_in_pyav_opencv_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr("classaug_ros.evaluation.h264.ENCODER", "libnone")
    with VideoFile(tmp_path / "video.mp4", 10) as video:
        video.write(plain(COLORS[0]))
    assert codec_of(tmp_path / "video.mp4") in BROWSERS_PLAY
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


@pytest.mark.usefixtures("encoder")
@needs_chromium
def test_a_real_browser_plays_it(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "video.mp4", 10) as video:
        for color in COLORS:
            video.write(plain(color))
    page = tmp_path / "page.html"
    page.write_text(
        "<video src=video.mp4 muted preload=auto></video><p></p><script>"
        "const v = document.querySelector('video'), p = document.querySelector('p');"
        "v.onloadeddata = () => p.textContent = `plays ${v.videoWidth} x ${v.videoHeight}, ${v.duration.toFixed(1)} s`;"
        "v.onerror = () => p.textContent = v.error.message;</script>",
        encoding="utf-8",
    )
    shown = browse(page, tmp_path / "profile", "--virtual-time-budget=10000", "--dump-dom").stdout
    assert "<p>plays 96 x 64, 0.3 s</p>" in shown


@pytest.mark.usefixtures("encoder")
def test_odd_and_changing_sizes_are_stretched_to_the_first(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "video.mp4", 10) as video:
        for size in ((63, 95), (120, 40), (64, 96)):
            video.write(plain(COLORS[1], size))
    assert [frame.shape for frame in read(tmp_path / "video.mp4")[1]] == [(64, 96, 3)] * 3


@pytest.mark.usefixtures("encoder")
def test_a_mistake_on_the_way_leaves_no_video(tmp_path: Path) -> None:
    def interrupted() -> None:
        with VideoFile(tmp_path / "video.mp4", 10) as video:
            video.write(plain(COLORS[0]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_goes_while_it_is_written_is_told(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = VideoFile(tmp_path / "new" / "video.mp4", 10)
    (tmp_path / "new").rmdir()
    with pytest.raises(ConfigError, match=r"video.*mp4: cannot be written: No such file"):  # once it has enough frames
        _finish(video)


def _finish(video: VideoFile) -> None:
    video.write(plain(COLORS[0]))
    video.close(keep=True)


@pytest.mark.parametrize("rate", [29.97, 30000 / 1001, 59.94, 12.5, 1.0, 60.0])
def test_h264_keeps_the_rate(tmp_path: Path, rate: float) -> None:
    pytest.importorskip("av")
    with VideoFile(tmp_path / "video.mp4", rate) as video:
        for _ in range(3):
            video.write(plain(COLORS[0]))
    assert read(tmp_path / "video.mp4")[0] == pytest.approx(rate, rel=1e-3)


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be written"):
        VideoFile(tmp_path / "file" / "video.mp4", 10)


@pytest.mark.parametrize(
    ("stamps", "rate"),
    [
        ([0, 0, 0], RATE),
        ([7], RATE),
        ([], RATE),
        ([0, 10**8, 2 * 10**8, 9 * 10**8], 10.0),
        ([5, 4, 5 * 10**7 + 4], 20.0),
        ([0, 1], 60.0),
        ([0, 10**11], 1.0),
    ],
)
def test_the_rate_is_that_of_the_stamps(stamps: list[int], rate: float) -> None:
    assert frame_rate(stamps) == pytest.approx(rate)


@pytest.fixture
def rules(tmp_path: Path) -> RuleSet:
    return evaluate_world(write_world(tmp_path / "rules", images=2)).rules


def filmed(folder: Path, rules: RuleSet, frames: int, cameras: int, size: tuple[int, int] = (270, 480)) -> list[Path]:
    label = np.zeros(size, np.uint8)
    label[:, size[1] // 2 :] = 2
    score = FrameScore("x", "", 0, 0.1, {}, (1.0,))
    with OverlayVideo(folder, rules) as video:
        for number in range(frames):
            frame = Frame(plain((100, 100, 100), size), "rgb")
            example = Example("x", frame, None, CAMERAS[number % cameras], 1 + number * STEP)
            video(example, Prediction(label, label, score))
    return video.files


def test_the_overlay_stands_above_the_legend(tmp_path: Path, rules: RuleSet) -> None:
    (file,) = filmed(tmp_path, rules, 14, 1)
    assert file == tmp_path / "overlay.mp4"
    rate, frames = read(file)
    assert rate == pytest.approx(10)
    assert len(frames) == 14
    strip = legend_strip(rules, 480)
    for frame in (frames[0], frames[-1]):
        assert frame.shape == (270 + strip.shape[0] + strip.shape[0] % 2, 480, 3)
        for columns, number in ((slice(20, 220), 0), (slice(260, 460), 2)):
            expected = (np.array(rules.output.colors[number]) + 100) / 2
            assert np.abs(frame[20:250, columns].mean(axis=(0, 1)) - expected).max() < 8
        below = frame[270 : 270 + strip.shape[0]]
        assert np.corrcoef(below.ravel(), strip.ravel())[0, 1] > 0.9


def test_each_camera_has_its_own_video(tmp_path: Path, rules: RuleSet) -> None:
    files = filmed(tmp_path, rules, 7, 2, (30, 40))
    assert [file.name for file in files] == ["overlay-front-image_raw.mp4", "overlay-rear-image_raw.mp4"]
    assert sorted(tmp_path.glob("*.mp4")) == files
    assert [len(read(file)[1]) for file in files] == [4, 3]
    assert read(files[0])[0] == pytest.approx(5)


def test_frames_narrower_than_the_legend_stand_in_its_middle(rules: RuleSet) -> None:
    strip = legend_strip(rules, 10)
    frame = above(plain(COLORS[0], (20, 30)), strip)
    assert frame.shape == (20 + strip.shape[0], 480, 3)
    np.testing.assert_array_equal(frame[:20, 225:255], plain(COLORS[0], (20, 30)))
    assert (frame[:20, :225] == 255).all()
    assert (frame[:20, 255:] == 255).all()
    np.testing.assert_array_equal(frame[20:], strip)


def test_the_legend_names_what_the_rules_can_give(rules: RuleSet) -> None:
    strip = legend_strip(rules, 600)
    colors = {tuple(color) for color in strip.reshape(-1, 3).tolist()}
    given = set(np.unique(rules.rules[0].table).tolist())
    assert {k for k, color in enumerate(rules.output.colors) if tuple(color) in colors} == given


def test_it_watches_an_evaluation(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", images=5)
    rules = evaluate_world(world).rules
    with OverlayVideo(tmp_path / "report", rules) as video:
        evaluate_world(world, watchers=[video])
    assert len(read(tmp_path / "report" / "overlay.mp4")[1]) == len(load_dataset(world.dataset)) == 5


def test_the_command_writes_it_beside_the_report(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", images=3)
    evaluate_world(world).rules.rules[0].save(tmp_path / "rules.yaml")
    given = {"main": world.main, "sub": world.sub, "task": world.task, "dataset": world.dataset}
    options = [word for name, path in given.items() for word in (f"--{name}", str(path))]
    report = tmp_path / "report"
    rules = ["--rules", str(tmp_path / "rules.yaml")]
    assert classaug(["evaluate", *options, *rules, "--report", str(report), "--video"]) == 0
    assert len(read(report / "overlay.mp4")[1]) == 3
    assert {"report.html", "report.json", "report.md", "overlay.mp4"} <= {file.name for file in report.iterdir()}
    assert "data:image/jpeg" in (report / "report.html").read_text(encoding="utf-8")
