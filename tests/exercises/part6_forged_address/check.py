"""Checks that an address can be forged, and that with the student's config it can't."""

import contextlib
import pathlib

from by_name import ask_for
from several import start_config
from support.peers import HttpBackend, HttpHandler, request_text

BALANCER, CUSTOMER, FORGED = "127.0.0.2", "198.51.100.7", "192.0.2.66"
AS_IT_CAME = pathlib.Path(__file__).parent / "starter" / "config.lua"


class Noting(HttpHandler):
    """Writes down the first address in X-Forwarded-For, and answers with it."""

    def do_GET(self):
        """Write it down."""
        first = self.headers.get("X-Forwarded-For", "none").partition(",")[0]
        self.server.noted.append(first)
        self.answer(f"{first}\n".encode())


@contextlib.contextmanager
def backend_and_proxy(work, config):
    """Yield a list in which the backend writes down addresses, and the student's proxy, started with a config."""
    with HttpBackend(handler=Noting) as backend:
        backend.server.noted = []
        yield backend.server.noted, start_config(work, config, backend)


def run_attack(work, config):
    """Run the attack on the proxy with a config; return what the backend has written down."""
    work.sent("whatever attack.py sends")
    with backend_and_proxy(work, config) as (noted, proxy):
        work.run_attack(proxy.port)
        work.came_back(f"the backend wrote down: {', '.join(noted) or 'nothing'}")
        assert noted, "no request has come through. Hint: look at what the proxy answers; is it Host: shop.localhost?"
        proxy.check_unharmed()
    return noted


def forged(work):
    """With config.lua as it came, the attack works: the backend writes down 192.0.2.66."""
    noted = run_attack(work, AS_IT_CAME)
    assert noted == [FORGED], f"not {FORGED}, once. Hint: who writes the first address into this header?"


def no_longer_forged(work):
    """With your config.lua the same attack is a request like any other: it is answered, and the backend writes down
    127.0.0.1, where it came from."""
    noted = run_attack(work, "config.lua")
    assert FORGED not in noted, "the attack still works. Hint: who is trusted, and did you mean all of them?"
    assert noted == ["127.0.0.1"], "not 127.0.0.1. Hint: the attack should come from there, and ask once"


def balancer_believed(work):
    """With your config.lua the load balancer is still believed: it asks for 198.51.100.7, and that is what the backend
    writes down."""
    work.sent(f"a request from {BALANCER}, with X-Forwarded-For: {CUSTOMER}")
    with backend_and_proxy(work, "config.lua") as (noted, proxy):
        headers = [f"X-Forwarded-For: {CUSTOMER}", "Connection: close"]
        ask_for(proxy.port, request_text("shop.localhost", headers=headers), source=BALANCER)
        work.came_back(f"the backend wrote down: {', '.join(noted) or 'nothing'}")
        assert noted == [CUSTOMER], "the load balancer is not believed. Hint: who is it, exactly?"


TASKS = [forged, no_longer_forged, balancer_believed]
