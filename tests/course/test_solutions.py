"""A check refuses wrong solutions, for the right reason, and lets different right ones pass.

They are patches beside each exercise: see tests/exercises/tries.py. A plain run lays all of them out, and judges one
wrong one of every third exercise. With --all-tries all are judged.
"""

import collections

import pytest

from cards import BUNDLE_MARK, Exercise, names
from support.left_out import ON_REQUEST
from tries import all_tries

TRIES = [] if BUNDLE_MARK.exists() else all_tries()
NEEDS_GIT = pytest.mark.needs("git")
ON_DEMAND = pytest.mark.on_request("--all-tries")
NOT_RUN = (
    "Wrong and right solutions of exercises: one of each was judged. "
    "To judge them all: pytest tests/course/test_solutions.py --all-tries"
)
HINT = "Hint: see tests/exercises/teacher/README.md, A new exercise"
FEWEST_WRONG = {"fix": 3, "extend": 3, "break": 1, "predict": 0}  # solutions, of an exercise of each kind
FEWEST_RIGHT = {"fix": 1, "extend": 1, "break": 0, "predict": 0}  # besides solution.patch
WRONG = [each for each in TRIES if not each.is_right]
IN_PLAIN = sorted(WRONG, key=lambda each: (each.field("plain") != "yes", each.letters))  # the quickest one first
FIRST = list({each.exercise.name: each for each in reversed(IN_PLAIN)}.values())[::-3]  # of some exercises


def parameters(tries):
    """Return tries as parameters of a test."""
    return [
        pytest.param(
            each,
            marks=[pytest.mark.needs("redis-server")] * (each.exercise.part == 7),
            id=f"{each.exercise.name}-{each.path.stem}",
        )
        for each in tries
    ]


def test_each_exercise_has_its_tries():
    """Three wrong solutions and a second right one for what has to be built; a wrong one for each attack."""
    if BUNDLE_MARK.exists():
        return
    wrong = collections.Counter(each.exercise.name for each in TRIES if not each.is_right)
    right = collections.Counter(each.exercise.name for each in TRIES if each.is_right)
    for name in names():
        kind = Exercise(name).kind
        assert wrong[name] >= FEWEST_WRONG[kind], f"{name} has {wrong[name]} wrong solutions. {HINT}"
        assert right[name] >= FEWEST_RIGHT[kind], f"{name} has no second right solution. {HINT}"


def test_each_try_says_what_it_is():
    """A sentence; in a wrong one, the task that refuses it, and with which words."""
    for each in TRIES:
        assert each.head.partition("\n")[0].endswith("."), f"{each.path} has no sentence above its diff. {HINT}"
        if not each.is_right:
            known = set(each.letters) <= set(each.exercise.tasks())
            assert each.letters and known and each.says, f"{each.path} does not say task: and says:. {HINT}"


@NEEDS_GIT
@pytest.mark.skipif(not TRIES, reason="this copy for a class has no solutions")
def test_each_try_applies(tmp_path):
    """To the solution, or to the starter."""
    complaints = []
    for number, each in enumerate(TRIES):
        try:
            each.lay_out(tmp_path / str(number))
        except LookupError as error:
            complaints.append(str(error))
    assert not complaints, "\n".join([*complaints, "Hint: make it again: git diff --no-index; keep its head"])


CHECKS = 2  # of a wrong solution, before it counts: a busy machine may have been in the way
RACES = 5  # of one whose mistake is a race, which shows in most checks, not in all


def check_refused(each, directory, letters=None):
    """Raise AssertionError unless one of the tasks refuses a wrong solution, in the words that it should."""
    for number in range(RACES if each.field("race") == "yes" else CHECKS):
        letter, shown = each.refusals(directory / str(number), letters)
        if letter in each.letters and each.says in shown:
            return
    assert letter, f"{each.head}\n\npasses. {HINT}"
    assert letter in each.letters, f"{each.head}\n\nis refused by ({letter}): {shown}"
    assert each.says in shown, f"{each.head}\n\nis refused in other words: {shown}"


@NEEDS_GIT
@pytest.mark.parametrize("each", parameters(FIRST))
def test_a_wrong_solution_is_refused(each, tmp_path, request, record_property):
    """By the task that it has not done, in words that point to the mistake."""
    if not request.config.getoption("--all-tries"):
        record_property(ON_REQUEST, NOT_RUN)
    check_refused(each, tmp_path / "mine", each.letters)


@ON_DEMAND
@NEEDS_GIT
@pytest.mark.parametrize("each", parameters(WRONG))
def test_no_other_task_refuses_it_before(each, tmp_path):
    """All tasks are run, as in a student's check: what is shown first is about the mistake."""
    check_refused(each, tmp_path / "mine")


@ON_DEMAND
@NEEDS_GIT
@pytest.mark.parametrize("each", parameters([each for each in TRIES if each.is_right]))
def test_a_right_solution_passes(each, tmp_path):
    """It does what the card asks, in another way than solution.patch."""
    letter, shown = each.refusals(tmp_path / "mine")
    assert not letter, f"{each.head}\n\nis refused by ({letter}): {shown}"
