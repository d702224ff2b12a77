"""The published JSON Schemas are those of the records, and no schema is written by hand."""

import json
import subprocess
import sys

import jsonschema
import pytest
from write_schemas import ROOT, SCHEMAS, schema_text


@pytest.mark.parametrize("path", SCHEMAS)
def test_a_published_schema_is_that_of_its_record(path: str) -> None:
    published = (ROOT / path).read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(published))
    assert published == schema_text(*SCHEMAS[path]), "write it again: python tests/support/write_schemas.py"


def test_no_schema_is_written_by_hand() -> None:
    folders = ("pipeline", "quantization", "targets", "apps")
    found = {path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.schema.json")}
    assert found == set(SCHEMAS)


@pytest.mark.parametrize("command", ["export", "gate", "bench", "train", "study"])
def test_help_does_not_wait_for_the_library_that_reads_records(command: str) -> None:
    code = (
        f"import sys; from rexnet_export.apps.{command}.command import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
