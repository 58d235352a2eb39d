"""The GPU path: a frame from the camera's bytes to label and overlay without leaving the device. Needs PyTorch and Triton."""
