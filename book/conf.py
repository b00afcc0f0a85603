"""How `make book` makes a site from what is there already: READMEs, steps, notebooks, cards. See Sphinx's conf.py.

The sources stay where they are, and as GitHub shows them. What the book adds is put in while a page is read: the pages
that belong to a part, the scene that plays at its head, the drawings in place of Mermaid's code.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import pages  # noqa: E402  (beside this file)

project = "rsp in Python"
author = "the authors of rsp in Python"
html_title = "rsp in Python"
copyright = "MIT licence"
language = "en"

extensions = ["myst_nb", "sphinx_copybutton"]
root_doc = "book/index"
include_patterns = pages.sources()
exclude_patterns = ["book/_build"]
html_theme = "furo"
html_static_path = ["_static", "../tests/live/recordings"]  # the recorded scenes play in the parts' pages
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_extra_path = ["_extra"]  # the first page, which leads to the book
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}

myst_enable_extensions = ["attrs_inline", "attrs_block"]
myst_heading_anchors = 4
nb_execution_mode = "off"
nb_merge_streams = True
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
suppress_warnings = ["myst.header", "misc.highlighting_failure", "mystnb.unknown_mime_type"]


def setup(app):
    """Have each page prepared as it is read."""
    app.connect("source-read", lambda _, name, content: content.__setitem__(0, pages.prepared(name, content[0])))
