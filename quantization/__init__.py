"""The arithmetic of INT8 on ONNX graphs."""
