"""Puts a solution in place: the teacher's `start --solved`, and the gate."""

from cards import BUNDLE_MARK
from support.patches import apply_patch, need_git


def need_solutions():
    """Raise LookupError when there are no solutions in this copy, or no git to put one in place."""
    if BUNDLE_MARK.exists():
        raise LookupError("This copy was made for a class, without solutions. The teacher's copy has them.")
    need_git()


def put_solution(exercise, directory):
    """Turn a starter into the solution; a patch that does not apply is a LookupError."""
    if complaint := apply_patch(exercise.directory / "solution.patch", directory):
        raise LookupError(f"solution.patch does not apply: {complaint}. Make it again with: git diff --no-index")
