from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

NAME = "classaug_ros"
SHARE = f"share/{NAME}"
SHARED_FOLDERS = ("config", "launch", "rviz")


def share_files() -> list[tuple[str, list[str]]]:
    """List what ROS finds in the package's share folder, the tree of each shared folder kept."""
    files: dict[str, list[str]] = defaultdict(list)
    for folder in SHARED_FOLDERS:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[f"{SHARE}/{path.parent.as_posix()}"].append(path.as_posix())
    return [
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        *files.items(),
    ]


setup(
    name=NAME,
    version="0.1.0",
    description="Adds classes to a semantic segmentation model from a second one, live on ROS 2 camera topics",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The classaug_ros authors",
    maintainer="The classaug_ros authors",
    maintainer_email="maintainers@classaug.example",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        NAME: ["py.typed"],
        f"{NAME}.evaluation.report": ["style.css"],
    },
    data_files=share_files(),
    zip_safe=False,
    python_requires=">=3.10",
    # The oldest that `make test-oldest` runs. None is newer than what Ubuntu 24.04 ships, so that a colcon build on its
    # packages asks for nothing newer; pip brings ONNX Runtime, whose quantiser is broken in 1.19, and rosbags, which
    # aborts a bag from 0.11.6 on.
    install_requires=[
        "numba>=0.58.1",
        "numpy>=1.26.0",
        "onnxruntime>=1.20.0",
        "opencv-python-headless>=4.6.0",
        "PyYAML>=6.0.0",
        "rosbags>=0.11.6",
        "scipy>=1.11.1",
        "tqdm>=4.66.0",
    ],
    extras_require={
        # What no ROS package list has, and is done without: videos in H.264, and a fit whose BLAS has one thread.
        "fast": ["av>=17.1.0", "threadpoolctl>=3.8.0"],
        "export": ["onnx>=1.16.0", "torch>=2.5", "transformers>=4.48"],
        "gpu": ["onnx>=1.16.0", "torch>=2.8", "triton>=3.4"],
        "quantize": ["onnx>=1.16.0"],
        "test": [
            "hypothesis>=6.100.0",
            "onnx>=1.16.0",
            "pytest>=9.0.0",
            "pytest-timeout>=2.3.1",
            "scikit-learn>=1.3.0",
        ],
    },
    entry_points={
        "console_scripts": [
            "classaug = classaug_ros.cli:main",
            "classaug_node = classaug_ros.node.__main__:main",
        ],
    },
)
