"""Pages from Jinja2 templates, in which everything is escaped: one self-contained document, readable on a phone, light
and dark, no network."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rexnet_export.pipeline.core.text import harmless


def render(package: str, template: str, **values: object) -> Markup:
    """A template of `package` (its folder `templates`), which may use those that all pages share."""
    return Markup(harmless(_templates(package).get_template(template).render(values)))  # noqa: S704 - it was escaped


@cache
def _templates(package: str) -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__package__)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
