"""The notebooks run, and read well without being run.

Each is executed from top to bottom in a fresh kernel, as Jupyter's "Restart and Run All" does it; its asserts check
what its prose says. What was shipped is looked at too: its output, its plots, its shape.
"""

import ast
import os
import re
import signal
import subprocess
import sys

import pytest

from support.harness import is_listening
from support.parts import PARTS, ROOT
from support.peers import free_port, wait_until

NOTEBOOKS = ROOT / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
EXPECTED = {f"part{part}.ipynb" for part in PARTS} | {"headline.ipynb"}
TIMEOUT = 120  # seconds for one cell
MAX_CODE_LINES = 25
PROSE_PER_CODE = (0.7, 2.0)  # the fewest and the most cells of prose for one of code
QUESTIONS = (6, 10)
# How machines' own directories begin. /proc and /dev are the same everywhere.
MACHINE_PATH = re.compile(r"(?<![\w./])/(?:home|root|tmp|var|work|Users|private|mnt|opt)/[\w.]|\.venv|site-packages")
AGAIN = "Hint: run all of it from a fresh kernel, and save it with its output"
SHOW = "Hint: plots.show(axes, alt), with a sentence or two on what is in the picture"

NEEDS = {
    "headline.ipynb": ["ab"],
    "part4.ipynb": ["curl", "git"],
    "part5.ipynb": ["ab"],
    "part7.ipynb": ["redis-server"],
}  # programs; without nginx, headline.ipynb serves itself

every_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)


def read(path):
    """Return a notebook as it was shipped."""
    import nbformat  # takes seconds; at the top of the file, every worker would spend them, and every run of any test

    return nbformat.read(path, as_version=4)


def place(path, number):
    """Return words that name a cell, counted from 1 over all cells, prose included."""
    return f"notebooks/{path.name}, cell {number}"


def numbered(notebook, kind):
    """Return pairs of number, counted over all cells from 1, and cell, for the cells of a kind."""
    return [(number, cell) for number, cell in enumerate(notebook.cells, 1) if cell.cell_type == kind]


def is_plot(cell):
    """Tell whether a cell has an image among its outputs."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def text_of(output):
    """Return what a reader sees of an output, as text."""
    traceback = "\n".join(output.get("traceback", []))
    return output.get("text", "") + str(output.get("data", {}).get("text/plain", "")) + traceback


def kinds_of_output(cell):
    """Return which sorts of output a cell has: text, image."""
    kinds = {"image" if "image/png" in output.get("data", {}) else "text" for output in cell.outputs}
    return sorted(kinds)


def sections(notebook):
    """Return the second-level heads, each with the source of the code below it."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found += [[head, ""] for head in re.findall(r"^## (.+)$", cell.source, re.MULTILINE)]
        elif found:
            found[-1][1] += cell.source + "\n"
    return found


def only_sets_numbers(code):
    """Tell whether code does nothing but give names to constants: there is nothing in it to be checked."""
    return all(isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant) for line in ast.parse(code).body)


def execute(path):
    """Execute a notebook in a fresh kernel, and return it; a failing cell fails the test."""
    from nbclient import NotebookClient

    notebook = read(path)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    if wrong := complaint(path, notebook, client):
        raise AssertionError(wrong)
    return notebook


def complaint(path, notebook, client):
    """Execute a notebook; return None, or what went wrong, and where."""
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    try:
        client.execute()
    except CellTimeoutError:
        return f"{place(path, 1 + unfinished(notebook))} ran for more than {TIMEOUT} s. Hint: who waits for whom?"
    except (CellExecutionError, DeadKernelError) as error:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
        return f"{place(path, 1 + unfinished(notebook))} failed. Hint: run it in Jupyter up to there.\n{message}"
    return None


def unfinished(notebook):
    """Return the index of the cell in which an execution stopped: the last one that had begun."""
    for index in range(len(notebook.cells) - 1, -1, -1):
        cell = notebook.cells[index]
        if any(output.output_type == "error" for output in cell.get("outputs", [])):
            return index
    begun = [index for index, cell in enumerate(notebook.cells) if cell.get("execution_count")]
    code = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    return next((index for index in code if index not in begun), code[-1])


# Execution


def test_every_part_has_its_notebook():
    """One for each part, and one for the headline."""
    missing = sorted(EXPECTED - {path.name for path in PATHS})
    assert not missing, f"notebooks/ lacks {', '.join(missing)}. Hint: every part of the course has a notebook."


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.needs(*NEEDS.get(path.name, [])), id=path.name) for path in PATHS]
)
def test_a_notebook_runs_and_gives_the_output_that_it_was_shipped_with(path, monkeypatch, tmp_path):
    """Every cell works in a fresh kernel, and every assert holds: what the prose says is so on this machine too.

    What prints or draws then has printed or drawn in the file as well, so that it reads well unexecuted.
    """
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # nobody's own settings
    shipped_cells, fresh_cells = numbered(read(path), "code"), numbered(execute(path), "code")
    for (number, shipped_cell), (_, fresh_cell) in zip(shipped_cells, fresh_cells, strict=True):
        shipped, expected = kinds_of_output(shipped_cell), kinds_of_output(fresh_cell)
        assert shipped == expected, (
            f"{place(path, number)} was shipped with {shipped or 'no output'}, and gives {expected or 'none'}. {AGAIN}."
        )


# What was shipped


@every_notebook
def test_a_notebook_was_run_in_order(path):
    """The cells' numbers are 1, 2, 3 and so on: it was run from top to bottom, with nothing left out."""
    counts = [cell.execution_count for _, cell in numbered(read(path), "code")]
    assert counts == list(range(1, len(counts) + 1)), f"notebooks/{path.name} was run in the order {counts}. {AGAIN}."


@every_notebook
def test_no_output_shows_an_error_or_a_warning(path):
    """No traceback, and nothing on stderr."""
    for number, cell in numbered(read(path), "code"):
        for output in cell.outputs:
            bad = output.output_type == "error" or output.get("name") == "stderr"
            assert not bad, f"{place(path, number)} was shipped with this: {text_of(output)[:300]!r}. {AGAIN}."


@every_notebook
def test_no_output_tells_where_it_was_run(path):
    """No directory of the machine that made the output: it would be different on the reader's."""
    for number, cell in numbered(read(path), "code"):
        for output in cell.outputs:
            found = MACHINE_PATH.search(text_of(output))
            assert not found, (
                f"{place(path, number)} shows a path: {text_of(output)[found.start() :][:80]!r}. "
                "Hint: print a name relative to the repository, or none."
            )


@every_notebook
def test_a_notebook_asks_for_no_special_kernel(path):
    """The kernel is python3, the one that comes with Jupyter."""
    name = read(path).metadata.get("kernelspec", {}).get("name")
    assert name == "python3", f"notebooks/{path.name} wants the kernel {name!r}. Hint: choose Python 3 in Jupyter."


# Shape


@every_notebook
def test_a_notebook_begins_with_a_title_and_its_words(path):
    """First one title, then the vocabulary, before any code."""
    notebook = read(path)
    prose = "\n".join(cell.source for _, cell in numbered(notebook, "markdown"))
    titles = re.findall(r"^# .+$", prose, re.MULTILINE)
    first = notebook.cells[0].source
    assert len(titles) == 1 and first.startswith("# "), (
        f"notebooks/{path.name} has the titles {titles}. Hint: begin with one line '# ...', and use '## ' below it."
    )
    before_code = [cell.source for cell in notebook.cells[: numbered(notebook, "code")[0][0] - 1]]
    words = [source for source in before_code if source.startswith("## Vocabulary\n")]
    assert words and words[0].count("\n- **") >= 3, (
        f"notebooks/{path.name} does not explain its words first. Hint: a section '## Vocabulary' before the first "
        "code cell, with a line '- **Word**: what it means' for each."
    )


@every_notebook
def test_a_notebook_ends_with_questions(path):
    """Six to ten of them, each with a folded answer, so that the reader can think first."""
    last = read(path).cells[-1]
    assert last.cell_type == "markdown" and last.source.startswith("## Questions\n"), (
        f"notebooks/{path.name} does not end with questions. Hint: make '## Questions' the last cell."
    )
    questions = re.split(r"^\d+\. ", last.source, flags=re.MULTILINE)[1:]
    fewest, most = QUESTIONS
    assert fewest <= len(questions) <= most, (
        f"notebooks/{path.name} has {len(questions)} questions. "
        f"Hint: {fewest} to {most}, numbered '1. ', '2. ' and so on."
    )
    for number, question in enumerate(questions, 1):
        assert re.search(r"<details><summary>.+?</summary>.+</details>", question, re.DOTALL), (
            f"notebooks/{path.name}: question {number} has no folded answer. "
            "Hint: <details><summary>Answer</summary>...</details>"
        )


@every_notebook
def test_every_section_with_code_checks_what_it_says(path):
    """At least one assert in each: a sentence about what the reader will see has to be true."""
    for head, code in sections(read(path)):
        assert only_sets_numbers(code) or re.search(r"^\s*assert\b", code, re.MULTILINE), (
            f"notebooks/{path.name}: the section '{head}' asserts nothing. Hint: which of its sentences can be checked?"
        )


@every_notebook
def test_a_code_cell_fits_on_a_slide(path):
    """At most 25 lines: longer things have a name, in a module beside the notebooks."""
    for number, cell in numbered(read(path), "code"):
        lines = len(cell.source.splitlines())
        assert 0 < lines <= MAX_CODE_LINES, (
            f"{place(path, number)} has {lines} lines. Hint: 1 to {MAX_CODE_LINES}; move a function to a module."
        )


@every_notebook
def test_prose_and_code_are_in_balance(path):
    """About one cell of prose for one of code: something is said before and after each thing that is done."""
    notebook = read(path)
    prose, code = len(numbered(notebook, "markdown")), len(numbered(notebook, "code"))
    fewest, most = PROSE_PER_CODE
    assert fewest <= prose / code <= most, (
        f"notebooks/{path.name} has {prose} cells of prose and {code} of code. "
        f"Hint: {fewest} to {most} of prose for one of code."
    )


@every_notebook
def test_every_plot_is_followed_by_what_to_see(path):
    """A picture is explained by the sentence below it."""
    cells = read(path).cells
    for number, cell in numbered(read(path), "code"):
        if is_plot(cell):
            below = cells[number] if number < len(cells) else None
            words = re.sub(r"^#.*$", "", below.source, flags=re.MULTILINE) if below else ""
            assert below and below.cell_type == "markdown" and len(words.split()) >= 8, (
                f"{place(path, number)} draws a plot, and no prose follows. "
                "Hint: say what to see in it, in the next cell."
            )


@every_notebook
def test_every_plot_has_alternative_text(path):
    """Who can't see a picture is told what is in it: plots.show(axes, alt) keeps that with the picture."""
    for number, cell in numbered(read(path), "code"):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                assert len(alt.split()) >= 8, f"{place(path, number)} has the alternative text {alt!r}. {SHOW}"


def test_an_exported_page_has_the_alternative_texts():
    """No picture of a page made by `jupyter nbconvert --to html --template classic` is without one."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(template_name="classic").from_filename(str(NOTEBOOKS / "part4.ipynb"))
    texts = re.findall(r'<img[^>]*?alt="([^"]+)"', page)
    assert len(texts) == 4 and all(text.count(" ") > 8 for text in texts), texts


@every_notebook
def test_a_link_of_a_notebook_leads_to_a_file(path):
    """Links to other notebooks, pages and programs are relative, and end inside the project."""
    for target in links(path):
        assert target.exists() and target.is_relative_to(ROOT), (
            f"notebooks/{path.name} has a link to {target}, which is not there. Hint: relative to notebooks/"
        )


def links(path):
    """Return the files that the prose of a notebook has links to."""
    prose = "\n".join(cell.source for _, cell in numbered(read(path), "markdown"))
    found = re.findall(r"\]\(([^)#]+)\)", prose)
    return [(NOTEBOOKS / link).resolve() for link in found if not link.startswith("http")]


@pytest.mark.needs("make")
def test_make_notebooks_serves_what_the_notebooks_have_links_to(tmp_path):
    """Jupyter starts for everybody, root too, opens notebooks/, and its root is the project's: links lead somewhere."""
    import requests

    port = free_port()
    flags = f"--no-browser --ServerApp.port={port} --IdentityProvider.token=word --ServerApp.disable_check_xsrf=True"
    words = ["make", "--old-file=.venv/ready-to-test", "notebooks", f"VENV={sys.executable}", f"JUPYTER={flags}"]
    settings = {"JUPYTER_CONFIG_DIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)}  # nobody's own
    files = sorted({link.relative_to(ROOT) for path in PATHS for link in links(path)})
    assert len(files) > 5, files
    log = tmp_path / "log"
    with (
        open(log, "w") as output,
        subprocess.Popen(
            words, cwd=ROOT, env=os.environ | settings, stdout=output, stderr=output, start_new_session=True
        ) as process,
    ):
        try:
            wait_until(lambda: is_listening(port) or process.poll() is not None, "Jupyter listens", 60)
            assert process.poll() is None, log.read_text()
            start = requests.get(f"http://127.0.0.1:{port}/?token=word", timeout=30)
            assert start.url.partition("?")[0].endswith("/tree/notebooks"), start.url
            for file in files:
                url = f"http://127.0.0.1:{port}/api/contents/{file}?token=word&content=0"
                assert requests.get(url, timeout=30).status_code == 200, f"{file} can't be opened"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
