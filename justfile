# What one does here. `just` lists them.

run := "uv run --locked --extra dev"

[private]
default:
    @just --list

# while you work: the quick tests
quick *args:
    {{run}} python -P -m pytest -m "not slow" {{args}}

# all tests
test *args:
    {{run}} python -P -m pytest {{args}}

# lint, format and types
check:
    {{run}} ruff check .
    {{run}} ruff format --check .
    .ci/types

# make what is generated again: JSON Schemas, the picture of the rooms, licences
generate:
    {{run}} python docs/rooms.py
    {{run}} python docs/licences.py
    {{run}} python tests/support/write_schemas.py

# the docs site, into build/site; a broken link is an error
site:
    .ci/types >/dev/null
    uv run --locked --extra docs mkdocs build --strict

# everything a change must pass
ci:
    .ci/run
