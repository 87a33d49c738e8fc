"""Sphinx's settings; `docs/build.py` writes the pages that it reads."""

import re
import sys
from configparser import ConfigParser
from pathlib import Path

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.addnodes import pending_xref
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent))
from api import Module, modules, unique_names

logger = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[1]
settings = ConfigParser(delimiters=["="])
settings.read(PROJECT / "settings.ini", encoding="utf-8")

project = "aggan"
release = settings["DEFAULT"]["version"]
html_title = f"aggan {release}"
copyright = "2026 onwards, the aggan authors"
extensions = ["myst_nb"]
source_suffix = {".ipynb": "myst-nb", ".md": "myst-nb"}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
# "ref.python": a type whose name several classes have is not linked
suppress_warnings = ["config.cache", "ref.python"]

nb_execution_mode = "off"  # outputs are shown as they are committed
nb_render_markdown_format = "myst"  # outputs that are Markdown may be tables
nb_ipywidgets_js = {}  # would be loaded from another server
nb_code_prompt_show = "Show imports and tests"
nb_code_prompt_hide = "Hide imports and tests"

html_theme = "furo"
REPOSITORY = settings["DEFAULT"]["git_url"]
html_theme_options = {"footer_icons": [{"name": "GitHub", "url": REPOSITORY, "html": "source"}]}
html_static_path = ["style.css"]
html_css_files = ["style.css"]
html_copy_source = False
html_math_renderer = "mathml"
python_maximum_signature_line_length = 100


def mathml(self, node):
    """Write a formula as MathML, which browsers render without a script."""
    # docutils knows \bigl and \bigr, not \big, and no \tag
    closing = re.sub(r"\\([bB]ig)(?=\\?[])}])", r"\\\1r", node.astext())
    opening = re.sub(r"\\([bB]ig)(?![a-zA-Z])", r"\\\1l", closing)
    numbered = re.sub(r"\\tag\{(\d+)\}", r"\\qquad(\1)", opening)
    source = numbered.replace(r"\dots", r"\ldots")
    try:
        drawn = latex2mathml.tex2mathml(source, as_block=isinstance(node, nodes.math_block))
    except Exception as error:  # of several types, by what it could not read
        logger.warning("%s cannot be drawn: %r", source, error, location=node)
        raise nodes.SkipNode from None
    # an index of an accented letter belongs beside it, not below
    accented = (
        r"<munderover>\s*(<mi[^>]*>[^<]*</mi>)\s*(.+?)\s*(<mo [^>]*>[~¯]</mo>)\s*</munderover>"
    )
    self.body.append(
        re.sub(accented, r"<msub><mover accent='true'>\1\3</mover>\2</msub>", drawn, flags=re.S)
    )
    raise nodes.SkipNode


def link_names(app, doctree):
    """Turn public names of the package in backticks into links to their API pages."""
    for literal in list(doctree.findall(nodes.literal)):
        full = app.public_names.get(literal.astext().removesuffix("()"))
        if (
            full
            and isinstance(literal.parent, (nodes.paragraph, nodes.entry))
            and not literal.get("classes")
        ):
            link = pending_xref(
                "",
                literal.deepcopy(),
                refdomain="py",
                reftype="obj",
                reftarget=full,
                refexplicit=True,
            )
            literal.replace_self(link)


def link_source(app, page, template, context, doctree):
    """Link a page to the file that it is made from; a page without such a file has no links."""
    module = modules().get(page.removeprefix("api/"))
    suffixed = [f"{page}{suffix}" for suffix in (".ipynb", ".md")]
    places = [f"{folder}{place}" for folder in ("nbs/", "docs/", "") for place in suffixed]
    places += [f"nbs/{Module(module).notebook}"] if module else []
    found = [place for place in places if (PROJECT / place).is_file()]
    if found:
        context["theme_source_view_link"] = f"{REPOSITORY}/blob/main/{found[0]}"
        context["theme_source_edit_link"] = f"{REPOSITORY}/edit/main/{found[0]}"


def setup(app):
    app.public_names = unique_names()
    app.connect("doctree-read", link_names)
    app.connect("html-page-context", link_source)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
