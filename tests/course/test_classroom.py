"""The teacher's commands: a copy of the course without solutions, and a whole class's work in one table."""

import csv
import os
import re
import shutil
import subprocess
import sys

import pytest

import classroom
from support.parts import ROOT

PATIENCE = 100  # seconds that one command may take


def run(*words, cwd=ROOT):
    """Return what became of a command of exercise.py."""
    command = [sys.executable, "tests/exercises/exercise.py", *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)


# --- the copy for a class ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the course for a class."""
    directory = tmp_path_factory.mktemp("class") / "course"
    made = run("bundle", directory)
    assert made.returncode == 0, made.stderr
    return directory


def test_the_copy_has_no_solutions(copy):
    """No patch of an exercise, no note or page for the teacher, and nothing that was lying about."""
    assert not list(copy.glob("tests/exercises/part*/**/*.patch")) and not list(copy.rglob("teacher*"))
    texts = "\n".join(path.read_text() for path in copy.glob("tests/exercises/part*/*.md"))
    assert "**Often wrong.**" in texts and "**Listen for.**" not in texts and "**Ask.**" not in texts
    page = (copy / "tests" / "exercises" / "README.md").read_text()
    assert "exercise.py check" in page and "check-all" not in page
    assert not list(copy.rglob("__pycache__")) and not (copy / ".venv").exists() and not (copy / ".git").exists()


def test_the_copy_is_complete(copy):
    """All else that the course consists of is there, down to the last file that git knows."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy is no git repository: there is no list to compare with")
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    missing = [name for name in known if name and not os.path.lexists(copy / name)]
    missing = [name for name in missing if os.path.lexists(ROOT / name)]  # deleted, and not yet committed
    left_out = r"tests/exercises/(part\w+/(.*\.patch|teacher\.md)|teacher/.*)"
    assert all(re.fullmatch(left_out, name) for name in missing), missing


def test_no_page_of_the_copy_points_to_what_was_cut(copy):
    """No link leads to a file that was cut, and no page speaks of solutions' patches or of the teacher's commands."""
    pages = [path for path in copy.rglob("*.md") if "node_modules" not in path.parts]
    assert len(pages) > 50, f"only {len(pages)} pages: is the copy whole?"
    for page in pages:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
            if not re.match(r"https?://|#", target):
                path = page.parent / target.split("#")[0]
                here = ROOT / page.parent.relative_to(copy) / target.split("#")[0]
                assert path.exists() or not here.exists(), (
                    f"{page.relative_to(copy)} links to {target}, which was cut. Hint: <!-- for teachers -->"
                )
        words = re.search(r"solution\.patch|teacher\.md|exercises/teacher|check-all|for teachers", page.read_text())
        assert not words, f"{page.relative_to(copy)} speaks of {words[0]}. Hint: put <!-- for teachers --> around it"


def test_the_copys_own_tests_pass(copy):
    """A few, from each kind that knows of solutions; the whole of `make test` takes minutes."""
    words = "page or list or gate or solved or sound and (part1_big_request or part2_wakeups) or no_solutions or links"
    files = [f"tests/course/test_{name}.py" for name in ("exercises", "classroom", "readmes")]
    command = [sys.executable, "-m", "pytest", "-p", "pytest_timeout", "-q", *files, "-k", f"({words}) and not copys"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "RSP_NO_SKIPS": ""}
    result = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    assert re.search(r"SKIPPED .* this copy for a class has no solutions", result.stdout), result.stdout


def test_a_student_works_with_the_copy(copy, tmp_path):
    """start and check are as ever; start --solved says why it can't, and leaves nothing behind."""
    assert run("start", "part1_big_request", tmp_path / "mine", cwd=copy).returncode == 0
    checked = run("check", "part1_big_request", tmp_path / "mine", cwd=copy)
    assert checked.returncode == 1 and "(a) not yet: " in checked.stdout, checked.stdout
    solved = run("start", "part1_big_request", tmp_path / "solved", "--solved", cwd=copy)
    assert solved.returncode == 1 and not (tmp_path / "solved").exists()
    assert solved.stderr == "This copy was made for a class, without solutions. The teacher's copy has them.\n"


def test_the_list_of_what_the_course_consists_of_is_complete():
    """Each name at the top that git knows is in the list."""
    if not (ROOT / ".git").exists():
        pytest.skip("this copy is no git repository: there is no list to compare with")
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {name.split("/")[0] for name in known.split("\n") if name}
    assert top <= set(classroom.COURSE), f"not in a class's copy: {top - set(classroom.COURSE)}. Hint: see COURSE"


# --- a whole class -----------------------------------------------------------------------------------


@pytest.fixture
def school(tmp_path):
    """Four students' directories: one done, one wrong, one that never ends, one that is no exercise."""
    for student, answers in {
        "ada": 'a = 4096\nb = 100\nc = "reset"\n',
        "bob": 'a = 5000\nb = 100\nc = "end"\n',
    }.items():
        assert run("start", "part1_big_request", tmp_path / student / "big").returncode == 0
        (tmp_path / student / "big" / "answers.py").write_text(answers)
    assert run("check", "part1_big_request", tmp_path / "bob" / "big").returncode == 1
    (tmp_path / "bob" / "big" / "answers.py").write_text('a = 4096\nb = 100\nc = "end"\n')
    assert run("start", "part2_lost_bytes", tmp_path / "eve").returncode == 0
    (tmp_path / "eve" / "attack.py").write_text("import time\ntime.sleep(1000)\n")
    (tmp_path / "joe").mkdir()
    (tmp_path / "joe" / "notes.txt").write_text("I was ill.\n")
    return tmp_path


def test_a_class_is_one_table(school, tmp_path):
    """A line for each directory: tasks, first answers, who was stopped and who has nothing; CSV too; no trace left."""
    before = {path: path.read_bytes() for path in school.rglob("*") if path.is_file()}
    table = tmp_path / "table.csv"
    directories = [school / name for name in ("ada", "bob", "eve", "joe")]
    result = run("check-all", *directories, "--csv", table, "--seconds", 8)
    assert result.returncode == 1, result.stderr  # joe's could not be checked
    lines = {line.split()[0].split("/")[-2 if "big" in line else -1]: line for line in result.stdout.splitlines()[1:-1]}
    assert re.search(r"3 of 3 +\(a\) ok +\(b\) ok +\(c\) ok", lines["ada"]), result.stdout
    assert re.search(r"2 of 3 +\(a\) ok +\(b\) ok +\(c\) no +said first: \(a\) 5000, \(b\) 100", lines["bob"])
    assert re.search(r"0 of 3 +\(a\) – +\(b\) – +\(c\) – +stopped after 8 s", lines["eve"]), result.stdout
    assert "no exercise: it has no file .exercise" in lines["joe"], result.stdout

    rows = list(csv.DictReader(table.open(newline="")))
    assert [row["done"] for row in rows] == ["3", "2", "0", "0"]
    assert (rows[1]["a"], rows[1]["c"], rows[1]["first a"]) == ("ok", "no", "5000")
    after = {
        path: path.read_bytes() for path in school.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path: data for path, data in after.items() if path != table} == before


def test_the_table_says_why_nothing_is_done(tmp_path, capsys):
    """Whose program breaks down or never ends, and who has a slip: the teacher need not run it to see that."""
    for student, line in {"ada": 'raise RuntimeError("oops")', "bob": "while True: pass"}.items():
        assert run("start", "part2_lost_bytes", tmp_path / student).returncode == 0
        (tmp_path / student / "attack.py").write_text(f"{line}\n")
    assert run("start", "part1_big_request", tmp_path / "eve").returncode == 0
    (tmp_path / "eve" / "answers.py").write_text("a = 1\nb = ten\n")
    classroom.check_all([tmp_path], None, 60)
    _, ada, bob, eve = capsys.readouterr().out.splitlines()
    assert eve.endswith(" answers.py, line 2: b = ten"), eve
    assert ada.endswith(" it crashed: RuntimeError: oops") and bob.endswith(" an endless loop"), ada + bob


def test_a_directory_above_stands_for_all_below_it(school):
    """One word for a whole class; order is that of the names."""
    found = classroom.students_directories(school)
    assert [str(path.relative_to(school)) for path in found] == ["ada/big", "bob/big", "eve"]


def test_work_for_an_exercise_that_is_gone_is_a_line_in_the_table(tmp_path, capsys):
    """It does not keep the others from being checked."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / ".exercise").write_text('{"exercise": "part1_gone", "begun": "", "answers": {}, "failed": {}}')
    assert not classroom.check_all([tmp_path], None, 5)
    assert "Unknown exercise: part1_gone." in capsys.readouterr().out


def test_what_is_for_teachers_ends_where_it_should():
    """Each mark at which a copy is cut has its partner, and a cut takes a paragraph or a bullet, not more."""
    for page in ROOT.glob("**/*.md"):
        if ".venv" in page.parts:
            continue
        text = page.read_text()
        cuts = classroom.FOR_TEACHERS.findall(text)
        assert text.count("<!-- for teachers -->") == text.count("<!-- /for teachers -->") == len(cuts), page
        assert all(len(cut.splitlines()) < 12 for cut in cuts), f"{page}: a cut of many lines. Hint: is a mark missing?"


def test_a_copy_is_not_made_over_something(tmp_path):
    """A directory that is not empty stays as it is."""
    (tmp_path / "mine.txt").write_text("mine")
    assert run("bundle", tmp_path).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    shutil.rmtree(tmp_path)
