"""Which pages the book has, in which order, and what it adds to them while they are read."""

import hashlib
import pathlib
import re

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
DRAWINGS = HERE / "drawings"  # Mermaid's pictures, drawn once; see draw.py
RECORDINGS = ROOT / "tests" / "live" / "recordings"
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!\!)\[([^\]]+)\]\(([^)\s]+)\)")
SCENES = {1: "turns", 2: "turns_epoll", 3: "slow_client", 4: "back_pressure", 5: "one_dies"}  # at the head of a part


def parts():
    """Return the parts' directories, by number."""
    return {int(path.name[4]): path for path in sorted(ROOT.glob("part[0-9]_*")) if (path / "README.md").exists()}


def name_of(path):
    """Return a page's name in the book: its path without the ending."""
    return str(path.relative_to(ROOT).with_suffix(""))


def number_in(path):
    """Return the number that a file's name begins with."""
    return int(path.name.partition("_")[0])


def step_pages(part):
    """Return the pages of a part's steps, in order."""
    found = [path for path in (parts()[part] / "steps").glob("*_*.md") if path.name[0].isdigit()]
    return sorted(found, key=number_in)


def card_pages(part):
    """Return the cards of a part's exercises."""
    return sorted((ROOT / "tests" / "exercises").glob(f"part{part}_*/card.md"))


def pages_of(part):
    """Return the pages that belong to a part, in the order of the book."""
    found = []
    map_page = parts()[part] / "steps" / "README.md"
    if map_page.exists():
        found.append(map_page)
    notebook = ROOT / "notebooks" / f"part{part}.ipynb"
    if notebook.exists():
        found.append(notebook)
    return found + card_pages(part)


def more_pages():
    """Return what comes after the parts, by heading."""
    exercises = ROOT / "tests" / "exercises"
    return {
        "Exercises": [exercises / "README.md", exercises / "museum" / "README.md"],
        "Write your own": [ROOT / "tests" / "README.md", ROOT / "tests" / "live" / "README.md"],
        "Measured": [ROOT / "notebooks" / "headline.ipynb", *sorted((ROOT / "tests" / "benchmarks").glob("**/*.md"))],
        "Teaching": sorted(
            (exercises / "teacher").glob("*.md"), key=lambda path: (path.name != "README.md", path.name)
        ),
        "Reference": [HERE / "glossary.md", ROOT / "CONTRIBUTING.md"],
    }


def sources():
    """Return all pages, as Sphinx takes them."""
    found = [HERE / "index.md", ROOT / "README.md"]
    for part, directory in parts().items():
        found += [directory / "README.md", *pages_of(part), *step_pages(part)]
    for paths in more_pages().values():
        found += paths
    return [str(path.relative_to(ROOT)) for path in found if path.exists()]


def toctree(paths, options=()):
    """Return a table of contents of these pages, as MyST writes it."""
    lines = [":maxdepth: 3", ":titlesonly:", *options]
    return "\n".join(["```{toctree}", *lines, "", *(f"/{name_of(path)}" for path in paths), "```", ""])


def index():
    """Return the tables of contents of the first page."""
    trees = {"The course": [ROOT / "README.md"], "Parts": [path / "README.md" for path in parts().values()]}
    trees |= more_pages()
    trees = [toctree([path for path in paths if path.exists()], [f":caption: {head}"]) for head, paths in trees.items()]
    return "\n".join(trees)


def prepared(name, text):
    """Return the text of a page as the book has it."""
    path = ROOT / f"{name}.md"
    if name == "book/index":
        return text + "\n" + index()
    if not path.exists():  # a notebook
        return text
    text = MERMAID.sub(lambda match: drawing(match[1], path), text)
    text = LINK.sub(lambda match: link(match, path), text)
    for part, directory in parts().items():
        if path == directory / "README.md":
            text = with_scene(text, part) + "\n" + toctree(pages_of(part), [":hidden:"])
        elif path == directory / "steps" / "README.md":
            text += "\n" + toctree(step_pages(part), [":hidden:"])
    return text


def drawing(code, path):
    """Return the picture of some Mermaid code."""
    file = DRAWINGS / f"{digest(code)}.svg"
    up = "../" * (len(path.relative_to(ROOT).parts) - 1)
    words = re.sub(r"\s+", " ", " ".join(re.findall(r"[\w'][\w' ,.()-]+", code))).strip()[:300]
    return f"![{alternative(code, words)}]({up}book/drawings/{file.name})"


def alternative(code, words):
    """Return what a drawing shows, in words: the messages of a sequence, or the names in it."""
    steps = re.findall(r"^\s*(\w+)\s*-[->x)]+\s*(\w+)\s*:\s*(.+)$", code, re.MULTILINE)
    told = ". ".join(f"{one} to {other}: {what.strip()}" for one, other, what in steps) or words
    return told.replace("[", "(").replace("]", ")")


def digest(code):
    """Return the name of a drawing."""
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def link(match, path):
    """Return a link as it is, or, where it leads to a directory, to that directory's README."""
    text, target = match[1], match[2]
    place, mark, anchor = target.partition("#")
    if ":" in place or not place:
        return match[0]
    there = (path.parent / place).resolve()
    if there.is_dir():
        if (there / "README.md").exists():
            return f"[{text}]({place.rstrip('/')}/README.md{mark}{anchor})"
        return text
    return match[0]


def with_scene(text, part):
    """Return a part's page with a recorded scene after its first picture."""
    scene = SCENES.get(part)
    if scene is None or not (RECORDINGS / f"{scene}.html").exists():
        return text
    title = f"A recorded scene of part {part}"
    frame = f'<iframe src="../_static/{scene}.html" title="{title}" loading="lazy"></iframe>'
    summary = "<summary>Guess first, then look: a recorded scene, which plays here</summary>"
    frame = f'```{{raw}} html\n<details class="scene">{summary}\n{frame}\n</details>\n```\n\n'
    head, mark, rest = text.partition("\n## ")
    return head + "\n\n" + frame + mark + rest if mark else text
