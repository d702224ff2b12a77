"""A stand-in for Xcode: programs that answer in the recorded JSON form, and a phone that is a folder.

coremltools' app on the phone is played too: it loads what it is sent, and its logits are the means of the channels.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

IDENTIFIER = "0A1B2C3D-0000-4000-8000-000000000001"
# The documented form of `devicectl list devices --json-output`, shortened; not recorded from a device.
ANSWER: dict[str, Any] = {
    "info": {"outcome": "success", "jsonVersion": 2},
    "result": {
        "devices": [
            {
                "identifier": IDENTIFIER,
                "connectionProperties": {"tunnelState": "connected", "transportType": "wired"},
                "deviceProperties": {
                    "name": "Ann's iPhone",
                    "osVersionNumber": "18.1",
                    "osBuildUpdate": "22B83",
                    "developerModeStatus": "enabled",
                },
                "hardwareProperties": {
                    "deviceType": "iPhone",
                    "productType": "iPhone16,1",
                    "cpuType": {"name": "arm64e"},
                    "udid": "00008130-000000000000001E",
                    "serialNumber": "SECRET",
                },
            },
            {
                "identifier": "0A1B2C3D-0000-4000-8000-000000000002",
                "connectionProperties": {"tunnelState": "unavailable"},
                "deviceProperties": {"name": "old pad", "osVersionNumber": "17.4"},
                "hardwareProperties": {"deviceType": "iPad", "productType": "iPad13,4", "udid": "x"},
            },
        ]
    },
}


DEVICECTL = """#!{python}
import json, os, shutil, sys, time
from pathlib import Path

here = Path(__file__).parent.parent
phone, words = here / "phone", sys.argv[1:]
with (here / "asked").open("a") as log:
    log.write(json.dumps(words) + "\\n")


def value(*names):
    for name in names:
        for place, word in enumerate(words):
            if word == name:
                return words[place + 1]
            if word.startswith(name + "="):
                return word.partition("=")[2]


def answer(result):
    target = value("-j", "--json-output")
    Path(target).write_text(json.dumps(result))


def respond(place):
    request = json.loads(place.read_text())
    params, name = request["params"], request["id"]
    app = place.parents[3]
    reply = app / "responses" / name
    reply.mkdir(parents=True)
    result = {{"modelID": params["modelID"]}}
    message = {{"id": name, "result": result}}
    resource = app / "requests" / "resources" / name / request.get("resource", "")
    if request["method"] == "MLModelService.Load":
        assert (resource / "compiled").is_file(), resource
        result["duration"] = 5_000_000
    elif request["method"] == "MLModelService.Prediction":
        import numpy as np

        about = params["inputs"]["image"]
        assert about["dataType"] == "Float32", about
        pixels = np.frombuffer(resource.read_bytes(), np.float32).reshape(about["shape"])
        logits = pixels.mean((2, 3))
        (reply / "out.bin").write_bytes(logits.tobytes())
        storage = {{"offset": 0, "size": logits.nbytes}}
        tensor = {{"shape": [1, 3], "strides": [3, 1], "dataType": "Float32", "storage": storage}}
        result |= {{"outputs": {{"logits": tensor}}, "duration": 1_000_000}}
        message["resource"] = "out.bin"
    elif request["method"] != "MLModelService.Unload":
        message = {{"id": name, "error": {{"code": -1, "message": "this phone has no " + request["method"]}}}}
    (reply / "message.json").write_text(json.dumps(message))


if words[:2] == ["list", "devices"]:
    answer(json.loads((here / "answer.json").read_text()))
elif words[:3] == ["device", "install", "app"]:
    identifier = (Path(words[-3]) / "identifier").read_text()
    answer({{"result": {{"installedApplications": [{{"bundleID": identifier, "databaseUUID": "0"}}]}}}})
elif words[:3] == ["device", "process", "launch"]:
    time.sleep(600)
elif words[:3] == ["device", "copy", "to"]:
    source, target = Path(value("--source")), phone / value("--destination")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    if target.name == "message.json":
        respond(target)
    answer({{"result": {{"source": str(source), "destination": str(target)}}}})
elif words[:3] == ["device", "copy", "from"]:
    source = phone / value("--source")
    if not source.exists():
        sys.exit("ERROR: there is no such file")
    shutil.copy(source, value("--destination"))
    answer({{"result": {{"source": str(source), "destination": value("--destination")}}}})
elif words[:3] == ["device", "uninstall", "app"]:
    shutil.rmtree(phone)
else:
    sys.exit("ERROR: unknown command")
"""

XCRUN = """#!/bin/sh
if [ "$1" = --find ]; then echo "$(dirname "$0")/../developer/$2"; exit; fi
tool=$1; shift
exec "$(dirname "$0")/../developer/$tool" "$@"
"""

XCODEBUILD = """#!{python}
import json, sys
from pathlib import Path

settings = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
here = Path(__file__).parent.parent
with (here / "built").open("a") as log:
    log.write(json.dumps(settings) + "\\n")
if settings.get("DEVELOPMENT_TEAM") == "NOTATEAM00":
    sys.exit(65)
app = Path(settings["SYMROOT"]) / "modelrunner.app"
app.mkdir(parents=True)
(app / "identifier").write_text(settings["PRODUCT_BUNDLE_IDENTIFIER"])
"""


def install(folder: Path, answer: dict[str, Any] = ANSWER) -> Path:
    """Put the programs into an empty folder; returns the one for PATH. As on a Mac, `devicectl` is not in it."""
    programs = {"bin/xcrun": XCRUN, "bin/xcodebuild": XCODEBUILD, "developer/devicectl": DEVICECTL}
    for name, text in programs.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text if name == "bin/xcrun" else text.format(python=sys.executable))
        place.chmod(0o755)
    (folder / "answer.json").write_text(json.dumps(answer))
    (folder / "phone").mkdir()
    return folder / "bin"


def asked(folder: Path) -> list[list[str]]:
    """What `devicectl` was asked, call by call."""
    return [json.loads(line) for line in (folder / "asked").read_text().splitlines()]


def built(folder: Path) -> list[dict[str, str]]:
    """The settings that `xcodebuild` was given, call by call."""
    return [json.loads(line) for line in (folder / "built").read_text().splitlines()]
