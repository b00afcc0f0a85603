"""The parts of the course, and where they are."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]  # resolve, since this file is also reached through links
PARTS = {
    1: "part1_single",
    2: "part2_epoll",
    3: "part3_lua",
    4: "part4_buffering",
    5: "part5_backends",
    6: "part6_hosts",
    7: "part7_redis",
}
