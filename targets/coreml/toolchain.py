"""coremltools without the frameworks it converts from: a third of the time that importing it takes."""

from __future__ import annotations

import sys

from rexnet_export.targets.coreml.package import quiet

FRONT_ENDS = (
    "torch",
    "torchvision",
    "torchaudio",
    "torchao",
    "executorch",
    "sklearn",
    "libsvm",
    "xgboost",
    "tensorflow",
    "transformers",
)


def import_alone() -> None:
    """Import what reads and runs packages; coremltools finds no framework, and can convert from none ever after.

    For processes of our own, such as our commands': no thread may import anything meanwhile.
    """
    before = {name: sys.modules[name] for name in FRONT_ENDS if name in sys.modules}
    # None is how an import is refused.
    sys.modules.update(dict.fromkeys(FRONT_ENDS))  # type: ignore[arg-type]
    try:
        with quiet():
            from coremltools.converters.mil.frontend import milproto  # noqa: F401, PLC0415
    finally:
        for name in FRONT_ENDS:
            del sys.modules[name]
        sys.modules.update(before)
