"""Models on a device, with arrays: on torch's CPU here, against the same models without a device."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `gpu`")

from support.tinyprograms import models_of, write_programs  # noqa: E402 (it imports torch)

from classaug_ros.cli import main as classaug  # noqa: E402
from classaug_ros.engines import load_engine  # noqa: E402
from classaug_ros.engines.ondevice import OnDevice  # noqa: E402
from classaug_ros.engines.pt import TorchProgram  # noqa: E402
from classaug_ros.errors import EngineError  # noqa: E402

SIZE = (12, 10)


def test_arrays_go_through_the_device_and_come_back(tmp_path: Path) -> None:
    main, sub = models_of(write_programs(tmp_path / "world", SIZE))
    for model in (main, sub):
        cpu = torch.device("cpu")
        with closing(OnDevice(TorchProgram(model, cpu), model, cpu)) as mine, closing(load_engine(model, 1)) as theirs:
            for seed in range(3):
                image = np.random.default_rng(seed).random((1, 3, *SIZE), np.float32)
                output = mine.run(image)
                kept = output.copy()
                mine.run(image + 1)
                np.testing.assert_array_equal(output, kept)
                np.testing.assert_array_equal(output, theirs.run(image))


def test_one_that_was_cancelled_runs_no_more(tmp_path: Path) -> None:
    main, _ = models_of(write_programs(tmp_path / "world", SIZE))
    cpu = torch.device("cpu")
    with closing(OnDevice(TorchProgram(main, cpu), main, cpu)) as engine:
        engine.cancel()
        with pytest.raises(EngineError, match="it was told to end"):
            engine.run(np.zeros((1, 3, *SIZE), np.float32))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_learning_on_a_gpu_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = write_programs(tmp_path / "world", SIZE)
    options = ["--main", world.main, "--sub", world.sub, "--task", world.task, "--dataset", world.dataset]
    assert classaug(["learn", *map(str, options), "--device", "cuda", "--output", str(tmp_path / "rules.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "device cuda" in line
    assert line.endswith("device cpu")
