"""Runs rsp.py on a system without epoll, as macOS is one: python without_epoll.py rsp.py 8000 127.0.0.1 8001."""

import pathlib
import runpy
import select
import sys

for name in [name for name in vars(select) if name.lower().startswith("epoll")]:
    delattr(select, name)
del sys.argv[0]
sys.path[0] = str(pathlib.Path(sys.argv[0]).resolve().parent)  # as Python does when it starts rsp.py directly
runpy.run_path(sys.argv[0], run_name="__main__")
