"""OpenVINO: an IR in a folder, `model.xml` and `model.bin`, for Intel's processors."""
