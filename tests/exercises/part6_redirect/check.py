"""Checks that marked hosts send their clients on to https, and serve no client in the clear."""

import contextlib
import re

from by_name import ask_for, brief, start_hosts
from ordinary import life_goes_on
from several import backends_called
from support.configs import host_text, hosts_text
from support.peers import hello_bytes, request_text


@contextlib.contextmanager
def sites(work):
    """Yield the backends A and B, the HTTP port and the TLS port of the student's proxy: B's hosts are marked."""
    with backends_called("AB") as backends:
        marked = host_text(backends[1], redirectToTls=True)
        hosts = {"plain.localhost": backends[0], "site1.localhost": marked, "default": marked}
        proxy, tls_port = start_hosts(work, hosts)
        yield backends, proxy.port, tls_port
        proxy.check_unharmed()


def location(answer):
    """Return what a redirect's Location is; raise AssertionError when it is no redirect."""
    head = answer.decode("latin-1").partition("\r\n\r\n")[0]
    assert brief(answer) == "301", f"{brief(answer)}, not 301. Hint: refuse it where an unknown host is refused"
    found = re.findall(r"^location: *(.*?) *\r?$", head, re.IGNORECASE | re.MULTILINE)
    assert len(found) == 1, f"{len(found)} Locations. Hint: put it among the headers of the page"
    assert re.search(r"^connection: close\r?$", head, re.IGNORECASE | re.MULTILINE), (
        "it does not say Connection: close. Hint: `error_page` does so; add to it, rather than write another"
    )
    return found[0]


def same_page(work):
    """A request for a marked host gets 301, with Connection: close and the Location https://NAME:PORT/TARGET: the name
    in the form in which names are compared, the port of listenTlsPort, the path and the query as they came."""
    with sites(work) as (_, port, tls_port):
        for host, target, name, path in [
            ("site1.localhost", "/", "site1.localhost", "/"),
            ("other.localhost", "http://Other.localhost/x", "other.localhost", "/x"),
            (f"Site1.localhost.:{port}", "/a%20b?c=d", "site1.localhost", "/a%20b?c=d"),
        ]:
            work.sent(f"GET {target}, Host: {host}")
            answer = ask_for(port, request_text(host, target))
            work.came_back(brief(answer))
            found, expected = location(answer), f"https://{name}:{tls_port}{path}"
            work.came_back(f"301, Location: {found}")
            assert found == expected, f"not {expected}. Hint: which name, which port, and what from the first line?"


def not_served_in_the_clear(work):
    """Nothing of it reaches the host's backend, a POST's body neither. Hosts that are not marked are served, and on the
    TLS port so is the marked one."""
    with sites(work) as (backends, port, tls_port):
        work.sent("POST / with a body, for the marked host")
        answer = ask_for(port, request_text("site1.localhost", method="POST", body=b"hello"))
        work.came_back(brief(answer))
        location(answer)
        assert not backends[1].connections, (
            "its backend has been connected to. Hint: decide before `connect_to_host` is called"
        )
        for what, came_back, expected in [
            ("a request for another host", ask_for(port, request_text("plain.localhost")), b"A"),
            ("a hello for the marked host, to the TLS port", ask_for(tls_port, hello_bytes("site1.localhost")), b"B"),
        ]:
            work.sent(what)
            work.came_back(brief(came_back))
            assert came_back == expected, (
                f"not served by {expected.decode()}. Hint: which hosts does the mark concern, and on which port?"
            )


def no_name(work):
    """A request without a Host, as HTTP/1.0 has them, is for the default host; when that is marked, there is no name to
    be sent to: it gets 400, and is not served either."""
    work.sent("GET / HTTP/1.0, and nothing else; the default host is marked")
    with sites(work) as (backends, port, _):
        answer = ask_for(port, b"GET / HTTP/1.0\r\n\r\n")
        work.came_back(brief(answer))
        assert brief(answer) == "400", "not 400. Hint: what is `request.host` here?"
        assert not backends[1].connections, "the backend has been connected to. Hint: 400 is a refusal, too"


def wrong_values(work):
    """redirectToTls = "yes" is refused with one line, which names the setting in full; so is true in a config without
    listenTlsPort."""
    for what, value, settings, words in [
        ('redirectToTls = "yes"', "yes", {"listenTlsPort": "2"}, ['hosts["site1.localhost"].redirectToTls must be']),
        ("redirectToTls = true, without listenTlsPort", True, {}, ["redirectToTls", "listenTlsPort"]),
    ]:
        work.sent(what)
        text = hosts_text({"site1.localhost": host_text(1, redirectToTls=value)}, **settings)
        run = work.run_on_config(text.replace("{port}", "1"))
        right = run.returncode == 1 and len(run.stderr.splitlines()) == 1 and all(word in run.stderr for word in words)
        assert right, f"not one line with {' and '.join(words)}. Hint: `read_hosts` has both at hand, and ConfigError"


def marked(work, backend):
    """Return the student's proxy; the clients ask for a host that is not marked, beside one that is."""
    hosts = {"plain.localhost": backend, "default": host_text(backend, redirectToTls=True)}
    return start_hosts(work, hosts)[0]


TASKS = [same_page, not_served_in_the_clear, no_name, wrong_values, life_goes_on(marked, host="plain.localhost")]
