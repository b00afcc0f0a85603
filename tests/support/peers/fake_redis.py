"""A redis that does as a test says, for what no real one does on demand: late answers, nonsense, the worst moment."""

from support.packages import packages_needed
from support.peers.backends import Backend

with packages_needed():
    import hiredis

HELLO = b"%1\r\n+server\r\n+redis\r\n"
OK, PONG, NOTHING = b"+OK\r\n", b"+PONG\r\n", b"*0\r\n"


def set_reply(*members):
    """Return the bytes of a set."""
    return b"~%d\r\n" % len(members) + b"".join(b"$%d\r\n%b\r\n" % (len(m), m) for m in map(str.encode, members))


def invalidation(*names):
    """Return the bytes of the push that says that the sets of some hosts have changed; without a name, all keys."""
    if not names:
        return b">2\r\n$10\r\ninvalidate\r\n_\r\n"
    keys = b"".join(b"$%d\r\n%b\r\n" % (len(key), key) for key in (f"hostnames:{n}:backends".encode() for n in names))
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n" % len(names) + keys


class FakeRedis(Backend):
    """Takes redis's commands, and answers them as `replies` says: by the command's name, or its name and first word.

    A reply is bytes, or a function that takes the command and returns some. None: that command is never answered.
    What has no reply here gets an empty list.
    """

    def __init__(self, replies=None, **options):
        """Take the replies, a dictionary such as {"SRANDMEMBER": set_reply("127.0.0.1:80")}."""
        self.replies = {"HELLO": HELLO, "CLIENT": OK, "SELECT": OK, "PING": PONG} | (replies or {})
        self.commands = []  # all that have come, each a list of strings
        super().__init__(**options)

    def serve(self, connection):
        """Answer one command after another."""
        reader = hiredis.Reader()
        while data := self.receive(connection):
            reader.feed(data)
            while command := reader.gets():
                words = [word.decode() for word in command]
                self.commands.append(words)
                reply = self.replies.get(" ".join(words[:2]), self.replies.get(words[0], NOTHING))
                reply = reply(words) if callable(reply) else reply
                if reply:
                    self.send(connection, reply)

    def asked(self, key):
        """Return how often the value of a key has been asked for."""
        return sum(command[1:2] == [key] and command[0] != "PTTL" for command in self.commands)

    def push(self, data):
        """Send bytes that nobody has asked for to the last one who has connected."""
        self.send(self.connections[-1], data)
