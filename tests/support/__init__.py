"""What tests, exercises, benchmarks and notebooks share: parts.py, harness.py, peers/, patches.py.

Everybody writes `from support.peers import Client`. pytest finds this package by tests/pytest.ini; a program that is
run as a script finds it since a link named `support` is beside it: in suite/, exercises/, benchmarks/, notebooks/.
In exercises/ there is one more, `suite`: a check may run a test of the suite, `from suite.test_behaviours import …`.
"""
