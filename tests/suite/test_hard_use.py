"""What a proxy must withstand before it is put in front of a real site: size, numbers, accidents, and all at once."""

import contextlib
import hashlib
import random
import socket
import threading
import time

import pytest

from support.harness import (
    check_idle_clients,
    check_one_line,
    check_quiet,
    is_somebody_waiting,
    run_briefly,
    tcp_timers,
)
from support.peers import (
    HOST,
    LONG_PATIENCE,
    PATIENCE,
    SMALL_BUFFER,
    CollectingBackend,
    DuplexBackend,
    EchoBackend,
    HttpBackend,
    JammedBackend,
    Puppet,
    SilentBackend,
    StalledBackend,
    StreamingBackend,
    TurnBackend,
    connect_and_be_reset,
    connect_and_be_turned_away,
    free_port,
    pattern,
    send_byte_by_byte,
    send_pattern_in_background,
    wait_until,
    wait_until_acknowledged,
    wait_until_still,
)

pytestmark = pytest.mark.behaviour("hard use")

MEGABYTE = 1_000_000  # bytes
MEMORY_GROWTH = 16 * MEGABYTE  # bytes; far more than the buffers of a few connections, far less than the transfers


# --- big ---------------------------------------------------------------------------------------------


def test_100_mb_come_down_with_the_right_checksum(start_proxy):
    """A big download, over HTTP, compared by SHA-256."""
    count = 100 * MEGABYTE
    with HttpBackend() as backend:
        answer = start_proxy(backend).get(f"/bytes?count={count}", timeout=LONG_PATIENCE)
        assert hashlib.sha256(answer.content).digest() == hashlib.sha256(pattern(0, count)).digest()


def test_100_mb_go_up_with_the_right_checksum(start_proxy):
    """A big upload, over HTTP, compared by SHA-256."""
    body = pattern(0, 100 * MEGABYTE)
    with HttpBackend() as backend:
        answer = start_proxy(backend).get("/sum", method="POST", data=body, timeout=LONG_PATIENCE)
        assert answer.json() == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_50_mb_each_way_at_once(start_proxy):
    """Both directions full at the same time, and each ends by itself."""
    count = 50 * MEGABYTE
    with DuplexBackend(count) as backend, start_proxy(backend).connect(timeout=LONG_PATIENCE) as client:
        sender = send_pattern_in_background(client, count)
        client.receive_pattern(count)
        sender.join(LONG_PATIENCE)
        client.half_close()
        client.expect_end()
        wait_until(lambda: backend.ends, "the backend has seen the end of the upload", LONG_PATIENCE)
        assert backend.received == count
        assert backend.complaint is None, backend.complaint


@pytest.mark.parametrize("size", [1000, 65535, 65536, 65537, 262143, 262144, 262145, 1_000_000])
def test_sizes_around_the_limits_of_buffers_pass(start_proxy, size):
    """One byte more or less than a buffer holds is where mistakes hide. The end is passed on as an end."""
    with CollectingBackend() as backend, start_proxy(backend).connect() as client:
        client.send(pattern(0, size))
        client.half_close()
        assert client.receive_all() == b"%d bytes" % size


# --- many --------------------------------------------------------------------------------------------


def test_500_clients_at_once(start_proxy):
    """All connected at the same time, all served."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        clients = [proxy.connect(timeout=LONG_PATIENCE) for _ in range(500)]
        for number, client in enumerate(clients):
            client.send(b"I am number %03d" % number)
        for number, client in reversed(list(enumerate(clients))):
            assert client.receive_exactly(15) == b"I am number %03d" % number
        for client in clients:
            client.close()
        proxy.check_unharmed()


def test_a_thousand_requests_on_one_connection(start_proxy):
    """Keep-alive, kept up for long."""
    with HttpBackend() as backend, start_proxy(backend).connect() as client:
        for number in range(1000):
            client.send(b"GET /bytes?count=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.receive_exactly(1)
            assert b"Content-Length: %d\r\n" % number in head
            assert client.receive_exactly(number) == pattern(0, number)


def test_small_turns_do_not_stall(start_proxy):
    """60 turns of question and answer, each in two writes: neither side waits 40 ms for an acknowledgement.

    With Nagle's algorithm, the second write stays in the kernel until the first one is acknowledged, which the
    other side's kernel puts off for 40 ms, hoping for something to send along.
    """
    slow_turns = []
    with TurnBackend(100) as backend, start_proxy(backend).connect() as client:
        for number in range(60):
            client.send(b"x" * 4)
            arrived = 100 * number + 4
            wait_until(lambda count=arrived: backend.received >= count, "the first write is there, before the second")
            start = time.monotonic()
            client.send(b"x" * 96)
            client.receive_exactly(100)
            seconds = time.monotonic() - start
            if seconds > 0.03:
                slow_turns.append(f"{number}: {1000 * seconds:.0f} ms")
    # A busy machine may interrupt a turn or two; Nagle's algorithm holds up nearly all of them.
    assert len(slow_turns) < 10, f"{len(slow_turns)} of 60 turns stalled: {slow_turns[:5]}. Hint: TCP_NODELAY"


# --- ends --------------------------------------------------------------------------------------------


def test_a_backend_that_finishes_first_still_gets_the_rest(start_proxy):
    """The other way round: the backend has sent everything, and the client goes on sending."""
    with DuplexBackend(1000) as backend, start_proxy(backend).connect() as client:
        client.receive_pattern(1000)
        client.expect_end()
        client.send(pattern(0, 50_000))
        client.half_close()
        wait_until(lambda: backend.ends, "the backend has seen the end of the upload")
        assert backend.received == 50_000
        assert backend.complaint is None, backend.complaint


def test_a_client_reset_is_passed_on(start_proxy):
    """When a client vanishes in the middle of its answer, the backend's connection is soon reset as well."""
    with StreamingBackend(10**12) as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"everything, please")
            client.receive_pattern(1_000_000)
            during = proxy.open_files()
            client.reset()
        wait_until(lambda: backend.resets == 1, "the backend has been reset")
        wait_until(lambda: proxy.open_files() <= during - 2, "the proxy has closed both sockets")
        proxy.check_unharmed()


def test_a_silent_client_reset_is_passed_on(start_proxy):
    """The same while nothing is being transferred."""
    with EchoBackend() as backend:
        with start_proxy(backend).connect() as client:
            client.send(b"hello")
            client.receive_exactly(5)
            client.reset()
        wait_until(lambda: backend.resets == 1, "the backend has been reset")


def test_a_half_closed_client_reset_is_passed_on(start_proxy):
    """The end of what the client sends has already been passed on; its reset is news all the same."""
    with Puppet() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"hello")
            backend.expect(b"hello")
            before = proxy.open_files()
            client.half_close()
            backend.expect_end()
            assert proxy.open_files() >= before, "it has closed a pair that is still open in one direction"
            client.reset()
        wait_until(lambda: proxy.open_files() <= before - 2, "the proxy has closed both sockets")


@pytest.mark.not_by_host("to a client that speaks HTTP, it is a 502: see test_refusals.py")
def test_a_backend_reset_before_the_first_byte_is_passed_on(start_proxy):
    """The client gets a reset, too: an end of file would look like an empty answer."""
    with StreamingBackend(0, reset=True) as backend, start_proxy(backend).connect() as client:
        client.send(b"as much as you can, please")
        client.expect_reset()


@pytest.mark.parametrize("count", [1, 1000, 5 * MEGABYTE])
def test_a_backend_reset_is_passed_on_after_the_last_byte(start_proxy, count):
    """The client gets what had arrived, every byte, and then a reset: not a clean, shorter answer."""
    with StreamingBackend(count, reset=True) as backend, start_proxy(backend).connect() as client:
        client.send(b"as much as you can, please")
        client.receive_pattern(count)
        client.expect_reset()


def test_a_reset_reaches_even_a_slow_client_after_the_last_byte(start_proxy):
    """The bytes are still in the proxy and its kernel when the reset arrives; none may be skipped."""
    count = MEGABYTE
    with StreamingBackend(count, reset=True) as backend:
        proxy = start_proxy(backend)
        with proxy.connect(receive_buffer=SMALL_BUFFER) as client:
            client.send(b"as much as you can, please")
            wait_until(lambda: backend.sent == count, "the backend has sent everything", LONG_PATIENCE)
            time.sleep(0.3)
            client.receive_pattern(count)
            client.expect_reset()


def test_a_reset_behind_an_end_of_file_is_not_overlooked(start_proxy):
    """The backend ends and then resets, while the proxy is stopped and sees neither."""
    with StreamingBackend(5000, reset=True, end=True) as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            wait_until(lambda: backend.connections, "the backend is connected")
            backend.hold.clear()
            client.send(b"something, please")
            wait_until(lambda: backend.received, "the backend has got the request")
            with proxy.stopped():
                backend.hold.set()
                wait_until(lambda: backend.finished, "the backend has ended and reset its connection")
            client.receive_pattern(5000)
            client.expect_reset()


def test_a_backend_that_only_writes_is_not_read_for_ever(start_proxy):
    """The client has sent something and gone; the backend reads nothing and never stops sending."""
    with StreamingBackend(10**12) as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"everything, please")
            client.receive_exactly(1000)
            before = proxy.open_files()
            asked = client.sent
            send_pattern_in_background(client, 10**9)
            wait_until(lambda: client.sent > asked, "the client has begun to send")
            wait_until_still(lambda: client.sent)
            client.reset()
        wait_until(lambda: proxy.open_files() <= before - 2, "the proxy has closed both sockets", LONG_PATIENCE)
        check_quiet(proxy, seconds=0.5)


@pytest.mark.parametrize("first", ["client", "backend"])
def test_when_both_sides_stall_and_both_reset_nothing_is_left(start_proxy, first):
    """Both buffers are full, neither side reads; then one side resets, then the other."""
    with JammedBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect(receive_buffer=SMALL_BUFFER, timeout=LONG_PATIENCE) as client:
            # More than all the buffers on the way hold, and less than a proxy reads for a side that is gone.
            send_pattern_in_background(client, 40 * MEGABYTE)
            wait_until(lambda: client.sent > 0 and backend.sent > 0, "both have begun to send")
            wait_until_still(lambda: (client.sent, backend.sent), still=0.8)
            before = proxy.open_files()
            steps = [client.reset, backend.go.set]
            for step in steps if first == "client" else reversed(steps):
                step()
                time.sleep(0.3)
        wait_until(lambda: proxy.open_files() <= before - 2, "the proxy has closed both sockets")
        check_quiet(proxy, seconds=0.5)
        proxy.check_unharmed()


def test_urgent_data_does_not_stop_the_rest(start_proxy):
    """Every read stops before an urgent byte (MSG_OOB, tcp(7)); what comes after it must not be forgotten."""
    with SilentBackend() as backend, start_proxy(backend).connect() as client:
        for _ in range(20):
            client.send(b"x" * 100)
            client.socket.send(b"!", socket.MSG_OOB)
            client.send(b"x" * 100)
        wait_until(lambda: backend.received >= 4000, "the backend has got what came before and after")


def test_waiting_to_pass_on_a_reset_costs_no_cpu(start_proxy):
    """The backend has gone, the client reads nothing, but goes on sending: that must not keep the proxy busy."""
    with StreamingBackend(MEGABYTE, reset=True) as backend:
        proxy = start_proxy(backend)
        with proxy.connect(receive_buffer=SMALL_BUFFER) as client:
            client.send(b"as much as you can, please")
            wait_until(lambda: backend.sent == MEGABYTE, "the backend has sent everything", LONG_PATIENCE)
            time.sleep(0.3)
            send_byte_by_byte(client, b"x" * 300)
            check_quiet(proxy, seconds=2, most=0.02)
            client.receive_pattern(MEGABYTE)
            client.expect_reset()


def test_what_a_client_sent_before_it_reset_is_delivered(start_proxy):
    """A slow backend gets what had arrived at the proxy, and then a reset."""
    with StalledBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(pattern(0, 200_000))
            wait_until_acknowledged(client.socket)
            client.reset()
        time.sleep(0.3)
        backend.go.set()
        wait_until(lambda: backend.resets == 1, "the backend has been reset")
        assert backend.received == 200_000


@pytest.mark.not_by_host("to a client that speaks HTTP, a refusal is an answer: see test_refusals.py")
def test_a_refused_client_sees_a_reset(start_proxy):
    """With the backend down, a clean end would look like an empty answer."""
    proxy = start_proxy(free_port())
    for _ in range(10):
        connect_and_be_reset(proxy.port)
    proxy.check_unharmed()


def test_the_kernel_asks_silent_peers_whether_they_are_still_there(start_proxy):
    """A peer that loses its power says nothing. SO_KEEPALIVE, on both sides, finds out; else it stays for ever."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            client.send(b"hello")
            client.receive_exactly(5)
            ours = client.socket.getsockname()[1]

            def timers():
                return {
                    "client": [
                        timer for local, remote, _, timer in tcp_timers() if (local, remote) == (proxy.port, ours)
                    ],
                    "backend": [
                        timer for _, remote, state, timer in tcp_timers() if (remote, state) == (backend.port, "01")
                    ],
                }

            try:
                wait_until(lambda: timers() == {"client": ["02"], "backend": ["02"]}, "both sockets have the timer")
            except AssertionError:
                raise AssertionError(
                    f"the timers of the proxy's two sockets: {timers()}, and not 02, that of SO_KEEPALIVE. "
                    "Hint: a listening socket hands it on to the ones that it accepts"
                ) from None


# --- stalls ------------------------------------------------------------------------------------------


def test_a_stalled_client_costs_neither_memory_nor_cpu(start_proxy):
    """A client that stops reading stops its backend, and the proxy sleeps."""
    with StreamingBackend(10**12) as backend:
        proxy = start_proxy(backend)
        before = proxy.memory()
        with proxy.connect(receive_buffer=SMALL_BUFFER) as client:
            client.send(b"everything, please")
            wait_until(lambda: backend.sent > 0, "the backend has begun to send")
            wait_until_still(lambda: backend.sent)
            check_quiet(proxy)
            assert proxy.memory() - before < MEMORY_GROWTH
            client.receive_pattern(20 * MEGABYTE)  # and it goes on


def test_a_stalled_backend_costs_neither_memory_nor_cpu(start_proxy):
    """A backend that stops reading stops its client, and the proxy sleeps."""
    with StalledBackend() as backend:
        proxy = start_proxy(backend)
        before = proxy.memory()
        with proxy.connect(timeout=LONG_PATIENCE) as client:
            send_pattern_in_background(client, 10**9)
            wait_until(lambda: client.sent > 0, "the client has begun to send")
            stuck = wait_until_still(lambda: client.sent)
            check_quiet(proxy)
            assert proxy.memory() - before < MEMORY_GROWTH
            backend.go.set()  # and it goes on
            wait_until(lambda: client.sent > stuck + 20 * MEGABYTE, "the upload goes on", LONG_PATIENCE)


def test_fifty_stalled_clients_cost_a_buffer_each(start_proxy, strict):
    """What waits is bounded for each direction of each connection."""
    with StreamingBackend(10**12) as backend:
        proxy = start_proxy(backend)
        before = proxy.memory()
        clients = [proxy.connect(receive_buffer=SMALL_BUFFER) for _ in range(50)]
        for client in clients:
            client.send(b"everything, please")
        wait_until(lambda: backend.sent > 50 * SMALL_BUFFER, "the backends send")
        wait_until_still(lambda: backend.sent)
        growth = proxy.memory() - before
        most = 400_000 if strict else 2_000_000  # a student's buffers may be larger, as long as they end
        assert growth < 50 * most, f"{growth / 50:,.0f} bytes for each client. Hint: a buffer of less than {most:,}"
        for client in clients:
            client.reset()
        proxy.check_unharmed()


def test_an_idle_client_costs_little_memory(start_proxy, strict):
    """A connection that is open, and silent, is two sockets and what the proxy has to know of them."""
    with Puppet() as backend:  # a student's proxy may need more, as long as it isn't a buffer for each
        check_idle_clients(start_proxy(backend), backend, most=2000 if strict else 50_000)


@pytest.mark.parametrize("closer", ["client", "backend"])
def test_a_half_closed_connection_costs_no_cpu(start_proxy, closer):
    """One direction has ended, the other is silent: that is a state to sleep in."""
    with Puppet() if closer == "client" else DuplexBackend(10) as backend:
        proxy = start_proxy(backend)
        with proxy.connect() as client:
            wait_until(lambda: backend.connections, "the proxy has connected to the backend")
            before = proxy.open_files()
            if closer == "client":
                client.half_close()
                backend.expect_end()
            else:
                client.receive_pattern(10)
                client.expect_end()
            check_quiet(proxy)
            assert proxy.open_files() >= before, "it has closed a pair that is still open in one direction"


def test_descriptors_run_out_and_come_back(start_proxy, command):
    """With a limit of 64 and 200 clients, all of them are served, a few at a time; waiting costs no CPU."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        proxy.limit_open_files(64)
        clients = [proxy.connect(timeout=LONG_PATIENCE) for _ in range(200)]
        for client in clients:
            client.send(b"hello")
        wait_until(lambda: backend.received > 0, "the first are served")
        wait_until_still(lambda: backend.received)
        assert backend.received < 200 * 5
        check_quiet(proxy)
        for client in clients:
            assert client.receive_exactly(5) == b"hello"
            client.close()
        proxy.check_unharmed()
    # The backend has gone, and the proxy has a descriptor to find that out.
    connect_and_be_turned_away(proxy.port, b"HTTP/1.1 502 " if command.by_host else b"")


# --- fairness ----------------------------------------------------------------------------------------


def test_ten_streams_get_their_share(start_proxy):
    """Ten streams at full speed: after a second and a half, none has less than a tenth of what the luckiest has."""
    received = [0] * 10
    stop = 0

    def take(number, client):
        while time.monotonic() < stop:
            received[number] += len(client.receive())
        client.reset()

    with StreamingBackend(10**12) as backend:
        proxy = start_proxy(backend)
        threads = []
        for number in range(10):
            client = proxy.connect()
            client.send(b"everything, please")
            threads.append(threading.Thread(target=take, args=(number, client)))
        stop = time.monotonic() + 1.5
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert min(received) > max(received) / 10, f"bytes received: {received}"


# --- everything mixed --------------------------------------------------------------------------------


class MixedClient(threading.Thread):
    """Does random things to a proxy for a few seconds; what goes wrong is kept in `complaints`."""

    def __init__(self, proxy, seed, seconds):
        """Prepare; the proxy is in front of an echo."""
        super().__init__(daemon=True)
        self.proxy = proxy
        self.random = random.Random(seed)
        self.deadline = time.monotonic() + seconds
        self.transfers = 0  # completed and checked
        self.complaints = []

    def run(self):
        """Do one random thing after another."""
        while time.monotonic() < self.deadline and not self.complaints:
            do = self.random.choice([self.echo, self.echo, self.half_close, self.abort, self.leave])
            try:
                do()
            except AssertionError as error:
                self.complaints.append(f"{do.__name__}: {error}")

    def connect(self):
        """Return a client; now and then, a slow reader."""
        small = self.random.random() < 0.3
        return self.proxy.connect(receive_buffer=SMALL_BUFFER if small else None, timeout=LONG_PATIENCE)

    def size(self):
        """Return a random size in bytes, from 1 to a few million, each order of magnitude equally likely."""
        return int(10 ** self.random.uniform(0, 6.5))

    def echo(self):
        """Send, get it all back, once or several times on one connection."""
        with self.connect() as client:
            for _ in range(self.random.randint(1, 4)):
                size = self.size()
                sender = send_pattern_in_background(client, size)
                if self.random.random() < 0.3:
                    time.sleep(self.random.uniform(0, 0.1))
                client.receive_pattern(size)
                sender.join(LONG_PATIENCE)
                self.transfers += 1

    def half_close(self):
        """Send, half-close, get it all back, and the end."""
        with self.connect() as client:
            size = self.size()
            sender = send_pattern_in_background(client, size)
            if size < 100_000:  # half-close before anything was read
                sender.join(LONG_PATIENCE)
                client.half_close()
                client.receive_pattern(size)
            else:
                client.receive_pattern(size)
                sender.join(LONG_PATIENCE)
                client.half_close()
            client.expect_end()
            self.transfers += 1

    def abort(self):
        """Send, and vanish somewhere along the way."""
        with self.connect() as client:
            size = self.size()
            sender = send_pattern_in_background(client, size)
            client.receive_pattern(self.random.randint(0, size))
            client.reset()
            sender.join(LONG_PATIENCE)

    def leave(self):
        """Connect and close again."""
        self.connect().close()


def test_a_random_mix_of_everything(start_proxy):
    """Sizes, speeds, aborts and half-closes at random, eight at a time; every completed transfer is checked."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # pytest shows it when the test fails
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        proxy.connect().close()
        wait_until_still(proxy.open_files, still=0.2)
        before = proxy.open_files()
        clients = [MixedClient(proxy, seed + number, seconds=5) for number in range(8)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(2 * LONG_PATIENCE)
        assert not any(client.is_alive() for client in clients), f"seed {seed}: a transfer hangs"
        complaints = [complaint for client in clients for complaint in client.complaints]
        assert not complaints, f"seed {seed}: {complaints[0]}"
        assert sum(client.transfers for client in clients) > 20, f"seed {seed}: hardly anything was transferred"
        proxy.check_unharmed()
        wait_until(lambda: proxy.open_files() <= before, f"{before} open descriptors, as before", LONG_PATIENCE)
        check_quiet(proxy)


# --- a backend that leads back ------------------------------------------------------------------------


@pytest.mark.parametrize("address", [HOST, "0.0.0.0", "127.1.2.3", "::ffff:127.0.0.1"])
def test_a_backend_that_is_the_proxy_itself_is_refused_at_the_start(command, tmp_path, address):
    """A slip in a port; each request would connect to the proxy, which would connect to itself, and so on."""
    if not command.takes_config or command.forgiving:
        pytest.skip("where it listens is for its own page to say")
    port = free_port()
    line = check_one_line(run_briefly(command.fill_in(port, address, port, tmp_path)), f"{address}:{port}", "listens")
    assert line.startswith("Error parsing config file: ") and "ort must be another server's" in line, line


@pytest.mark.not_by_host("how a config with hosts says it is asked in test_hosts.py")
def test_another_server_at_the_same_port_is_no_mistake(start_proxy):
    """The port is the same, the address is another machine's, as where all machines serve at port 80."""
    proxy = start_proxy(free_port(), wait=False)
    proxy.stop()
    proxy = start_proxy(proxy.port, backend_host="192.0.2.1")
    proxy.check_alive()


class Detour(EchoBackend):
    """Another proxy: passes on all that it gets to a Proxy; an echo, as long as there is none."""

    target = None  # the Proxy

    def serve(self, connection):
        """Pass bytes on, both ways."""
        if self.target is None:
            super().serve(connection)
            return
        with self.target.connect(timeout=LONG_PATIENCE) as other:
            way_back = threading.Thread(target=self.copy, args=(other.socket, connection), daemon=True)
            way_back.start()
            self.copy(connection, other.socket)
            way_back.join(LONG_PATIENCE)

    def copy(self, source, target):
        """Pass bytes on, one way, and the end; where something goes wrong, end both ways."""
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for sock in (source, target):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


def test_a_knot_of_proxies_is_undone(start_proxy):
    """The backend leads back here by way of another proxy, until no descriptor is left, and each waits for the next.

    The client has left, the other proxy is put right, and the next client is served in some seconds.
    """
    with Detour() as detour:
        proxy = start_proxy(detour)
        proxy.connect().close()
        wait_until(lambda: detour.ends, "the first client has come and gone")
        limit = wait_until_still(proxy.open_files, still=0.2) + 20
        proxy.limit_open_files(limit)  # before anything can go round
        detour.target = proxy
        with proxy.connect() as client:
            client.send(b"round and round")
            wait_until(lambda: proxy.open_files() >= limit - 1, "the descriptors are in use", LONG_PATIENCE)
            wait_until_still(proxy.open_files)
            wait_until(lambda: is_somebody_waiting(proxy.port), "the last one waits in the queue")
        detour.target = None
        with proxy.connect(timeout=4 * PATIENCE) as client:
            client.send(b"hello")
            assert client.receive_exactly(5) == b"hello"
        wait_until(lambda: proxy.open_files() < limit - 10, "the knot's descriptors are free", LONG_PATIENCE)
        proxy.check_unharmed()


def test_a_client_that_waits_for_a_descriptor_is_not_turned_away_while_the_others_go_on(start_proxy):
    """They take their time, longer than any limit on a standstill; then it is its turn."""
    with EchoBackend() as backend:
        proxy = start_proxy(backend)
        proxy.connect().close()
        wait_until_still(proxy.open_files, still=0.2)
        proxy.limit_open_files(proxy.open_files() + 8)
        busy = [proxy.connect() for _ in range(3)]
        for client in busy:
            client.send(b"hello")
            client.receive_exactly(5)
        waiting = [proxy.connect(timeout=LONG_PATIENCE) for _ in range(6)]
        for client in waiting:
            client.send(b"me too")
        end = time.monotonic() + 7
        while time.monotonic() < end:
            for client in busy:
                client.send(b"more")
                client.receive_exactly(4)
            time.sleep(0.2)
        for client in busy:
            client.close()
        for client in waiting:
            assert client.receive_exactly(6) == b"me too"
            client.close()
        proxy.check_unharmed()
