"""Checks that part 1 serves clients at the same time, and still cleans up."""

import contextlib

from ordinary import life_goes_on
from suite.test_behaviours import test_an_idle_client_holds_up_no_other_client as idle_client
from suite.test_behaviours import test_four_slow_answers_come_at_the_same_time as four_slow_answers
from suite.test_behaviours import test_no_file_descriptor_stays_open as no_file_descriptor
from support.harness import has_unread_bytes, waiting_clients
from support.peers import HttpBackend, connect_and_be_turned_away, free_port, wait_until
from work import TooLate

SILENT = 40  # clients; the usual size of Python's pool of threads is 32 at most
UNREAD_PATIENCE = 1  # seconds in which a thread that runs has read what waits for it


def accepted_client(proxy):
    """Return a silent client that the proxy has accepted: its queue is short, so few may come at the same moment."""
    before = proxy.open_files()
    client = proxy.connect()
    with contextlib.suppress(AssertionError):  # it may not have room for one more; the next client shows that
        wait_until(lambda: proxy.open_files() > before, "the client is accepted", 1)
    return client


def idle(work):
    """An idle client holds up no other client, and neither do 40."""
    work.sent(f"client 1: connect, and nothing more. Client 2: GET /. Then the same with {SILENT} silent clients")
    try:
        work.run_test(idle_client)
    except AssertionError as error:
        if is_left_unread(work.running[-1]):
            fact = str(error).partition("Hint: ")[0]
            raise AssertionError(f"{fact}Hint: it was accepted, and not read: does the thread run at all?") from None
        raise
    work.came_back("the page, beside one silent client")
    with HttpBackend() as backend, contextlib.ExitStack() as stack:
        proxy = work.start(backend)
        try:
            for _ in range(SILENT):
                stack.enter_context(accepted_client(proxy))
            status = proxy.get("/").status_code
        except AssertionError:
            proxy.check_unharmed()
            fact = f"with {SILENT} silent clients, one that asks had no answer in time"
            raise TooLate(f"{fact}. Hint: a pool has an end: {SILENT} silent clients fill it") from None
        assert status == 200, f"with {SILENT} silent clients, one that asks got status {status}"
    work.came_back(f"the page, beside one silent client and beside {SILENT}")


def is_left_unread(proxy):
    """Return True if a proxy has accepted a client and reads nothing of it, even now that client 1 has left."""
    try:
        wait_until(lambda: waiting_clients(proxy.port) or not has_unread_bytes(proxy.port), "it reads", UNREAD_PATIENCE)
    except AssertionError:
        return proxy.is_alive()
    return False


def four_at_once(work):
    """Four answers of 1 second each come within 2 seconds."""
    work.sent("GET /slow?seconds=1 from four clients at once")
    try:
        work.run_test(four_slow_answers)
    except AssertionError as error:
        raise TooLate(str(error)) from None


def cleans_up(work):
    """After fifty clients, some of them gone in the middle, no descriptor stays open."""
    work.sent("GET from fifty clients; ten of them disconnect")
    work.run_test(no_file_descriptor)


def one_line_each(work):
    """While the backend is down, each client costs one line in the log, and no traceback."""
    work.sent("three clients, while nothing listens on the backend's port")
    proxy = work.start(free_port())
    for _ in range(3):
        connect_and_be_turned_away(proxy.port)
    wait_until(lambda: proxy.errors().count("\n") >= 3, "a line in the log for each of the three clients")
    lines = proxy.errors().splitlines()
    work.came_back(f"{len(lines)} lines in the log, the last one: {lines[-1]}")
    assert len(lines) == 3, "not one line a client. Hint: part 1 writes that line already; what else prints?"


TASKS = [idle, four_at_once, cleans_up, one_line_each, life_goes_on()]
