"""The scenes of the live page: each asks before it shows, and what really happens is the judge.

A scene is a dict of plain values, since the page gets it as it is. `setup` and `reveal` are lists of steps: an order, as
the page gives it, {"wait": seconds}, or {"until": what, "most": seconds}. `judge` names a function in page/judges.js. It
looks at the frames, and returns the key of the choice that has come true, and how it can be seen.
"""

import asyncio
import time

QUIET_SECONDS = 0.8  # without any news: nothing goes on any more

SCENES = {
    scene["name"]: scene
    for scene in [
        {
            "name": "turns",
            "title": "Somebody says nothing",
            "stages": ["1"],
            "for": "You have read the top README.",
            "intro": "Client 1 has connected to the proxy of part 1, and says nothing. Client 2 asks for a small page.",
            "question": "When does client 2 get its page?",
            "choices": {
                "at once": "At once: client 1 asks for nothing, so it costs nothing.",
                "later": "When client 1 has left.",
                "never": "Never: its connection is refused.",
            },
            "explain": "Part 1 serves one client at a time. Its recv waits for client 1, and client 2 waits in the "
            "kernel's queue, connected and not accepted. Part 2 is the answer.",
            "setup": [{"do": "client", "kind": "silent"}, {"wait": 0.5}],
            "reveal": [
                {"do": "client", "kind": "small"},
                {"wait": 2},
                {"do": "close", "number": 1},
                {"until": "quiet", "most": 5},
            ],
            "judge": "whenSecondIsServed",
        },
        {
            "name": "turns_epoll",
            "title": "Somebody says nothing, and there is a loop",
            "stages": ["2"],
            "for": "You have read the top README.",
            "intro": "The same two clients, and the proxy of part 2: one loop, and epoll, which says who is ready.",
            "question": "When does client 2 get its page now?",
            "choices": {
                "at once": "At once.",
                "later": "When client 1 has left.",
                "never": "Never: its connection is refused.",
            },
            "explain": "Nothing in part 2 waits for one client. epoll reports only sockets with news, and client 1 has none.",
            "setup": [{"do": "client", "kind": "silent"}, {"wait": 0.5}],
            "reveal": [
                {"do": "client", "kind": "small"},
                {"wait": 2},
                {"do": "close", "number": 1},
                {"until": "quiet", "most": 5},
            ],
            "judge": "whenSecondIsServed",
        },
        {
            "name": "slow_client",
            "title": "A slow client",
            "stages": ["3", "4"],
            "for": "You have read the top README.",
            "intro": "One client asks for 12 MB, and reads slowly: 3 MB a second. The same client comes to the proxies of "
            "part 3, above, and of part 4, below.",
            "question": "Who gets all 12 MB?",
            "choices": {
                "both": "Both: TCP delivers every byte.",
                "second": "Only the client of part 4.",
                "none": "Neither: a proxy can't wait for slow clients.",
            },
            "explain": "Part 3 reads what the backend sends, and passes it to send. When the client's socket is full, send "
            "takes less than it was given, or nothing. Part 3 never looks at the result, so these bytes are gone: the red "
            "ones. Part 4 keeps them in its write buffer until EPOLLOUT says that there is room.",
            "setup": [],
            "reveal": [
                {"do": "client", "kind": "download", "count": 12_000_000, "rate": 3_000_000},
                {"until": "served", "most": 15},
            ],
            "judge": "whoGotAll",
        },
        {
            "name": "stops_reading",
            "title": "The client stops reading",
            "stages": ["4"],
            "for": "You have read part 4.",
            "intro": "A client asks for 20 MB, and then reads nothing at all. The backend sends as fast as it can.",
            "question": "There are three places where the bytes pile up on their way to the client. Which one is full first?",
            "choices": {
                "client": "The receive queue in the client's kernel.",
                "kernel": "The send queue in the proxy's kernel.",
                "buffer": "The proxy's own write buffer.",
            },
            "explain": "It fills from the far end. The client's kernel takes what it has room for; then the proxy's kernel "
            "can't send on, and its queue grows; only when send takes no more do bytes stay in the write buffer.",
            "setup": [{"do": "pace", "pace": "slow", "delay": 0.3}],
            "reveal": [
                {"do": "client", "kind": "download", "count": 20_000_000, "rate": 0},
                {"until": "quiet", "most": 8},
            ],
            "judge": "whichFillsFirst",
        },
        {
            "name": "back_pressure",
            "title": "Why the backend is quiet",
            "stages": ["4"],
            "for": "You have read part 4.",
            "intro": "A client asks for 60 MB, and reads nothing. A moment later, all is quiet.",
            "question": "How much has the backend been able to send by then?",
            "choices": {
                "all": "All 60 MB: they are in the proxy.",
                "some": "A part of it: as much as fits into the buffers on the way.",
                "nothing": "Nothing: the proxy asks the client first.",
            },
            "explain": "With a full write buffer the proxy stops reading (PAUSED). Then the kernel's queue on the backend's "
            "side fills up, then the backend's own send queue, and its send has to wait. That is back-pressure: the sender "
            "feels how slow the receiver is, and nobody's memory grows.",
            "setup": [],
            "reveal": [
                {"do": "client", "kind": "download", "count": 60_000_000, "rate": 0},
                {"until": "quiet", "most": 6},
            ],
            "judge": "howMuchWasSent",
        },
        {
            "name": "room_again",
            "title": "Room again",
            "stages": ["4"],
            "for": "You have read part 4.",
            "intro": "A client that had stopped reading has filled all the buffers. Now it goes on reading.",
            "question": "Which event on the client's socket makes the proxy send what waits in its write buffer?",
            "choices": {
                "EPOLLIN": "EPOLLIN: there is something to read.",
                "EPOLLOUT": "EPOLLOUT: there is room to write.",
                "none": "None: a timer looks at the buffer now and then.",
            },
            "explain": "EPOLLOUT. With edge triggering it comes once, when the socket has room again after send could not "
            "take everything. Nothing has to ask for it, and nothing turns in circles.",
            "setup": [
                {"do": "client", "kind": "download", "count": 20_000_000, "rate": 0},
                {"until": "quiet", "most": 5},
                {"mark": "reads again"},
            ],
            "reveal": [{"do": "rate", "number": 1, "rate": 8_000_000}, {"until": "served", "most": 12}],
            "judge": "whatMadeItSend",
        },
        {
            "name": "half_close",
            "title": "\u201cThat was my question\u201d",
            "stages": ["3", "4"],
            "for": "You have read part 3.",
            "intro": "A client sends its request and then half-closes: it has finished sending, and waits for the answer. The "
            "backend needs 1.5 seconds for that.",
            "question": "Who gets the answer?",
            "choices": {
                "both": "Both.",
                "second": "Only the client of part 4.",
                "none": "Neither: whoever says goodbye gets nothing.",
            },
            "explain": "For part 3, a client that has finished sending has gone, and it closes both sockets. Part 4 keeps a "
            "state for each direction: this one has ended, and the other goes on.",
            "setup": [],
            "reveal": [
                {"do": "client", "kind": "late", "count": 100_000},
                {"wait": 0.4},
                {"do": "half-close", "number": 1},
                {"wait": 1.6},
                {"until": "quiet", "most": 5},
            ],
            "judge": "whoGotAll",
        },
        {
            "name": "slow_connect",
            "title": "A backend that accepts nobody",
            "stages": ["3", "4"],
            "for": "You have read part 3.",
            "intro": "Client 1 is in the middle of a slow download. Now the backend's queue of new connections is full, and "
            "client 2 comes: the proxy's connect for it gets no answer.",
            "question": "What happens to client 1's download?",
            "choices": {
                "both": "It goes on, in both.",
                "second": "In part 3 it stands still, in part 4 it goes on.",
                "none": "It stands still in both.",
            },
            "explain": "connect is the last call that blocks in part 3: while it waits, the loop does not turn, and all clients "
            "wait with it. In part 4 a connect only begins, and EPOLLOUT says when it has finished.",
            "setup": [
                {"do": "client", "kind": "download", "count": 30_000_000, "rate": 1_000_000},
                {"wait": 1},
                {"do": "fill", "backend": 0},
                {"mark": "full"},
            ],
            "reveal": [
                {"do": "rate", "number": 1, "rate": 4_000_000},
                {"do": "client", "kind": "small"},
                {"wait": 3.5},
                {"mark": "end"},
                {"do": "drain", "backend": 0},
            ],
            "judge": "whoGoesOn",
        },
        {
            "name": "reset",
            "title": "Gone in the middle",
            "stages": ["4"],
            "for": "You have read part 4.",
            "intro": "A client is in the middle of a big download when it is reset: its program was killed, say.",
            "question": "What does the backend notice?",
            "choices": {
                "end of file": "An end of file, as if the client had finished.",
                "reset": "A reset: it can't send any more.",
                "nothing": "Nothing: it sends all 40 MB.",
            },
            "explain": "The proxy passes a reset on as a reset. An end of file would tell the backend that all is well.",
            "setup": [
                {"do": "client", "kind": "download", "count": 40_000_000, "rate": 2_000_000},
                {"wait": 1},
                {"mark": "reset"},
            ],
            "reveal": [{"do": "reset", "number": 1}, {"wait": 1}, {"until": "quiet", "most": 4}],
            "judge": "whatTheBackendSaw",
        },
        {
            "name": "one_dies",
            "title": "Five clients, three backends, one dies",
            "stages": ["5"],
            "backends": 3,
            "for": "You have read part 5.",
            "intro": "Five clients are in the middle of slow downloads, spread over three backends. Backend B is killed, and "
            "then three more clients come.",
            "question": "Who loses anything?",
            "choices": {
                "nobody": "Nobody: the others take over what B was doing.",
                "its own": "Only the clients that B was serving. The new ones get A or C.",
                "new too": "B's clients, and one of the new ones: it is B's turn.",
            },
            "explain": "What B was sending is half told, and nobody else can go on with it: its clients are reset. For a "
            "new client, the proxy's connect to B fails at once, and the next backend gets it. The client never notices.",
            "setup": [
                {"do": "pace", "pace": "slow", "delay": 0.03},
                *[{"do": "client", "kind": "download", "count": 60_000_000, "rate": 6_000_000}] * 5,
                {"wait": 1},
                {"mark": "dies"},
            ],
            "reveal": [
                {"do": "kill", "backend": 1},
                {"wait": 0.5},
                *[{"do": "client", "kind": "small"}] * 3,
                {"wait": 3},
                {"mark": "end"},
            ],
            "judge": "whoLost",
        },
    ]
}


async def play(show, scene, answered=False):
    """Play a scene on a Show; `answered`: don't wait for an answer to its question."""
    await show.start(scene["stages"], scene.get("backends"))
    show.tell({"kind": "scene", "name": scene["name"], "phase": "setup"})
    await run(show, scene["setup"])
    show.tell({"kind": "scene", "name": scene["name"], "phase": "question"})
    if not answered:
        await show.next_message("answer")
    show.tell({"kind": "scene", "name": scene["name"], "phase": "reveal"})
    await run(show, scene["reveal"])
    for stage in show.stages:
        stage.tell_peers()
    show.tell({"kind": "scene", "name": scene["name"], "phase": "done"})


async def run(show, steps):
    """Take the steps of a scene, one after another."""
    for step in steps:
        if "wait" in step:
            await asyncio.sleep(step["wait"])
        elif "until" in step:
            await until(show, step["until"], step["most"])
        elif "mark" in step:
            show.tell({"kind": "mark", "text": step["mark"]})
        else:
            await show.do(step)


async def until(show, what, most):
    """Wait until nothing moves any more, or until all clients have what they wait for; so many seconds at most."""
    until = time.monotonic() + most
    while time.monotonic() < until:
        await asyncio.sleep(0.1)
        quiet = time.monotonic() - show.began - show.messages[-1]["at"] > QUIET_SECONDS
        if quiet or (what == "served" and all_served(show)):
            return


def all_served(show):
    """Return True if each client has all the bytes that it asked for, or its connection has ended."""
    clients = [client for stage in show.stages for client in stage.clients.values()]
    return all(client.body >= client.expected or client.state != "connected" for client in clients)
