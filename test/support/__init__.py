"""What tests share: tiny models and worlds, real ROS around them, kernels compiled ahead of time."""
