"""Render: a page of HTML. Every name in it came from elsewhere, so all text is escaped, and no script but ours runs."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Iterable
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edgekit.counted import counted
from edgekit.errors import ExtraNotInstalled
from edgekit.page import sparkline, words
from edgekit.page.gather import Found
from edgekit.page.plot import Plot
from edgekit.page.views import View, views

if TYPE_CHECKING:
    from jinja2 import Environment

STYLES = ("vendor/uPlot.min.css", "assets/page.css")
SCRIPTS = ("vendor/uPlot.iife.min.js", "assets/plots.js")


def report(found: Found, title: str, now_s: float) -> str:
    """A page that asks for nothing, whoever opens it. Raises: ExtraNotInstalled without jinja2."""
    style, script = (tuple(map(asset, names)) for names in (STYLES, SCRIPTS))
    shown = shown_of(found)
    facts = {"title": title, "found": found, "now_s": now_s, "style": style, "script": script}
    return environment().get_template("report.html").render(facts, **shown, policy=policy(style, script))


def shown_of(found: Found, wanted: Collection[str] = ()) -> dict[str, Any]:
    """The views of what was found, and the data of their plots; of the ``wanted`` ones where any are named."""
    each = [view.only(wanted) if wanted else view for view in views(found)]
    return {"views": each, "data": data(each, found)}


def data(each: Iterable[View], found: Found) -> dict[str, Any]:
    """What plots.js draws: all plots of a page have the same time axis."""
    plots: list[Plot] = [plot for view in each for plot in view.plots]
    starts = [plot.times[0] for plot in plots]
    return {
        "from": min(starts, default=int(found.start_s)),
        "to": int(found.end_s),
        "plots": {plot.key: plot.document() for plot in plots},
    }


def policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    """A Content Security Policy that lets these texts in and nothing else, from nowhere."""
    style, script = (" ".join(map(_hashed, texts)) for texts in (styles, scripts))
    ours = f"default-src 'none'; style-src {style}; script-src {script}; img-src data:"
    return f"{ours}; base-uri 'none'; form-action 'none'"


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def asset(name: str) -> str:
    """A text file of this package."""
    return files("edgekit.page").joinpath(name).read_text("utf-8")


@cache
def environment(package: str = "edgekit.page") -> Environment:
    """The templates of this package, and those of another one that builds on them. Raises: ExtraNotInstalled."""
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise ExtraNotInstalled("a page needs Jinja", "pip install 'edgekit-sdk[web]'") from error
    loader = ChoiceLoader([PackageLoader(name) for name in sorted({"edgekit.page", package})])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    made.globals.update(words=words, counted=counted, trend=lambda values: Markup(sparkline.points(values)))
    made.filters["whole"] = lambda text: Markup(_unclosed(text))
    return made


def _unclosed(text: str) -> str:
    """Our own script or style as it is: it must not end its element."""
    assert not re.search("</(script|style)", text, re.IGNORECASE)
    return text
