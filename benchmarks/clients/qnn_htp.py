"""Qualcomm's HTP, emulated on x86, without fallback to the CPU: `python qnn_htp.py MODEL IMAGES.npy OUT.npz`."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import onnxruntime_qnn

SOME = 40  # images: the emulation takes seconds for each


def main() -> None:
    """The whole graph on the NPU, or an error."""
    model, images, out = sys.argv[1:]
    onnxruntime.register_execution_provider_library("QNN", onnxruntime_qnn.get_library_path())
    device = next(device for device in onnxruntime.get_ep_devices() if device.ep_name == "QNN")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = f"{out}.profile"
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    options.add_provider_for_devices([device], {"backend_path": onnxruntime_qnn.get_qnn_htp_path()})
    session = onnxruntime.InferenceSession(model, options)
    names = [output.name for output in session.get_outputs()]
    pixels = np.load(images)[:SOME]
    found = [session.run(names, {"image": each[None]}) for each in pixels]
    profile = Path(session.end_profiling())
    events = json.loads(profile.read_text())
    profile.unlink()
    kernels = [event["args"] for event in events if event.get("cat") == "Node" and "kernel_time" in event["name"]]
    parts = len(kernels) // len(pixels)
    np.savez(out, **{name: np.concatenate([each[place] for each in found]) for place, name in enumerate(names)})
    where = f"HTP, {parts} partition{'s' * (parts != 1)}"
    print(json.dumps({"runtime": f"onnxruntime-qnn {onnxruntime_qnn.__version__}", "where": where}))


if __name__ == "__main__":
    main()
