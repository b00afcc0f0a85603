"""Which definitions a part has its own version of; all others are the same as in the part before, word for word.

versions.txt lists them, each with a digest of the text in the part before. So two things are noticed: a
definition that differs and is not listed, and a change in the part before that never reached the part after it.
"""

import ast
import hashlib

from support.parts import PARTS, ROOT

LIST = ROOT / "tests" / "support" / "versions.txt"
HEAD = """\
# The definitions that a part changes, or leaves out: its file, the name, and a digest of the part before's version.
# "*" is a whole file that is left out. Written by `python tests/carry.py`; CONTRIBUTING.md says when.
"""
PAIRS = [(PARTS[part - 1], PARTS[part]) for part in list(PARTS)[1:]]
WHOLE_FILE = "*"


def files(directory):
    """Return the names of the files of a part that are carried from part to part; each README is on its own."""
    return sorted(path.name for path in (ROOT / directory).iterdir() if path.suffix in (".py", ".lua"))


def pieces(text: str, file: str) -> dict[str, str]:
    """Cut a file's text into its definitions, each with the comments above it: {"Class.method": text}, in their order.

    What is outside of functions is a piece as well: "docstring", "module", and for a class the class's own name.
    """
    if not file.endswith(".py"):
        return {"text": text}
    lines = text.splitlines(keepends=True)
    found, taken = {}, 0

    def take(piece, node):
        nonlocal taken
        found[piece] = (found.get(piece, "") + "".join(lines[taken : node.end_lineno])).strip("\n")
        taken = node.end_lineno

    def cut(body, owner):
        for node in body:
            if isinstance(node, ast.ClassDef):
                cut(node.body, f"{owner}{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                take(owner + node.name, node)
            else:
                take(owner[:-1] or ("module" if taken else "docstring"), node)

    cut(ast.parse(text, file).body, "")
    return found


def digest(text: str) -> str:
    """Return a short fingerprint of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def differences(before: str, after: str, name: str) -> dict[str, str]:
    """Return the pieces of one part's file that the next part has not, or not like this: {piece: its digest}."""
    earlier, later = ROOT / before / name, ROOT / after / name
    if not later.exists():
        return {WHOLE_FILE: digest(earlier.read_text())}
    theirs = pieces(later.read_text(), f"{after}/{name}")
    ours = pieces(earlier.read_text(), f"{before}/{name}")
    return {piece: digest(text) for piece, text in ours.items() if theirs.get(piece) != text}


def all_differences() -> dict[str, dict[str, str]]:
    """Return the differences of all files of all parts: {"part3_lua/rsp.py": {piece: digest}}."""
    found = {f"{after}/{name}": differences(before, after, name) for before, after in PAIRS for name in files(before)}
    return {file: differing for file, differing in found.items() if differing}


def read_list() -> dict[str, dict[str, str]]:
    """Return what versions.txt says."""
    listed = {}
    for line in LIST.read_text().splitlines():
        if not line.startswith("#"):
            file, piece, fingerprint = line.split()
            listed.setdefault(file, {})[piece] = fingerprint
    return listed


def write_list(listed: dict[str, dict[str, str]]):
    """Replace versions.txt."""
    lines = [f"{file} {piece} {listed[file][piece]}\n" for file in sorted(listed) for piece in sorted(listed[file])]
    LIST.write_text(HEAD + "".join(lines))


def complaints() -> list[str]:
    """Return a line for each difference between the parts that is not listed, and for each that is no more."""
    real, listed = all_differences(), read_list()
    before = {after: before for before, after in PAIRS}
    lines = []
    for file in sorted(real.keys() | listed.keys()):
        earlier = f"{before.get(file.split('/')[0])}/{file.split('/')[1]}"
        there, here = real.get(file, {}), listed.get(file, {})
        for piece in sorted(there.keys() | here.keys()):
            what = "the file" if piece == WHOLE_FILE else piece
            if piece not in here:
                lines.append(f"{file}: {what} differs from {earlier}, and isn't listed as a part's own.")
            elif piece not in there:
                lines.append(f"{file}: {what} is listed as different from {earlier}, and is not.")
            elif here[piece] != there[piece]:
                lines.append(f"{file}: {what} has changed in {earlier}, and this part may have been left behind.")
    return lines
