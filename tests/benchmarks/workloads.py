"""How it is measured: each workload runs a load generator against one contender.

Before its figure counts, a contender must have given the right answers: a wrong byte, a short answer or a failed
request raises Wrong.
"""

import filecmp
import hashlib
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace

from support.peers import (
    HOST,
    SMALL_BUFFER,
    Client,
    CollectingBackend,
    check_pattern,
    pattern,
    send_pattern_in_background,
    wait_until,
    wait_until_still,
)

HERE = pathlib.Path(__file__).resolve().parent
SMALL = 512  # bytes of a small answer
BIG = 10_000_000  # bytes of a big answer, and of an upload
AT_ONCE = 100  # connections
BIG_AT_ONCE = 4  # connections that carry something big
FEW, FEW_AT_ONCE = 600, 16  # connections
BYTES_EACH = "bytes each"  # the unit of those workloads that ask for memory, not for a rate


class Wrong(Exception):
    """A contender gave a wrong answer; its figure does not count."""


@dataclass(frozen=True)
class Workload:
    """One kind of load."""

    name: str
    title: str  # for table and plot
    unit: str  # the rate is this many of them a second
    run: Callable  # (contender, scale) -> (rate, how many units were done)
    without: tuple = ()  # contenders that can't do it at all

    @property
    def is_crowd(self):
        """Whether clients that only sit there are measured: memory, and what a request takes beside them."""
        return self.unit == BYTES_EACH

    @property
    def is_tls(self):
        """Whether clients and backend speak TLS; the contenders see no more of it than the server's name."""
        return self.name.startswith("tls")


def run_tool(*words):
    """Run a load generator and return what it prints."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=600)
    if done.returncode:
        complaint = (done.stderr or done.stdout).strip().splitlines()[-1]
        if "timeout specified has expired" in complaint:
            complaint = f"{words[0]} waited 30 s for a connection or an answer, and gave up"
        raise Wrong(complaint)
    return done.stdout


def number_after(label, text):
    """Return the first number that follows a label."""
    return float(re.search(re.escape(label) + r"\D*([\d.]+)", text)[1])


def make_site(directory):
    """Write the files that the backend serves, and a body to upload."""
    site = directory / "site"
    (site / "upload").mkdir(parents=True)
    (directory / "body").mkdir()
    (site / "small").write_bytes(pattern(0, SMALL))
    (site / "big").write_bytes(pattern(0, BIG))
    for path in (directory, site, site / "upload", directory / "body"):
        path.chmod(0o777)  # nginx may serve as another user than the one who started it


def make_certificate(directory):
    """Write the certificate that a TLS backend shows, and its key."""
    import trustme  # here, since nothing else in the benchmark needs it

    certificate = trustme.CA().issue_cert("localhost")
    (directory / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
    (directory / "key.pem").write_bytes(certificate.private_key_pem.bytes())


def unchecked_tls():
    """Return what urllib needs to take any certificate: here, it is not the certificate that is tried."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check_answers(contender, workload):
    """Raise Wrong unless the contender relays what this workload asks for, byte by byte, to a slow reader as well."""
    try:
        if workload.is_tls:
            url = f"https://localhost:{contender.port}/small"
            with urllib.request.urlopen(url, timeout=10, context=unchecked_tls()) as answer:
                check_pattern(answer.read(), 0)
            return
        with urllib.request.urlopen(f"http://{HOST}:{contender.port}/small", timeout=10) as answer:
            check_pattern(answer.read(), 0)
        if workload.name == "bulk":
            check_slow_download(contender)
        if workload.name == "upload" and contender.process:
            check_slow_upload(contender)
    except (AssertionError, OSError) as error:
        raise Wrong(str(error)) from None


def check_slow_download(contender):
    """Read a big answer through a small window, after a pause."""
    with Client(contender.port, receive_buffer=SMALL_BUFFER, timeout=10) as client:
        client.send(f"GET /big HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        time.sleep(0.3)
        body = client.receive_all().partition(b"\r\n\r\n")[2]
    if hashlib.sha256(body).digest() != hashlib.sha256(pattern(0, BIG)).digest():
        raise Wrong(f"{len(body):,} of {BIG:,} bytes arrived, or not in order")


def check_slow_upload(contender):
    """Send a big request to a backend that doesn't start reading until no more is taken, through a small window.

    So every byte that the backend's socket does not take at once has to wait somewhere, or is lost, on every run.
    """
    with (
        CollectingBackend(BIG, stalled=True, with_head=True, receive_buffer=SMALL_BUFFER) as backend,
        contender.started_afresh(backend.port) as fresh,
        Client(fresh.port, timeout=10) as client,
    ):
        client.send(f"PUT /upload/slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {BIG}\r\n\r\n".encode())
        send_pattern_in_background(client, BIG)
        wait_until(lambda: client.sent, "the upload has begun")
        wait_until_still(lambda: client.sent)
        backend.go.set()
        wait_until(backend.done.is_set, "the backend has read the upload", 60)
        if backend.complaint:
            raise Wrong(f"{backend.received:,} of {BIG:,} uploaded bytes arrived, or not in order")


def run_ab(contender, requests, *options, path="small", at_once=AT_ONCE, site=f"http://{HOST}"):
    """Run ab and return its output, once it is sure that no request has failed."""
    url = f"{site}:{contender.port}/{path}"
    output = run_tool("ab", "-q", "-n", requests, "-c", at_once, *options, url)
    failed = int(number_after("Failed requests:", output))
    if failed or "Non-2xx" in output or number_after("Complete requests:", output) != requests:
        raise Wrong(f"{failed} of {requests} requests failed")
    return output


def connections(contender, scale):
    """A connection for each request."""
    requests = int(10_000 * scale)
    return number_after("Requests per second:", run_ab(contender, requests)), requests


def few_connections(contender, scale):
    """A connection for each request, but so few that proxy.py stands them: after some thousand it accepts no more."""
    return number_after("Requests per second:", run_ab(contender, FEW, at_once=FEW_AT_ONCE)), FEW


def tls_connections(contender, scale):
    """A TLS connection for each request: handshakes, above all. ab says the server's name, as browsers do."""
    requests = int(3000 * scale)
    output = run_ab(contender, requests, site="https://localhost")
    return number_after("Requests per second:", output), requests


def tls_bulk(contender, scale):
    """Big answers through TLS, in megabytes (10**6 bytes)."""
    requests = max(BIG_AT_ONCE, int(60 * scale))
    output = run_ab(contender, requests, path="big", at_once=BIG_AT_ONCE, site="https://localhost")
    return number_after("Requests per second:", output) * BIG / 1e6, requests * BIG / 1e6


def hosts_of(count):
    """Return a run that asks for so many hosts in turn, a connection for each request."""

    def run(contender, scale):
        words = "-s", HERE / "many_hosts.lua"
        return run_wrk(contender, "small", AT_ONCE, max(1, int(3 * scale)), *words, more=["--", count])

    return run


def run_wrk(contender, path, at_once, seconds, *options, more=()):
    """Run wrk; return requests a second and how many, once it is sure that there was no error."""
    url = f"http://{HOST}:{contender.port}/{path}"
    output = run_tool("wrk", "-t1", f"-c{at_once}", f"-d{seconds}s", *options, url, *more)
    if "Socket errors" in output or "Non-2xx" in output:
        raise Wrong(re.search(r"(Socket errors|Non-2xx).*", output)[0])
    count = int(re.search(r"(\d+) requests in", output)[1])
    if not count:
        raise Wrong(f"no answer came in {seconds} s")
    return number_after("Requests/sec:", output), count


def keep_alive(contender, scale):
    """Requests one after another on connections that stay."""
    return run_wrk(contender, "small", AT_ONCE, max(1, int(3 * scale)))


def two_pieces(contender, scale):
    """The same, but the backend sends the head of an answer and its body one after the other."""
    return run_wrk(contender, "pieces/small", AT_ONCE, max(1, int(3 * scale)))


def bulk(contender, scale):
    """Big answers, in megabytes (10**6 bytes)."""
    rate, requests = run_wrk(contender, "big", BIG_AT_ONCE, max(1, int(3 * scale)))
    return rate * BIG / 1e6, requests * BIG / 1e6


def upload(contender, scale):
    """Big requests, in megabytes (10**6 bytes)."""
    requests = int(100 * scale)
    body = contender.site / "big"
    uploaded = contender.site / "upload" / contender.name
    output = run_ab(contender, requests, "-u", body, path=f"upload/{contender.name}", at_once=BIG_AT_ONCE)
    as_it_was = filecmp.cmp(body, uploaded, shallow=False)
    uploaded.unlink()
    if not as_it_was:
        raise Wrong("what arrived is not what was sent")
    return number_after("Requests per second:", output) * BIG / 1e6, requests * BIG / 1e6


def ask_once(contender):
    """Return the seconds that one small request takes, on its own connection."""
    start = time.perf_counter()
    with Client(contender.port, timeout=10) as client:
        client.send(b"GET /small HTTP/1.0\r\n\r\n")
        answer = client.receive_all()
    check_pattern(answer.partition(b"\r\n\r\n")[2], 0)
    return time.perf_counter() - start


def beside_a_crowd(contender, count, join):
    """Have `count` clients join, each a socket from join(port); return (memory in bytes for each, milliseconds).

    The milliseconds are what a request takes beside them. The program is started afresh: one that has been busy has
    memory to spare, which would hide what the crowd needs.
    """
    with contender.started_afresh() as fresh:
        ask_once(fresh)
        before = fresh.memory()
        crowd = []
        try:
            for _ in range(count):
                crowd.append(join(fresh.port))
            if before is not None:
                wait_until_still(lambda: fresh.memory() // 65536)
            milliseconds = 1000 * statistics.median(ask_once(fresh) for _ in range(21))
            growth = None if before is None else (fresh.memory() - before) / count
        finally:
            for client in crowd:
                client.close()
    return growth, milliseconds


def idle_clients(contender, scale):
    """Clients that connect, and say nothing."""
    return beside_a_crowd(contender, int(4500 * scale), lambda port: socket.create_connection((HOST, port), timeout=10))


def stalled_clients(contender, scale):
    """Clients that ask for 10 MB, and do not read."""

    def join(port):
        client = Client(port, receive_buffer=SMALL_BUFFER, timeout=10)
        client.send(b"GET /big HTTP/1.0\r\n\r\n")
        return client

    return beside_a_crowd(contender, max(5, int(50 * scale)), join)


ONE_AT_A_TIME = ("part1",)
WORKLOADS = [
    Workload("connections", "a connection per request", "requests/s", connections),
    Workload("keep-alive", "keep-alive", "requests/s", keep_alive, ONE_AT_A_TIME),
    Workload("bulk", "10 MB answers", "MB/s", bulk, ONE_AT_A_TIME),
    Workload("upload", "10 MB uploads", "MB/s", upload, ONE_AT_A_TIME),
    Workload("idle", "4,500 idle clients", BYTES_EACH, idle_clients, ONE_AT_A_TIME),
]
PIECES = Workload("pieces", "keep-alive, in two pieces", "requests/s", two_pieces)
# What shows the worth of each thing that switched_off/ takes away; a crowd that is idle shows none of it.
SWITCHED_OFF_WORKLOADS = [*WORKLOADS[:2], PIECES, *WORKLOADS[2:4]]
BACKENDS_WORKLOADS = WORKLOADS[:4]
HOSTS_WORKLOADS = [
    *(replace(workload, without=(*workload.without, "proxy.py")) for workload in WORKLOADS[:5]),
    Workload("few", "600 connections", "requests/s", few_connections),
]
REDIS_WORKLOADS = [
    Workload("one-host", "a connection per request, one host", "requests/s", hosts_of(1)),
    Workload("many-hosts", "the same, 9,999 hosts", "requests/s", hosts_of(9999)),
    WORKLOADS[1],
]
TLS_WORKLOADS = [
    Workload("tls-connections", "a TLS connection per request", "requests/s", tls_connections),
    Workload("tls-bulk", "10 MB answers through TLS", "MB/s", tls_bulk),
]
# What a change to a part might make worse.
AGAINST_WORKLOADS = [
    *SWITCHED_OFF_WORKLOADS,
    WORKLOADS[4],
    Workload("stalled", "50 clients that don't read", BYTES_EACH, stalled_clients),
]
