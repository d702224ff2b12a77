"""Draws `docs/images`: the first screen of an export's report, on a desk and on a phone.

`python docs/pictures.py EXPORT_FOLDER`; needs the extra `dev` and Debian's chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path
from shutil import which

from playwright.sync_api import sync_playwright

IMAGES = Path(__file__).parent / "images"
SHOTS = {
    "report.png": {"viewport": {"width": 1100, "height": 640}, "color_scheme": "light"},
    "report-phone.png": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "device_scale_factor": 2},
}


def main() -> None:
    """The first screen of the report, in each way."""
    (folder,) = sys.argv[1:]
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=which("chromium"), args=["--no-sandbox"])
        for name, shape in SHOTS.items():
            page = browser.new_page(**shape)  # type: ignore[arg-type]
            page.goto((Path(folder) / "report.html").resolve().as_uri())
            page.screenshot(path=IMAGES / name)
            page.close()


if __name__ == "__main__":
    main()
