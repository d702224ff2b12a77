"""Export the bundled network from Python, and read what was measured.

python export_from_python.py OUTPUT [--quick]
"""

import sys

import rexnet_export


def main() -> None:
    """Make a TFLite file and say how it compares with the float network."""
    output, *rest = sys.argv[1:] or ["release"]
    quick = {"effort": "fast", "calibration_images": 16, "eval_images": 64} if "--quick" in rest else {}
    report = rexnet_export.export(targets=["tflite"], precision="int8", output=output, **quick)
    result = report.targets["tflite"].artifact
    print(f"{result.file.path}: {result.file.bytes:,} bytes")
    print(f"top-1 {result.accuracy.top1:.2%}, at most {result.accuracy.drop_upper_95:.2%} below float (95 %)")


if __name__ == "__main__":
    main()
