"""The connection to redis: one more handler in the loop, which never waits for it.

Questions go out, and replies come back in the same order; meanwhile the loop goes on. redis itself says when a key that
matters has changed: the connection asks for that with CLIENT TRACKING, and what comes is called a push. hiredis reads
both. See redis.io: "Redis serialization protocol" (RESP3), "Client-side caching in Redis".
"""

import collections
import errno
import logging
import os
import socket
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT

from epollinterface import (
    Deadlines,
    add_epoll_handler,
    call_later,
    outlive_error,
    remove_epoll_handler,
    repeat_epoll_event,
)
from netutils import NON_BLOCKING_STREAM, create_backend_socket

try:
    import hiredis
except ImportError:
    hiredis = None  # settings.py says so when a config has redis

ANSWER_SECONDS = 1  # that a question may take; then its caller hears that there is no answer
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5  # seconds between attempts to connect: each is twice the last one
CONNECT_SECONDS = 2  # that a connect may take, and the greeting after it
FIRST_BEAT_SECONDS = 1  # until the first ping; its answer proves that the connection works
BEAT_SECONDS = 5  # between pings; a redis that leaves one unanswered for as long is given up
CHUNK = 65536  # bytes a read
LONGEST_REPLY = 16_777_216  # bytes; a longer one can't be the answer to a question of ours

NOT_YET = object()  # hiredis: the reply is not all there
DOWN, CONNECTING, GREETING, READY = "down", "connecting", "greeting", "ready"


def unix_address(path):
    """Return the address of a Unix socket, in the form that getaddrinfo(3) lists others in."""
    return socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path


def create_redis_socket(family):
    """Return a new non-blocking socket of an address family, which may be that of Unix sockets."""
    if family == socket.AF_UNIX:
        return socket.socket(family, NON_BLOCKING_STREAM)
    return create_backend_socket(family)


class NoAnswer(Exception):
    """redis did not answer in time."""

    status, cause = 503, "the hosts can't be looked up now"  # for the client


class Query:
    """Some commands for redis, and the function that gets the replies."""

    def __init__(self, commands, tell):
        """Each command is a tuple of words; tell(replies) gets a list, or None when there is no answer."""
        self.commands = commands
        self.tell = tell
        self.replies = []

    def answer(self, replies):
        """Call tell with the replies, unless that has been done."""
        tell, self.tell = self.tell, None
        if tell:
            tell(replies)

    def time_out(self):
        """Say that there is no answer; one that comes later is dropped."""
        self.answer(None)


class RedisConnection:
    """Asks redis, and keeps connecting to it for as long as it takes."""

    def __init__(self, name, addresses, user="default", password=None, database=0, prefixes=()):
        """Prepare; start() connects. The `listeners` hear about changes of the keys with these prefixes.

        The addresses are as getaddrinfo(3) lists them; see also unix_address.
        """
        self.name = name  # for the log: ADDRESS:PORT, or a path
        self.all_addresses = addresses
        self.greeting = [("HELLO", "3", *(("AUTH", user, password) if password else ()))]
        self.greeting += [("SELECT", str(database))] if database else []
        tracking = [word for prefix in prefixes for word in ("PREFIX", prefix)]
        self.greeting.append(("CLIENT", "TRACKING", "ON", "BCAST", *tracking))
        self.listeners = []  # each gets changed(key), None for all keys, and connected()
        self.state = DOWN
        self.addresses = iter(())  # the ones left to try
        self.socket = None
        self.fd = None  # the loop's key for this handler
        self.reader = None  # hiredis's
        self.unread = 0  # bytes of a reply that is not whole yet
        self.write_buffer = bytearray()  # what the socket has not taken yet
        self.queued = collections.deque()  # questions that have not been sent
        self.in_flight = collections.deque()  # questions that have, in their order
        self.deadlines = Deadlines(ANSWER_SECONDS, Query.time_out)
        self.ping = None  # the last Query of beat
        self.pause = SHORTEST_PAUSE
        self.generation = 0  # of the connection, for its timers
        self.complaint = None  # what the log said last; None when all was well

    def start(self):
        """Begin connecting."""
        self.addresses = iter(self.all_addresses)
        self.connect(errno.EADDRNOTAVAIL)

    def ask(self, tell, *commands):
        """Ask redis; tell(replies) is called later, never at once: with a list, or with None in ANSWER_SECONDS."""
        question = Query(commands, tell)
        self.deadlines.start(question)
        while self.queued and not self.queued[0].tell:  # no client waits any more for the oldest ones
            self.queued.popleft()
        self.queued.append(question)
        if self.state is READY:
            self.send_waiting()

    def is_ready(self):
        """Return True if redis is there, as far as we know."""
        return self.state is READY

    # Connecting

    def connect(self, error_number):
        """Start connecting to the next address; with none left, wait a while, because of this error."""
        for family, _, _, _, address in self.addresses:
            try:
                self.socket = create_redis_socket(family)
                self.fd = self.socket.fileno()
                error_number = self.socket.connect_ex(address)
                if error_number in (0, errno.EINPROGRESS):
                    add_epoll_handler(self, EPOLLOUT)
                    self.state = CONNECTING
                    self.generation += 1
                    call_later(CONNECT_SECONDS, self.time_out, self.generation)
                    return
            except OSError as error:
                error_number = error.errno
            self.close()
        self.lose(os.strerror(error_number))

    def finish_connecting(self):
        """Greet redis, or go on to the next address."""
        error_number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error_number:
            self.close()
            self.connect(error_number)
            return
        self.state = GREETING
        self.reader = hiredis.Reader(notEnoughData=NOT_YET)
        self.unread = 0
        self.send(Query(self.greeting, self.see_greeting))

    def see_greeting(self, replies):
        """Begin to work, unless redis objects."""
        if replies is None:
            return
        for command, reply in zip(self.greeting, replies, strict=True):
            if isinstance(reply, hiredis.ReplyError):
                too_old = command[0] == "HELLO" and str(reply).startswith("ERR unknown command")
                self.lose("it is older than redis 6, and knows no RESP3" if too_old else str(reply).rstrip("."))
                return
        self.state = READY
        if self.complaint:
            logging.error("Connected to redis at %s", self.name)
            self.complaint = None
        for listener in self.listeners:
            listener.connected()
        call_later(FIRST_BEAT_SECONDS, self.heartbeat, self.generation)
        self.send_waiting()

    def time_out(self, generation):
        """Give up a connection that has not come to anything."""
        if generation == self.generation and self.state in (CONNECTING, GREETING):
            self.lose(f"no answer in {CONNECT_SECONDS} s")

    def heartbeat(self, generation):
        """Give up a connection that is silent; otherwise ask for a sign of life."""
        if generation != self.generation or self.state is not READY:
            return
        if self.ping in self.in_flight:
            self.lose(f"no answer in {BEAT_SECONDS} s")
            return
        self.ping = Query([("PING",)], None)
        self.send(self.ping)
        call_later(BEAT_SECONDS, self.heartbeat, generation)

    def lose(self, reason):
        """Close the connection, and try again after a pause; questions without an answer are asked once more then."""
        self.close()
        self.state = DOWN
        self.generation += 1
        self.write_buffer.clear()
        asked = [question for question in self.in_flight if question.tell and question.tell != self.see_greeting]
        for question in asked:
            question.replies.clear()
        self.queued.extendleft(reversed(asked))
        self.in_flight.clear()
        if reason != self.complaint:
            logging.error("No connection to redis at %s: %s. Trying again.", self.name, reason)
            self.complaint = reason
        call_later(self.pause, self.start)
        self.pause = min(2 * self.pause, LONGEST_PAUSE)

    def fail(self):
        """Connect again, after an exception that leaves the connection in an unknown state: the loop calls this."""
        self.lose("a mistake in this program")

    def close(self):
        """Close the socket, at once: it has had its event of this round."""
        if self.socket is not None:
            remove_epoll_handler(self)
            self.socket.close()
            self.socket = None

    # Talking

    def handle(self, events):
        """Do what the events call for."""
        try:
            if self.state is CONNECTING:
                self.finish_connecting()
                return
            if events & EPOLLOUT:
                self.flush()
            if events & (EPOLLIN | EPOLLHUP | EPOLLERR):
                self.receive()
        except OSError as error:
            self.lose(error.strerror)
        except hiredis.ProtocolError:
            self.lose("it does not speak as redis does")

    def send_waiting(self):
        """Send the questions that a client still waits for."""
        while self.queued:
            question = self.queued.popleft()
            if question.tell:
                self.send(question)

    def send(self, question):
        """Send a question; what the socket does not take now waits, and EPOLLOUT says when it does."""
        self.in_flight.append(question)
        for command in question.commands:
            self.write_buffer += hiredis.pack_command(command)
        repeat_epoll_event(self, EPOLLIN | EPOLLOUT)

    def flush(self):
        """Write what waits."""
        if self.write_buffer:
            del self.write_buffer[: self.socket.send(self.write_buffer)]
        if not self.write_buffer:
            repeat_epoll_event(self, EPOLLIN)

    def receive(self):
        """Read what has come: answers go to the questions, pushes to the listeners."""
        data = self.socket.recv(CHUNK)
        if not data:
            self.lose("it has ended the connection")
            return
        self.reader.feed(data)
        self.unread += len(data)
        generation = self.generation
        while generation == self.generation and (reply := self.next_reply()) is not NOT_YET:
            self.unread = 0
            if isinstance(reply, hiredis.PushNotification):
                self.see_push(reply)
            else:
                self.see_reply(reply)
        if self.unread > LONGEST_REPLY:
            if self.in_flight:
                self.in_flight[0].time_out()  # asked once more, it would have as long a reply again
            self.lose(f"a reply of more than {LONGEST_REPLY} bytes")

    def next_reply(self):
        """Return the next reply, or NOT_YET; raise ProtocolError for anything else."""
        try:
            return self.reader.gets()
        except TypeError:  # a map whose keys are lists or maps: Python has no such thing, and redis sends none
            raise hiredis.ProtocolError from None

    def see_push(self, push):
        """Tell the listeners which keys have changed; all of them have after FLUSHALL."""
        kind, keys = (*push, None, None)[:2]
        if kind != b"invalidate":
            return
        keys = [None] if keys is None else keys
        if not isinstance(keys, list) or not all(key is None or isinstance(key, bytes) for key in keys):
            raise hiredis.ProtocolError
        for key in keys:
            for listener in self.listeners:
                listener.changed(key)

    def see_reply(self, reply):
        """Add a reply to the first question in line."""
        if not self.in_flight:
            self.lose("it answers without having been asked")
            return
        question = self.in_flight[0]
        question.replies.append(reply)
        if len(question.replies) == len(question.commands):
            self.in_flight.popleft()
            self.deadlines.stop(question)
            if self.state is READY:  # not before: it may be one that greets us, and ends the connection
                self.pause = SHORTEST_PAUSE
            try:
                question.answer(question.replies)
            except Exception:  # it costs this question, and not the connection
                outlive_error(question)
