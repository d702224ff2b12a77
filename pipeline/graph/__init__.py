"""The float ONNX graph, and its parity with torch."""
