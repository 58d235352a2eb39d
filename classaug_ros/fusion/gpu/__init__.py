"""The GPU path: frames from the camera's bytes to label and overlay on the device. Needs PyTorch and Triton."""
