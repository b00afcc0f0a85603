"""Checks what is said of a misspelt setting."""

from ordinary import life_goes_on

GOOD = {"listenPort": '"1"', "backendAddress": '"127.0.0.1"', "backendPort": '"none"'}


def complaint(work, **settings):
    """Run the proxy with these settings; return the one line that it leaves on stderr."""
    text = "".join(f"{name} = {value}\n" for name, value in settings.items() if value)
    work.sent(text)
    run = work.run_on_config(text)
    assert run.returncode == 1, f"exit status {run.returncode}, not 1. Hint: raise ConfigError"
    assert len(run.stderr.splitlines()) == 1, "not one line. Hint: raise ConfigError, once"
    return run.stderr


def check_question(work, right, wrong):
    """Raise AssertionError unless a misspelt name leads to a question that has both names."""
    line = complaint(work, **{**GOOD, right: None, wrong: GOOD[right]})
    assert f"{right} must be a string" in line, f"it does not say that {right} must be a string. Hint: keep that"
    question = line.partition("did you mean ")[2]
    assert question.startswith(right), f"it does not ask: did you mean {right}? Hint: look for names that are close"
    assert wrong in line, f"it does not name {wrong}. Hint: say what was found"


def listenport(work):
    """A config with listenport is asked, in one line: did you mean listenPort?"""
    check_question(work, "listenPort", "listenport")


def the_others(work):
    """The same for backendAdress, and for backend_port."""
    check_question(work, "backendAddress", "backendAdress")
    check_question(work, "backendPort", "backend_port")


def nothing_like_it(work):
    """For a config with nothing similar in it the message stays as it is, and a wrong value (a table) is not a
    misspelling."""
    for settings in ({**GOOD, "listenPort": None, "name": '"rsp"'}, {**GOOD, "backendPort": "{}"}):
        line = complaint(work, **settings)
        assert " must be a string. Set it in " in line, "the message of today is gone. Hint: add to it, and only then"
        assert "did you mean" not in line, "there is nothing to suggest. Hint: a name that was set itself is no answer"


TASKS = [listenport, the_others, nothing_like_it, life_goes_on()]
