"""The libraries that execute a network: PyTorch, OpenVINO, TensorRT."""
