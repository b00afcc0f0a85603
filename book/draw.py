"""Draws the Mermaid pictures of the pages, once, so that the book needs neither Node nor a browser to be built.

    python book/draw.py

It needs Chromium, chromedriver and npm. A picture's name is the digest of its code: one whose code has changed is drawn
again, and one that no page has any more goes.
"""

import pathlib
import subprocess
import sys
import tempfile

import pages

PAGE = """<!DOCTYPE html><meta charset="utf-8"><body><script src="{script}"></script></body>"""
CONFIG = "mermaid.initialize({startOnLoad: false, theme: 'neutral', htmlLabels: false, flowchart: {htmlLabels: false}})"
DRAW = """
const [code, done] = [arguments[0], arguments[1]];
mermaid.render('drawing', code).then((result) => done(result.svg), (error) => done('error: ' + error));
"""


def codes():
    """Return the Mermaid code of all pages: a dict by the picture's name."""
    texts = [(pages.ROOT / name).read_text() for name in pages.sources() if name.endswith(".md")]
    found = [code for text in texts for code in pages.MERMAID.findall(text)]
    return {pages.digest(code): code for code in found}


def mermaid(directory):
    """Fetch Mermaid into a directory; return the path of its one file."""
    subprocess.run(["npm", "pack", "--silent", "mermaid@11"], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    (archive,) = pathlib.Path(directory).glob("mermaid-*.tgz")
    subprocess.run(["tar", "xf", archive, "package/dist/mermaid.min.js"], cwd=directory, check=True)
    return pathlib.Path(directory, "package", "dist", "mermaid.min.js")


def main():
    """Draw what is missing, and take away what is left over."""
    sys.path.append(str(pages.ROOT / "tests"))
    from support.browser import Browser

    wanted = codes()
    pages.DRAWINGS.mkdir(exist_ok=True)
    for path in pages.DRAWINGS.glob("*.svg"):
        if path.stem not in wanted:
            path.unlink()
    missing = {name: code for name, code in wanted.items() if not (pages.DRAWINGS / f"{name}.svg").exists()}
    if not missing:
        return
    with (
        tempfile.TemporaryDirectory() as directory,
        tempfile.TemporaryDirectory() as home,
        Browser(pathlib.Path(home)) as driver,
    ):
        page = pathlib.Path(directory, "page.html")
        page.write_text(PAGE.format(script=mermaid(directory).as_uri()))
        driver.get(page.as_uri())
        driver.execute_script(CONFIG)
        for name, code in missing.items():
            svg = driver.execute_async_script(DRAW, code)
            if svg.startswith("error"):
                sys.exit(f"{name}: {svg}")
            (pages.DRAWINGS / f"{name}.svg").write_text(svg + "\n")
            print(name)


if __name__ == "__main__":
    main()
