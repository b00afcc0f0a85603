"""How to repeat a test of test_behaviours.py by hand: a backend, your proxy, a line with curl or nc, what it shows.

The lines use the ports of the READMEs, 8000 for the proxy and 8001 for its backend. In them, $proxy is the number of
the proxy's process and $backend that of the backend's.
"""

import shlex
import sys
from dataclasses import dataclass

GET = "curl -si http://127.0.0.1:8000/"
HELLO = "Hello from the backend."  # what the page / says


@dataclass(frozen=True)
class ByHand:
    """The lines for one test."""

    client: str  # what to paste when the backend and the proxy are running
    shows: str = HELLO  # what should be among its output
    backend: str = "http"  # which of the backends of tests/backend.py
    limit: str = ""  # a shell command to run before the proxy starts

    def lines(self, words):
        """Return all the lines to paste, one after another; the words start the proxy, with {port} and the like."""
        settings = {"{port}": "8000", "{backend_host}": "127.0.0.1", "{backend_port}": "8001", "{config}": "config.lua"}
        words = ["python" if word == sys.executable else word for word in words]
        for name, value in settings.items():
            words = [word.replace(name, value) for word in words]
        start = shlex.join(words)
        if self.limit:
            start = f"({self.limit}; exec {start})"
        return [
            f"python tests/backend.py {self.backend} & backend=$!",
            f"{start} & proxy=$!",
            "sleep 1",
            self.client,
            "kill $proxy $backend",
        ]


def get(path, rest=""):
    """Return the curl line that asks for a page."""
    return f'curl -s "http://127.0.0.1:8000{path}"{rest}'


def say(words, seconds=3):
    """Return the nc line that says what a shell command prints, and shows what comes back within some seconds."""
    return f"({words}) | timeout {seconds} nc 127.0.0.1 8000"


SILENT_CLIENT = "sleep 4 | timeout 4 nc 127.0.0.1 8000 &"
BROKEN_OFF = get("/bytes?count=20000000", " --limit-rate 1M -m 0.3 -o /dev/null")
TWO_PIECES = ByHand(say(r"printf 'GET / HTTP/1.0\r\n'; sleep 0.5; printf '\r\n'; sleep 1"))
FILES = "ls /proc/$proxy/fd | wc -l"
RESTART = "python tests/backend.py http & backend=$!; sleep 1"
HOPELESS = "sleep 1; echo hopeless | timeout 1 nc 127.0.0.1 8000; sleep 3"

BY_HAND = {  # a test of test_behaviours.py -> its lines
    # serves requests
    "a_request_gets_its_answer": ByHand(GET),
    "requests_are_served_one_after_another": ByHand(f"{GET}; {GET}; {GET}"),
    "an_error_response_is_relayed_like_any_other": ByHand(get("/status?code=404", " -i"), "404 Not Found"),
    "a_chunked_response_arrives_whole": ByHand(get("/chunked?count=300000", " | wc -c"), "300000"),
    "every_byte_value_passes_in_both_directions": ByHand(
        say(r"printf 'a\0\377b'; sleep 0.5") + " | od -c", r"a  \0 377   b", "echo"
    ),
    # several at once
    "four_slow_answers_come_at_the_same_time": ByHand(
        f"time (for i in 1 2 3 4; do {get('/slow?seconds=1')} & done; wait)", "real\t0m1."
    ),
    "an_idle_client_holds_up_no_other_client": ByHand(f"{SILENT_CLIENT} sleep 0.5; {GET} -m 3"),
    "a_stream_at_full_speed_leaves_room_for_a_small_request": ByHand(
        f"{get('/bytes?count=100000000000', ' -m 4 -o /dev/null')} & sleep 0.5; "
        f"{get('/bytes?count=100000', ' -m 3 | wc -c')}",
        "100000",
    ),
    "a_request_may_arrive_in_two_pieces": TWO_PIECES,
    "a_request_may_arrive_byte_by_byte": TWO_PIECES,
    "one_connection_serves_many_requests": ByHand(
        get("/", " -v http://127.0.0.1:8000/ 2>&1"), "Re-using existing connection"
    ),
    "an_echo_answers_again_and_again": ByHand(say("echo one; sleep 0.5; echo two; sleep 0.5"), "two", "echo"),
    "both_sides_talk_at_once": ByHand(say("echo hello; sleep 1; echo again; sleep 1"), "tick", "push"),
    # slow sides
    "a_slow_client_gets_every_byte": ByHand(get("/bytes?count=20000000", " --limit-rate 10M | wc -c"), "20000000"),
    "a_slow_backend_gets_every_byte_of_an_upload": ByHand(
        f"head -c 20000000 /dev/zero | {get('/sum', ' --data-binary @-')}", '"length": 20000000', "slow"
    ),
    "a_half_closed_client_still_gets_its_answer": ByHand(
        r"printf 'GET /slow?seconds=0.5 HTTP/1.0\r\n\r\n' | timeout 3 nc -N 127.0.0.1 8000", "Sorry for the wait."
    ),
    "memory_stays_bounded_while_a_client_stalls_in_200_mb": ByHand(
        f"{get('/bytes?count=200000000', ' --limit-rate 1k -m 4 -o /dev/null')} & sleep 2; ps -o rss -p $proxy", "RSS"
    ),
    "a_backend_that_does_not_accept_holds_up_nobody_else": ByHand(
        f"{say('echo one; sleep 2; echo two; sleep 1', 4)} & {HOPELESS}", "two", "full"
    ),
    "a_client_waits_while_descriptors_have_run_out": ByHand(
        f"for i in $(seq 60); do sleep 2 | timeout 2 nc 127.0.0.1 8000 & done; sleep 1; {GET} -m 9",
        limit="ulimit -n 48",
    ),
    # accidents
    "a_client_may_vanish_in_the_middle_of_its_answer": ByHand(f"{BROKEN_OFF}; {GET}"),
    "a_client_may_leave_without_a_word": ByHand(f"nc -z 127.0.0.1 8000; {GET}"),
    "a_backend_may_be_down_and_come_back": ByHand(f"kill $backend; sleep 0.5; {GET}; {RESTART}; {GET}"),
    "a_backend_may_die_in_the_middle_of_its_answer": ByHand(
        f"{get('/die', ' -m 3 -o /dev/null')}; [ $? = 28 ] && echo curl was not told || {GET}"
    ),
    # costs
    "no_file_descriptor_stays_open": ByHand(
        f"{FILES}; for i in 1 2 3 4 5; do {BROKEN_OFF}; done; sleep 1; {FILES}", ""
    ),
    "nothing_to_do_costs_no_cpu": ByHand(f"{SILENT_CLIENT} sleep 2; ps -o time -p $proxy", "00:00:00"),
    # good manners
    "it_says_when_it_is_ready": ByHand("true", "Started."),
    "it_stops_cleanly": ByHand("kill $proxy; sleep 1; kill -0 $proxy 2>/dev/null || echo it is gone", "it is gone"),
}
