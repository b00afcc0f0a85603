"""The scenes of the live page: each asks before it shows, and what really happens is the judge.

They are in scenes.json. `setup` and `reveal` are lists of steps: an order, as the page gives it, {"wait": seconds},
{"mark": name}, or {"until": what, "most": seconds}. `judge` names a function in page/judges.js. It looks at everything
that happened, and returns the key of the choice that has come true, and how it can be seen.
"""

import asyncio
import json
import pathlib
import time

QUIET_SECONDS = {"quiet": 0.8, "served": 2.5}  # without any news: nothing goes on any more
SCENES = {scene["name"]: scene for scene in json.loads(pathlib.Path(__file__).with_name("scenes.json").read_text())}


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
    if any(step.get("do") == "pace" for step in scene["setup"]):
        await show.do({"do": "pace", "pace": "live"})


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
        quiet = time.monotonic() - show.began - show.messages[-1]["at"] > QUIET_SECONDS[what]
        if quiet or (what == "served" and all_served(show)):
            return


def all_served(show):
    """Return True if each client has all the bytes that it asked for, or its connection has ended."""
    clients = [client for stage in show.stages for client in stage.clients.values()]
    return all(client.body >= client.expected or client.state != "connected" for client in clients)
