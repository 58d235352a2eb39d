"""Export of Transformers models, from folders with random weights: no network is needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support.tinymodels import SUB_CLASSES, write_dataset

from classaug_ros.cli import main as classaug
from classaug_ros.convert.cards import noise, run_once
from classaug_ros.convert.classlists import shipped_classes
from classaug_ros.engines import load_engine
from classaug_ros.errors import ConfigError, EngineError
from classaug_ros.models.card import load_model
from classaug_ros.rules import Rules

torch = pytest.importorskip("torch", reason="needs the extra `export`")
transformers = pytest.importorskip("transformers", reason="needs the extra `export`")

from classaug_ros.convert.export import export, input_spec  # noqa: E402 (it imports both)

NAMES = ("road", "person", "car")
SIZE = {"height": 48, "width": 80}
IMAGENET: dict[str, Any] = {
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "rescale_factor": 1 / 255,
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def segformer(names: Sequence[str]) -> Any:
    widths = {"hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 3, 4], "depths": [1, 1, 1, 1]}
    return transformers.SegformerConfig(decoder_hidden_size=16, **widths, **_labels(names))


def upernet(names: Sequence[str]) -> Any:
    backbone = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES)
    sizes = {"hidden_size": 16, "auxiliary_in_channels": 24, "auxiliary_channels": 8}
    return transformers.UperNetConfig(backbone_config=backbone, **sizes, **_labels(names))


def dpt(names: Sequence[str]) -> Any:
    layers = {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 8, 8]}
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "fusion_hidden_size": 8}
    return transformers.DPTConfig(image_size=64, **layers, **sizes, **_labels(names))


def _labels(names: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def save(
    folder: Path,
    config: Any,
    processor: Mapping[str, Any] | None = None,
    network: Callable[[Any], Any] = transformers.AutoModelForSemanticSegmentation.from_config,
    seed: int = 0,
) -> Path:
    """Write a model with random weights, large enough that several classes win somewhere."""
    torch.manual_seed(seed)
    made = network(config)
    with torch.no_grad():
        for weights in made.parameters():
            if weights.dim() > 1:
                torch.nn.init.xavier_normal_(weights, 2.0)
    made.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor or {"size": SIZE, **IMAGENET}))
    return folder


@pytest.mark.parametrize(
    ("config", "size", "convention"),
    [
        pytest.param(segformer, (12, 20), "half_pixel", id="SegFormer ends at a quarter"),
        pytest.param(upernet, (12, 20), "half_pixel", id="UPerNet's resize is cut off"),
        pytest.param(dpt, (32, 32), "align_corners", id="DPT's, by corners, too"),
    ],
)
def test_exported_models_are_the_original_s_logits(
    config: Callable[[Sequence[str]], Any], size: tuple[int, int], convention: str, tmp_path: Path
) -> None:
    side = {"height": 64, "width": 64} if config is dpt else SIZE
    source = save(tmp_path / "net", config(NAMES), {"size": side, **IMAGENET})
    made = export(str(source), tmp_path / "out")
    assert made.changed == 0
    assert made.difference < 1e-4 * made.spread
    model = load_model(tmp_path / "out")
    output = model.card.output
    assert (output.kind, (output.height, output.width), output.upsample) == ("logits", size, convention)
    assert (model.card.name, model.card.classes.names) == ("net", NAMES)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["classes.csv", "model.onnx", "model.yaml"]

    image = noise(model.card.input)
    logits = torch.from_numpy(load_engine(model, 1).run(image))
    network = transformers.AutoModelForSemanticSegmentation.from_pretrained(source).eval()
    with torch.no_grad():
        original = network(pixel_values=torch.from_numpy(image)).logits
    if convention == "align_corners":
        logits = torch.nn.functional.interpolate(logits, original.shape[2:], mode="bilinear", align_corners=True)
    elif logits.shape != original.shape:
        logits = torch.nn.functional.interpolate(logits, original.shape[2:], mode="bilinear")
    torch.testing.assert_close(logits, original, rtol=1e-4, atol=1e-5 * made.spread)
    assert len(np.unique(original.argmax(dim=1))) > 1


def test_another_size_can_be_chosen(tmp_path: Path) -> None:
    source = save(tmp_path / "net", segformer(NAMES))
    assert classaug(["export", str(source), "--output", str(tmp_path / "out"), "--size", "70x50"]) == 0
    card = load_model(tmp_path / "out").card
    assert (card.input.height, card.input.width, card.output.height, card.output.width) == (50, 70, 13, 18)


def test_pairs_of_exported_models_learn_and_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """export -> learn -> evaluate, all by the command line."""
    save(tmp_path / "main", segformer(NAMES), seed=1)
    save(tmp_path / "sub", segformer(SUB_CLASSES), seed=2)
    for role in ("main", "sub"):
        assert classaug(["export", str(tmp_path / role), "--output", str(tmp_path / "onnx" / role)]) == 0
    (tmp_path / "task.yaml").write_text(
        "main: onnx/main/classes.csv\nsub: onnx/sub/classes.csv\n"
        "similar: {road: [road], person: [person], car: [car]}\nadd: [bicycle, bag]\n"
    )
    dataset, images, _ = write_dataset(tmp_path, "drive", 3, (48, 80), seed=4)
    models = [f"--{role}={tmp_path / 'onnx' / role}" for role in ("main", "sub")]
    common = [*models, f"--dataset={dataset}", f"--task={tmp_path / 'task.yaml'}"]
    assert classaug(["learn", *common, f"--output={tmp_path / 'rules.yaml'}"]) == 0
    rules = Rules.load(tmp_path / "rules.yaml")
    assert rules.provenance.images == len(images)
    capsys.readouterr()
    report = tmp_path / "report"
    assert classaug(["evaluate", *common, f"--rules={tmp_path / 'rules.yaml'}", f"--report={report}"]) == 0
    assert "rules" in capsys.readouterr().out
    written = json.loads((report / "report.json").read_text())
    assert written["provenance"]["models"]["main"]["fingerprint"] == load_model(tmp_path / "onnx" / "main").fingerprint
    assert written["methods"]["table"]["miou"]["all"] >= 0


def test_preprocessing_is_the_image_processor_s(tmp_path: Path) -> None:
    """What the card makes of an image, against the processor's formula on the same pixels."""
    source = save(tmp_path / "net", segformer(NAMES))
    export(str(source), tmp_path / "out")
    spec = load_model(tmp_path / "out").card.input
    pixels = np.random.default_rng(0).integers(0, 256, (spec.height, spec.width, 3), np.uint8)  # what `noise` draws
    expected = (pixels / 255 - IMAGENET["image_mean"]) / IMAGENET["image_std"]
    np.testing.assert_allclose(noise(spec)[0], expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("processor", "mean", "scale", "color"),
    [
        ({}, (0, 0, 0), (1 / 255,) * 3, "rgb"),
        ({"rescale_factor": 0.5}, (0, 0, 0), (0.5,) * 3, "rgb"),
        ({"do_rescale": False}, (0, 0, 0), (1, 1, 1), "rgb"),
        ({"do_flip_channel_order": True}, (0, 0, 0), (1 / 255,) * 3, "bgr"),
        (
            {"do_normalize": True, "do_rescale": False, "image_mean": [1, 2, 3], "image_std": [2, 4, 8]},
            (1, 2, 3),
            (0.5, 0.25, 0.125),
            "rgb",
        ),
        (
            {
                "do_normalize": True,
                "image_mean": [0.5, 0.6, 0.7],
                "image_std": [1, 2, 3],
                "do_flip_channel_order": True,
            },
            (0.7 * 255, 0.6 * 255, 0.5 * 255),
            (1 / 765, 1 / 510, 1 / 255),
            "bgr",
        ),
    ],
)
def test_processors_are_followed(
    processor: dict[str, Any], mean: tuple[float, ...], scale: tuple[float, ...], color: str
) -> None:
    spec = input_spec({"do_normalize": False, "size": 64, **processor}, None, "net")
    assert (spec.height, spec.width, spec.color) == (64, 64, color)
    assert spec.mean == pytest.approx(mean)
    assert spec.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    ("processor", "size"),
    [
        ({"size": 32}, (32, 32)),
        ({"size": {"height": 4, "width": 6}}, (4, 6)),
        ({"size": {"shortest_edge": 8}, "crop_size": {"height": 4, "width": 6}, "do_center_crop": True}, (4, 6)),
        ({"size": {"height": 4, "width": 6}, "crop_size": 2}, (4, 6)),
    ],
)
def test_the_size_is_the_processor_s(processor: dict[str, Any], size: tuple[int, int]) -> None:
    spec = input_spec({**IMAGENET, **processor}, None, "net")
    assert (spec.height, spec.width) == size


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (
            {"size": {"shortest_edge": 8}, **IMAGENET},
            r"\{'shortest_edge': 8\} keeps each image's proportions; give --size",
        ),
        (IMAGENET, "there is none; give --size"),
        ({"size": 8, "image_mean": [0.5]}, "no image_mean and image_std of three numbers"),
    ],
)
def test_processors_that_cannot_be_followed_are_refused(processor: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        input_spec(processor, None, "net")


def classifier(config: Any) -> Any:
    return transformers.SegformerForImageClassification(config)


def refused(source: object, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Export in vain; return what was told."""
    capsys.readouterr()
    assert classaug(["export", str(source), "--output", str(output)]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert not output.exists() or not list(output.iterdir())
    return told.err


def test_a_model_that_was_not_trained_to_segment_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "net", segformer(NAMES), network=classifier)
    assert "that SegformerForSemanticSegmentation needs (decode_head." in refused(source, tmp_path / "out", capsys)


def test_other_models_and_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8] * 4, depths=[1] * 4)
    source = save(tmp_path / "net", config, network=transformers.ResNetForImageClassification)
    assert "Unrecognized configuration class" in refused(source, tmp_path / "out", capsys)
    assert "is no semantic segmentation model" in refused(tmp_path / "nowhere", tmp_path / "out", capsys)
    source = save(tmp_path / "bare", segformer(NAMES))
    (source / "preprocessor_config.json").unlink()
    assert "the configuration of its image processor cannot be read" in refused(source, tmp_path / "out", capsys)


def test_a_size_the_model_cannot_take_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "net", dpt(NAMES))
    with pytest.raises(EngineError, match=r"fails on 80x48 images: .*; give another --size"):
        export(str(source), tmp_path / "out")


def test_an_export_that_is_not_the_same_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save(tmp_path / "net", segformer(NAMES))
    monkeypatch.setattr("classaug_ros.convert.export.run_once", lambda model: run_once(model)[:, ::-1].copy())
    with pytest.raises(EngineError, match="of the pixels of a random image another label"):
        export(str(source), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_model_that_is_there_stays_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "net", segformer(NAMES))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.yaml").write_text("mine")
    command = ["export", str(source), "--output", str(tmp_path / "out")]
    assert classaug(command) == 2
    assert "model.yaml: is there already; give --force to write over it" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.yaml").read_text() == "mine"
    assert classaug([*command, "--force"]) == 0
    load_model(tmp_path / "out")


def test_shipped_classes_are_recognised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = list(shipped_classes("cityscapes").names)
    source = save(tmp_path / "net", segformer(names))
    assert classaug(["export", str(source), "--output", str(tmp_path / "out")]) == 0
    assert "19 classes, those of the shipped cityscapes list" in capsys.readouterr().out
    assert load_model(tmp_path / "out").card.classes == shipped_classes("cityscapes")


def test_images_reach_the_exported_model_as_they_reach_the_original(tmp_path: Path) -> None:
    """A photograph's way: our preprocessing and logits against the network on the same resized pixels."""
    from classaug_ros.engines.preprocess import Preprocessor
    from classaug_ros.imaging.images import Frame

    source = save(tmp_path / "net", segformer(NAMES))
    export(str(source), tmp_path / "out")
    model = load_model(tmp_path / "out")
    picture = np.random.default_rng(5).integers(0, 256, (90, 160, 3), np.uint8)
    got = load_engine(model, 1).run(Preprocessor(model.card.input)(Frame(picture, "rgb")))
    resized = cv2.resize(picture, (80, 48), interpolation=cv2.INTER_LINEAR)
    values = (resized / 255 - IMAGENET["image_mean"]) / IMAGENET["image_std"]
    network = transformers.AutoModelForSemanticSegmentation.from_pretrained(source).eval()
    with torch.no_grad():
        image = torch.from_numpy(values.transpose(2, 0, 1)[None].astype(np.float32))
        expected = network(pixel_values=image).logits
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-3, atol=1e-4)
