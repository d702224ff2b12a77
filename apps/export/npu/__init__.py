"""`rexnet-export npu`: a finished `.tflite`, compiled ahead of time for the NPUs of phones."""
