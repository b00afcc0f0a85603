"""No part is left behind by a change of the part before it, and the command that carries changes does."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from support.parts import PARTS, ROOT
from support.steps import read_files, steps_of
from support.versions import PAIRS, all_differences, complaints, files, pieces

HINT = """Hint: carry the change over: python tests/carry.py (once it is committed: --since HEAD~1).
If the part should differ, or has nothing to follow: python tests/carry.py --accept and the part's file."""


def test_no_part_is_left_behind():
    """Each definition is the part before's, or listed; and what a listed one differs from has not changed since."""
    lines = complaints()
    assert not lines, "\n".join([*lines, HINT])


def test_a_file_that_a_part_does_not_change_is_identical():
    """When a file has the same definitions in two parts, it is the same byte for byte."""
    changed = all_differences()
    compared = 0
    for before, after in PAIRS:
        for name in files(before):
            earlier, later = ROOT / before / name, ROOT / after / name
            names = [pieces(path.read_text(), name).keys() for path in (earlier, later) if path.exists()]
            if f"{after}/{name}" in changed or names[0] != names[-1]:
                continue
            compared += 1
            assert earlier.read_bytes() == later.read_bytes(), (
                f"{before}/{name} and {after}/{name} have the same definitions, but differ in their order or blank "
                f"lines. Hint: cp {before}/{name} {after}/"
            )
    assert compared, "No two parts share a file any more. Hint: is the list of parts still right?"


def run(directory, *words):
    """Run a command in a directory; return what it prints."""
    environment = os.environ | {"PYTHONPATH": str(directory / "tests"), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(words, cwd=directory, env=environment, capture_output=True, text=True, timeout=30)
    return run.stdout + run.stderr


@pytest.fixture
def copy(tmp_path):
    """A repository with a copy of the first four parts and of the command."""
    leave_out = shutil.ignore_patterns("__pycache__")
    for directory in list(PARTS.values())[:4]:
        shutil.copytree(ROOT / directory, tmp_path / directory, ignore=leave_out)
    shutil.copytree(ROOT / "tests" / "support", tmp_path / "tests" / "support", ignore=leave_out)
    for name in ("carry.py", "steps.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    for name, later in (("parts.py", r"^    ([5-9]|\d\d): .*\n"), ("versions.txt", r"^part([5-9]|\d\d)_.*\n")):
        path = tmp_path / "tests" / "support" / name
        path.write_text(re.sub(later, "", path.read_text(), flags=re.MULTILINE))
    run(tmp_path, "git", "init", "--quiet")
    commit_all(tmp_path)
    return tmp_path


def commit_all(copy):
    """Commit what is in the copy."""
    run(copy, "git", "add", ".")
    run(copy, "git", "-c", "user.name=rsp", "-c", "user.email=rsp@example.org", "commit", "--quiet", "-m", "a change")


def carry(copy, *words):
    """Run the command in the copy; return what it prints."""
    return run(copy, sys.executable, "tests/carry.py", *words)


def left_behind(copy):
    """Return what the first test above would say of the copy."""
    code = "from support.versions import complaints; print(*complaints(), sep='\\n')"
    return run(copy, sys.executable, "-c", code).strip()


def edit(path, old, new):
    """Replace a text that stands once in a file."""
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {old!r} {text.count(old)} times. Hint: choose another line."
    path.write_text(text.replace(old, new))


@pytest.mark.needs("git")
def test_a_change_goes_through_all_the_later_parts(copy):
    """A part that was not given the change is named; the command gives it to all, once, and they are identical."""
    edit(copy / PARTS[2] / "netutils.py", "sock.setblocking(False)", "sock.settimeout(0)")
    assert "part3_lua/netutils.py: make_socket_non_blocking differs from part2_epoll/netutils.py" in left_behind(copy)
    said = carry(copy)
    for part in (3, 4):
        assert f"{PARTS[part]}/netutils.py: merged." in said, said
        assert "sock.settimeout(0)" in (copy / PARTS[part] / "netutils.py").read_text()
    assert (left_behind(copy), carry(copy)) == ("", "")


@pytest.mark.needs("git")
@pytest.mark.parametrize("committed", [False, True])
def test_a_change_reaches_a_function_that_the_later_parts_have_changed(copy, committed):
    """It is merged into each part's own version, from the working tree or from a commit."""
    edit(copy / PARTS[2] / "rsp.py", "os.write(1, ", "os.write(sys.stdout.fileno(), ")
    if committed:
        commit_all(copy)
    assert left_behind(copy).startswith("part3_lua/rsp.py: main has changed in part2_epoll/rsp.py"), left_behind(copy)
    assert carry(copy, *["--since", "HEAD~1"] * committed).count(": merged.") == 2
    for part in (3, 4):
        text = (copy / PARTS[part] / "rsp.py").read_text()
        assert "os.write(sys.stdout.fileno(), " in text and "<config_file>" in text
    assert left_behind(copy) == ""


@pytest.mark.needs("git")
def test_a_conflict_is_marked_and_goes_no_further(copy):
    """The part and the way on are named, the next part is left alone; when it is resolved, the rest follows."""
    edit(copy / PARTS[2] / "rsp.py", "<server_port> <backend_addr>", "<port> <backend_addr>")
    said, after = carry(copy), copy / PARTS[3] / "rsp.py"
    assert "part3_lua/rsp.py: CONFLICT, 1 place is marked <<<<<<<" in said, said
    assert "<<<<<<< part3_lua" in after.read_text()
    assert "part4_buffering" not in run(copy, "git", "status", "--short")
    assert "part3_lua/rsp.py still has conflicts marked in it" in carry(copy)
    run(copy, "git", "checkout", "part3_lua/rsp.py")  # the change is none of part 3's business
    assert "part3_lua/rsp.py: main has changed" in left_behind(copy)
    assert carry(copy, "--accept", "part3_lua/rsp.py") == "part3_lua/rsp.py: accepted main\n"
    assert (left_behind(copy), carry(copy, "part3_lua/rsp.py")) == ("", "")


@pytest.mark.needs("git")
def test_a_part_may_be_said_to_differ(copy):
    """A difference that nobody has accepted fails; one that is gone must leave the list, too."""
    path = copy / PARTS[3] / "netutils.py"
    edit(path, "sock.setblocking(False)", "sock.settimeout(0)")
    assert "isn't listed as a part's own" in left_behind(copy)
    carry(copy, "--accept", "part3_lua/netutils.py")
    assert left_behind(copy).startswith("part4_buffering/netutils.py: make_socket_non_blocking differs")
    assert "part4_buffering/netutils.py: merged." in carry(copy)
    assert left_behind(copy) == ""
    edit(path, "sock.settimeout(0)", "sock.setblocking(False)")
    assert "is listed as different from part2_epoll/netutils.py, and is not" in left_behind(copy)


def steps_in(copy):
    """Return the files of part 4's steps in the copy, each laid out by the command: a list of dicts."""
    chain = [read_files(copy / PARTS[3])]
    for step in steps_of(4):
        said = run(copy, sys.executable, "tests/steps.py", "lay-out", step.name, f"my_{step.number}")
        chain.append(read_files(copy / f"my_{step.number}"))
        assert chain[-1], said
        shutil.rmtree(copy / f"my_{step.number}")
    return chain


@pytest.mark.needs("git")
@pytest.mark.parametrize("committed", [False, True])
def test_a_change_goes_through_the_steps(copy, committed):
    """One of part 2, one that only part 4 has, one in a line of its last step alone; and a second time, nothing."""
    edit(copy / PARTS[2] / "netutils.py", '"a port is a number', '"any port is a number')
    edit(copy / PARTS[4] / "connection.py", "news comes once.", "news comes once, and no more.")
    edit(copy / PARTS[4] / "connection.py", "READS_PER_EVENT = 8", "READS_PER_EVENT = 9")
    if committed:
        commit_all(copy)
    said = carry(copy, *["--since", "HEAD~1"] * committed)
    assert "part4_buffering/steps: carried through." in said, said
    kept = re.findall(r"^Step 4\.(\d+) and earlier ones keep their own connection.py", said, re.MULTILINE)
    assert kept == ["9", "2"], said
    chain = steps_in(copy)
    for number, step in enumerate(chain[1:], 1):
        assert "any port is" in step["netutils.py"], f"step {number}"
        assert ("once, and no more." in step.get("connection.py", "")) == (number > 2), f"step {number}"
    assert chain[-1] == read_files(copy / PARTS[4])
    assert carry(copy, *["--since", "HEAD~1"] * committed) == ""


@pytest.mark.needs("git")
def test_a_page_follows_its_patch(copy):
    """Its hunks are renewed where the code has changed, and stay as they are elsewhere; its sentences stay."""
    page = copy / PARTS[4] / "steps" / "3_write_buffer.md"
    before = page.read_text()
    old, new = "sent = self.socket.send(self.write_buffer)", "sent = self.socket.send(self.write_buffer, 0)"
    edit(copy / PARTS[4] / "connection.py", old, new)
    said = carry(copy)
    assert "steps/3_write_buffer.md: hunks brought up to date." in said, said
    assert page.read_text() == before.replace(old, new) != before


@pytest.mark.needs("git")
def test_steps_wait_for_a_conflict_to_be_resolved(copy):
    """No step is touched while git's marks are in its part, or in the one before."""
    edit(copy / PARTS[2] / "rsp.py", "<server_port> <backend_addr>", "<port> <backend_addr>")
    assert "The steps of part 4 wait: there are conflicts to resolve first.\n" in carry(copy)
    assert "part4_buffering/" not in run(copy, "git", "status", "--short")


@pytest.mark.needs("git")
def test_a_change_from_before_the_named_commit_is_said_to_be(copy):
    """When the patches fit the part before neither as it is nor as it was then, the commit is the wrong one."""
    edit(copy / PARTS[3] / "epollinterface.py", "def do_reactor_loop(epoll):", "def loop(epoll):")
    commit_all(copy)
    said = carry(copy)
    assert re.fullmatch(r"1_one_epoll.patch no longer applies: .*Name an earlier commit: .* --since COMMIT\n", said), (
        said
    )


@pytest.mark.needs("git")
def test_the_command_says_what_it_can_not_do(copy):
    """A path that is no part, a commit that doesn't exist, a file that does not parse: one line each."""
    assert carry(copy, "notebooks").startswith(
        "notebooks is not a part, nor a file of one. The parts are: part1_single"
    )
    assert carry(copy, "--since", "nowhere") == "git ls-tree: fatal: Not a valid object name nowhere\n"
    edit(copy / PARTS[2] / "rsp.py", "def main():", "def main(:")
    assert len(carry(copy).splitlines()) == 1 and "part2_epoll/rsp.py, line" in carry(copy)
