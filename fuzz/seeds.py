"""Writes the inputs that fuzzing starts from into ``corpus/``: tiny files, made by the package itself."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from targets import SEPARATOR, SHA256

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "test"))

from support.reports import evaluate_world, world_rules  # noqa: E402 (in the folder named above)
from support.tinymodels import write_world  # noqa: E402

from classaug_ros.data.bags import make_bag  # noqa: E402
from classaug_ros.evaluation.report import write_report  # noqa: E402
from classaug_ros.learning.counts import Counts  # noqa: E402
from classaug_ros.models.card import load_model  # noqa: E402
from classaug_ros.pipeline.cpu import Pipeline  # noqa: E402


def write(target: str, name: str, *parts: bytes) -> None:
    """Write one input."""
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(SEPARATOR.join(parts))


def main() -> None:
    """Write all of them."""
    with tempfile.TemporaryDirectory() as scratch:
        world = write_world(Path(scratch, "world"), images=1, size=(4, 6))
        folder = world.folder
        main_csv, sub_csv = (folder / name / "classes.csv" for name in ("main", "sub"))
        write(
            "task",
            "seed",
            world.task.read_bytes().replace(b"main/classes", b"main").replace(b"sub/classes", b"sub"),
            main_csv.read_bytes(),
            sub_csv.read_bytes(),
        )
        write(
            "task",
            "rest",
            b"main: main.csv\nsub: sub.csv\nadd: rest\n",
            b"id,name,r,g,b\n0,a,1,2,3\n",
            b"\xef\xbb\xbfid,name,r,g,b\r\n0,b,1,2,3\r\n",
        )
        write("card", "seed", (world.main / "model.yaml").read_bytes(), main_csv.read_bytes())
        image, label = (next((world.dataset.parent / name).iterdir()).read_bytes() for name in ("images", "labels"))
        classes = (world.dataset.parent / "classes.csv").read_bytes()
        write("dataset", "seed", world.dataset.read_bytes(), classes, image, label)
        write("dataset", "map", world.dataset.read_bytes() + b"map: {0: road, 1: car}\n", classes, image, label)
        images(image, label)
        for kind in ("table", "probability"):
            world_rules(world, kind).save(folder / "rules.yaml")
            arrays = next(iter(folder.glob("*.npz")), None)
            text = (folder / "rules.yaml").read_text(encoding="utf-8")
            lines = [_pointed(line) for line in text.splitlines()] if arrays else [text]
            write("rules", kind, "\n".join(lines).encode(), arrays.read_bytes() if arrays else b"")
        with Pipeline(load_model(world.main), load_model(world.sub)) as pipeline:
            empty = Counts.empty(*pipeline.models)
        empty.save(folder / "counts.npz")
        write("counts", "empty", (folder / "counts.npz").read_bytes())
        empty.parts = None
        empty.images, empty.datasets = ["d/1"], {"d": "f"}
        empty.triples[0, 1, 2] = 3
        empty.save(folder / "counts.npz")
        write("counts", "one", (folder / "counts.npz").read_bytes())
        write_report(evaluate_world(world).report, folder / "report")
        write("report", "seed", json.dumps(json.loads((folder / "report" / "report.json").read_bytes())).encode())
        for storage, target, ending in (("mcap", "mcap_bag", "mcap"), ("sqlite3", "sqlite_bag", "db3")):
            bag = folder / storage
            make_bag(world.dataset.parent / "images", bag, topic="/camera/image_raw", storage=storage)  # type: ignore[arg-type]
            metadata = (bag / "metadata.yaml").read_bytes().replace(storage.encode() + b".", b"bag.")
            write(target, "seed", metadata, next(bag.glob(f"*.{ending}")).read_bytes())
    layouts()
    parameters()


def images(image: bytes, label: bytes) -> None:
    """Write images as files, as messages and as annotations."""
    for encoding, step in (("rgb8", 6), ("mono8", 2), ("bayer_rggb8", 2), ("bgra8", 8), ("mono16", 4), ("yuv422", 4)):
        fields = {"height": 4, "width": 2, "step": step, "is_bigendian": 0, "encoding": encoding}
        write("raw", encoding, json.dumps(fields).encode() + b"\n" + bytes(range(4 * step)))
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    jpeg, progressive, png16, palette = (
        cv2.imencode(kind, values, options)[1].tobytes()
        for kind, values, options in (
            (".jpg", pixels, ()),
            (".jpg", pixels, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
            (".png", pixels[:, :, 0].astype(np.uint16), ()),
            (".png", np.where(pixels[:, :, 0] > 90, 255, 0).astype(np.uint8), (cv2.IMWRITE_PNG_BILEVEL, 1)),
        )
    )
    files = {"png": image, "grey": label, "jpeg": jpeg, "progressive": progressive, "png16": png16, "bits": palette}
    for name, data in files.items():
        write("picture", name, data)
        write("annotation", name, data)
        write("compressed", name, f"rgb8; {name[:4]} compressed bgr8\n".encode() + data)


def layouts() -> None:
    """Write folders as data sets come in."""
    write(
        "layout",
        "cityscapes",
        b"\n".join(
            (b"cityscapes:x", b"leftImg8bit/val/a/a_1_leftImg8bit.png", b"gtFine/val/a/a_1_gtFine_labelIds.png")
        ),
    )
    write("layout", "ade20k", b"ade20k/train:x\nimages/training/1.jpg\nannotations/training/1.png")
    write("layout", "camvid", b"camvid:x\nval/1.png\nvalannot/1.png")
    write("layout", "camvid32", b"camvid:x\n701_StillsRaw_full/1.png\nLabeledApproved_full/1_L.png")


def parameters() -> None:
    """Write parameters of a node."""
    given = {"main_model": "m", "sub_model": ["s", "t"], "rules_file": ["a", "b"], "cameras": ["front", "rear"]}
    write("parameters", "several", json.dumps({**given, "front.image_topic": "/x", "rear.max_rate": 5}).encode())
    write("parameters", "one", json.dumps({"main_model": "m", "sub_model": "s", "rules.format": 2}).encode())


def _pointed(line: str) -> str:
    """Return a line of rules, with the arrays as the target has them."""
    if line.startswith("      arrays:"):
        return '      arrays: "x.npz"'
    return f'      arrays_sha256: "{SHA256.decode()}"' if line.startswith("      arrays_sha256:") else line


if __name__ == "__main__":
    main()
