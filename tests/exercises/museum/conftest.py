"""The example is an answer to an exercise, not a test of the suite; tests/course/test_bug_museum.py runs it."""

collect_ignore = ["example_test.py"]
