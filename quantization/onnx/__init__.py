"""Reading and running ONNX graphs."""
