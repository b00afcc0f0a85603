"""Predict what part 3 makes of the values that a config computes."""

import re

CONFIG = 'listenPort = "1"\nbackendAddress = "127.0.0.1"\n'  # it never comes to listening


def taken_for(work, line):
    """Run the proxy with a config that ends in this line; return what it says that the backend's port is."""
    work.sent(line)
    run = work.run_on_config(f"{CONFIG}{line}\n")
    return re.search(r"backend 127\.0\.0\.1:(.*?): ", run.stderr)[1]


def compare(work, name, line, hint):
    """Compare a student's answer with what the proxy really does."""
    answer = work.answer(name)
    work.compare(str(answer), taken_for(work, line), hint)


def division(work):
    """What does the proxy take the port for when the config says backendPort = 70000 + 80 / 10?"""
    compare(work, "a", "backendPort = 70000 + 80 / 10", "how does Lua print a floating-point number that is whole?")


def precedence(work):
    """And when it says backendPort = "800" .. 40 + 2?"""
    compare(work, "b", 'backendPort = "800" .. 40 + 2', "which of the two operators comes first?")


def power(work):
    """And when it says backendPort = 10 ^ 15?"""
    compare(work, "c", "backendPort = 10 ^ 15", "how many digits does .14g write, and what does it do with more?")


def method(work):
    """And when it says backendPort = ("9"):rep(#"ports")?"""
    compare(work, "d", 'backendPort = ("9"):rep(#"ports")', "what is #, and what does rep do?")


TASKS = [division, precedence, power, method]
