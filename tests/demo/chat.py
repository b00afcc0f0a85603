"""A chat: what one user says, all see. It is the author's, in Python.

The post "A super-simple chat app with AngularJS, SockJS and node.js" has it in JavaScript ("I'd use Tornado if this was
on PythonAnywhere"); and chats like it were why he looked for a way to have WebSockets and virtual hosts at once, in
"Reverse proxying HTTP and WebSockets with virtual hosts using nginx and tcp_proxy_module". The page is pages/chat.html.
"""

import itertools

import tornado.websocket

LONGEST_MESSAGE = 4000  # bytes


class ChatSocket(tornado.websocket.WebSocketHandler):
    """One user's connection. Every message, either way, is a line of text."""

    users = set()  # the sockets of all who are here
    numbers = itertools.count(1)

    def open(self):
        """Welcome a user, and say where they come from."""
        self.number = next(self.numbers)
        self.users.add(self)
        self.write_message(f"Welcome, User {self.number}")
        client = self.request.headers.get("X-Forwarded-For")
        self.write_message(f"You come from {client}" if client else "I don't know where you come from")

    def on_message(self, message):
        """Pass on what a user says, to themselves too."""
        self.tell_all(f"User {self.number} says: {message}")

    def on_close(self):
        """Say that a user has gone."""
        self.users.discard(self)
        self.tell_all(f"User {self.number} has disconnected")

    def tell_all(self, line):
        """Send a line to all who are here."""
        for user in list(self.users):
            try:
                user.write_message(line)
            except tornado.websocket.WebSocketClosedError:  # on_close is about to be called
                pass
