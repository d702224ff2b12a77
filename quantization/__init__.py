"""INT8 arithmetic on ONNX graphs: parameters, ranges, calibration, the table, QDQ insertion."""
