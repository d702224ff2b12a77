"""The pipeline: records, the network, its checkpoints, data, ONNX export and the one loop."""
