"""The architecture page is what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_picture_of_the_rooms_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "rooms.py", "--check"], check=False)
    assert done.returncode == 0, "run: python docs/rooms.py"


def test_every_path_in_the_page_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    guide = text[text.index("## Where do I change what?") :]
    named = {word.strip("`,;()") for word in guide.split() if word.startswith("`")}
    paths = {word for word in named if "/" in word and "NAME" not in word}
    assert len(paths) > 15
    assert not {path for path in paths if not (ROOT / path).exists()}
