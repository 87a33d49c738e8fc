"""The documentation: a page for every notebook and module, every kept figure, no dead link."""

import importlib
import re
from functools import cache
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from conftest import PROJECT

import aggan

NOTEBOOKS = [
    path.relative_to(PROJECT / "nbs")
    for path in (PROJECT / "nbs").rglob("*.ipynb")
    if ".ipynb_checkpoints" not in path.parts
]
MODULES = [
    path
    for path in (PROJECT / "aggan").rglob("*.py")
    if "__all__" in path.read_text() and path.name != "_modidx.py"
]


class Loaded(HTMLParser):
    """The addresses that a browser loads with a page, and those of its links."""

    def __init__(self, page):
        super().__init__()
        self.loads, self.links = [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag in ("script", "img", "iframe", "source"):
            self.loads.append(given.get("src", ""))
        if tag == "link" and "stylesheet" in given.get("rel", ""):
            self.loads.append(given["href"])
        if tag == "a":
            self.links.append(given.get("href", ""))


@cache
def loaded(page):
    """A page of the documentation, parsed once."""
    return Loaded(page)


def test_every_notebook_and_module_has_its_page(site):
    for path in NOTEBOOKS:
        assert (site / path.with_suffix(".html")).stat().st_size > 5000, path
    for path in MODULES:
        name = ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        page = (site / "api" / f"{name}.html").read_text(encoding="utf-8")
        for public in importlib.import_module(name).__all__:
            described = f'id="{name}.{public}"' in page
            linked = re.search(rf'href="[^"]*#aggan[\w.]*\.{public}"', page)
            assert described or linked, f"{name}.{public}"
    page = (site / "api" / "aggan.losses.html").read_text(encoding="utf-8")
    described = r"<strong>outputs</strong>.*?Iterable.*?patch outputs or logits of the scales"
    assert re.search(described, page, re.S)


def test_pages_for_users_name_version_source_and_every_option(site):
    for name in ("install", "tutorials/use-a-model", "judge", "options", "glossary"):
        page = (site / f"{name}.html").read_text(encoding="utf-8")
        assert f"aggan {aggan.__version__}" in page
        assert re.search(r'href="https://github.com/[^"]*/edit/main/', page) or name == "options"
    options = (site / "options.html").read_text(encoding="utf-8")
    for flag in ("batch-size", "learning-rate", "lambda-l1", "detect", "gallery", "sample-every"):
        assert f"--{flag}</span>" in options, flag
    page = (site / "api" / "aggan.experiments.profiles.html").read_text(encoding="utf-8")
    assert page.index("profiles.resolve_profile") < page.index(
        'id="aggan.experiments.profiles.SMOKE'
    )
    assert "/edit/main/nbs/experiments/profiles.ipynb" in page


def test_every_kept_figure_and_table_is_shown(site):
    gallery, tables = (
        (site / name).read_text(encoding="utf-8") for name in ("gallery.html", "tables.html")
    )
    figures = [
        path for folder in (PROJECT / "figures").glob("figure*") for path in folder.glob("*.png")
    ]
    assert gallery.count('src="_images/') == len(figures) > 7
    assert "Everything here comes from <strong>synthetic</strong>" in gallery
    for path in figures:
        assert f'href="paper/{path.parent.name}.html"' in gallery
    for number in range(1, 5):
        assert f'href="paper/table{number}.html"' in tables


@pytest.mark.parametrize("part", ["loads", "links"])
def test_pages_link_to_existing_files(site, part):
    external = r"https?:|#" if part == "links" else "data:"
    for page in site.rglob("*.html"):
        for target in getattr(loaded(page), part):
            if re.match(external, target):
                continue
            assert not re.match(r"\w+:|//", target), f"{page} needs {target}"
            file = page.parent / unquote(re.sub(r"[?#].*", "", target))
            assert file.exists(), f"{page.relative_to(site)}: {target}"
