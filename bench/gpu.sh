#!/usr/bin/env bash
# All that a GPU has to show, in one call of under eight minutes, without a network: are the results right, how fast are they, does
# memory stay flat, what do errors say. A short table comes last; everything is in gpu.json, in $OUT or ./gpu-bench.
#
#   bench/gpu.sh                            everything, on the first GPU
#   CUDA_VISIBLE_DEVICES=1 bench/gpu.sh     on another one
#   bench/gpu.sh --only models bench        some steps; see --help
#   bench/gpu.sh --device cpu --small       what can be run without a GPU, at tiny sizes, in Triton's interpreter: its times mean nothing
#   PYTHON=python3.12 bench/gpu.sh          another Python
#
# Needs, besides a CUDA GPU and its driver: bash, and Python 3.10 or later with numpy, numba, opencv (cv2), PyYAML, tqdm, torch built with
# CUDA, and the triton it goes with; the interpreter of Triton 3.6 and older needs a numpy before 2.5. TensorRT or TensorRT-RTX are tried
# where they are there, with onnx and onnxruntime.
# Exit status: 0 where everything that was run passes, 1 where something fails, 2 where nothing can be run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}
command -v "$python" > /dev/null || { echo "gpu.sh: there is no '$python'; set PYTHON to a Python 3.10 or later" >&2; exit 2; }
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$root/bench/gpu.py" "$@"
