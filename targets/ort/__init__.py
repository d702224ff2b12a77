"""ONNX Runtime mobile: `.ort` files for ARM and x86."""
