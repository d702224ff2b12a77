"""The ONNX Runtime of npm that is in this environment: `python onnx_runtime_js.py MODEL IMAGES.npy OUT.npz`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np


def main() -> None:
    """Every image by itself; the outputs by name."""
    model, images, out = sys.argv[1:]
    (package,) = Path(sys.prefix, "node_modules").glob("onnxruntime-[nw]*")
    described = json.loads((package / "package.json").read_text())
    pixels = np.load(images)
    raw = Path(f"{out}.raw")
    pixels.tofile(raw)
    kind = "float32" if pixels.dtype == np.float32 else "uint8"
    given = {"type": kind, "dims": [1, *pixels.shape[1:]], "count": len(pixels), "file": str(raw)}
    Path(f"{out}.json").write_text(json.dumps(given))
    script = Path(__file__).with_name("onnx_runtime.mjs")
    entry = subprocess.run(
        [node(), "-p", f"require.resolve({described['name']!r})"],
        cwd=package.parent,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    done = subprocess.run([node(), script, entry, model, f"{out}.json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(next((line for line in done.stderr.splitlines() if "rror" in line), done.stderr[-200:]))
    found = {name: np.array(values, np.float32) for name, values in json.loads(done.stdout).items()}
    np.savez(out, **found)
    where = "WebAssembly in Node.js" if described["name"].endswith("web") else "CPU, Node.js"
    print(json.dumps({"runtime": f"{described['name']} {described['version']}", "where": where}))


def node() -> str:
    """The program."""
    return shutil.which("node") or sys.exit("Node.js is not installed")


if __name__ == "__main__":
    main()
