"""The two ends a proxy sits between: clients and backends, most of them badly behaved.

    from support.peers import EchoBackend, wait_until

    def test_hello(start_proxy):
        with EchoBackend() as backend, start_proxy(backend).connect() as client:
            client.send(b"hello")
            assert client.receive_exactly(5) == b"hello"

the proxy      proxy = start_proxy(backend): .port .connect() .get("/") .stopped() .memory() .cpu_seconds()
               .open_files() .limit_open_files(count) .errors() .check_unharmed(); all of it: support/harness.py
a client       proxy.connect(), or Client(port), or a slow one with receive_buffer=SMALL_BUFFER; it sends and receives:
                 .send(data) .receive() .receive_exactly(count) .receive_all() .receive_pattern(count, start)
                 .expect_end() .expect_reset() .half_close() .reset() .close() .sent .received
               send_byte_by_byte(client, data)   send_pattern_in_background(client, count)
               connect_and_be_reset(port)   connect_and_be_turned_away(port)
a backend      each has .port .connections .received .sent .ends .resets, and is used in a with-block
  HttpBackend          a web server: / /slow?seconds= /bytes?count= /chunked?count= /status?code= /health /die;
                       POST / and /sum; .healthy: what /health says
  EchoBackend          sends back what it gets
  StreamingBackend     sends `count` bytes of the pattern, then closes (or resets)
  CollectingBackend    reads the pattern, checks it, says how many bytes it got; may be stalled until .go.set()
  DuplexBackend        sends and reads the pattern at the same time
  TurnBackend          answers every request of `size` bytes with as many
  PushingBackend       sends messages unasked while it reads
  Puppet               does nothing; the test itself uses .connection, a socket, .expect(data) .expect_end()
  SilentBackend        reads, and never says a word
  StalledBackend       neither reads nor writes until .go.set()
  JammedBackend        sends all it can, reads nothing, resets on .go.set()
  FullBackend          an echo that, after .fill(), answers no further connect
  Site                 what a host leads to: answers with its name, keeps every request (.seen) and all bytes (.stream);
                       may speak TLS, expect the PROXY protocol, switch to a WebSocket
  Backend              for one of your own: write serve(self, connection)
HTTP by hand   ask(proxy, host, target): an Answer, .status .fields .body .site
               request_text(host, target)   receive_answer(client)
TLS            connect_by_tls(port, name, authority): a Client   hello_bytes(name): a ClientHello
the bytes      pattern(start, count)   pattern_chunks(count)   check_pattern(received, start): names a wrong byte
redis          RedisServer(), the real one: .port .client .set_backends(host, *backends) .calls() .wait_for_proxies()
               .kill() .start() .stopped()
               FakeRedis(replies): answers as it is told, .commands .asked(key) .push(data)
traffic        Traffic(ask, hosts): clients that never stop asking, .go_on(count) .check()
a PROXY header read_proxy_header(data): (client, server, rest), each end a pair; None while it is not all there
waiting        wait_until(condition, what)   wait_until_still(number)   wait_until_acknowledged(socket)
sockets        free_port()   free_ports(count)   set_reset_on_close(socket)   reset_after_delivery(socket)

Every call has a time limit. What goes wrong is an AssertionError that says what was sent and what came back, with a
hint: tests, notebooks and exercises show it unchanged. Everything happens on 127.0.0.1.
"""

from support.peers.backends import (
    Backend,
    CollectingBackend,
    DuplexBackend,
    EchoBackend,
    FullBackend,
    JammedBackend,
    Puppet,
    PushingBackend,
    SilentBackend,
    StalledBackend,
    StreamingBackend,
    TurnBackend,
)
from support.peers.clients import (
    Client,
    connect_and_be_reset,
    connect_and_be_turned_away,
    send_byte_by_byte,
    send_pattern_in_background,
)
from support.peers.fake_redis import FakeRedis, invalidation, set_reply
from support.peers.pattern import CHUNK, PERIOD, check_pattern, pattern, pattern_chunks
from support.peers.proxy_header import read_proxy_header
from support.peers.redis_server import RedisServer, member
from support.peers.sites import (
    Answer,
    Site,
    ask,
    checksum,
    connect_by_tls,
    hello_bytes,
    receive_answer,
    request_text,
)
from support.peers.sockets import (
    HOST,
    SMALL_BUFFER,
    free_port,
    free_ports,
    reset_after_delivery,
    set_reset_on_close,
    wait_until_acknowledged,
)
from support.peers.traffic import Traffic
from support.peers.waiting import LONG_PATIENCE, PATIENCE, wait_until, wait_until_still
from support.peers.web import HttpBackend, HttpHandler, HttpServer

__all__ = [
    "CHUNK",
    "HOST",
    "Answer",
    "Site",
    "ask",
    "checksum",
    "connect_by_tls",
    "hello_bytes",
    "receive_answer",
    "request_text",
    "LONG_PATIENCE",
    "PATIENCE",
    "PERIOD",
    "SMALL_BUFFER",
    "Backend",
    "Client",
    "CollectingBackend",
    "DuplexBackend",
    "EchoBackend",
    "FakeRedis",
    "FullBackend",
    "HttpBackend",
    "HttpHandler",
    "HttpServer",
    "JammedBackend",
    "Puppet",
    "PushingBackend",
    "RedisServer",
    "SilentBackend",
    "StalledBackend",
    "StreamingBackend",
    "Traffic",
    "TurnBackend",
    "check_pattern",
    "connect_and_be_reset",
    "connect_and_be_turned_away",
    "free_port",
    "free_ports",
    "invalidation",
    "member",
    "pattern",
    "pattern_chunks",
    "read_proxy_header",
    "reset_after_delivery",
    "send_byte_by_byte",
    "send_pattern_in_background",
    "set_reply",
    "set_reset_on_close",
    "wait_until",
    "wait_until_acknowledged",
    "wait_until_still",
]
