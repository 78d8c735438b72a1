"""TensorRT and TensorRT-RTX: plans, and the engines that execute them."""
