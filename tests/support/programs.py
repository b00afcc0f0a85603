"""System programs that some tests, notebooks and the benchmark start, and the Debian packages that provide them.

Nothing else in the course needs them. A test says so with `@pytest.mark.needs("curl")`, and is left out where curl is
missing. Run as a program, this file prints the packages that are missing here, one a line.
"""

import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterable

STREAM_MODULE = "ngx_stream_module"  # of nginx; not a program, but a package
PACKAGES = {  # program -> Debian package
    "ab": "apache2-utils",
    "bash": "bash",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "curl": "curl",
    "diff": "diffutils",
    "git": "git",
    "haproxy": "haproxy",
    "make": "make",
    "nc": "netcat-openbsd",
    "nginx": "nginx",
    "node": "nodejs",
    "redis-server": "redis-server",
    STREAM_MODULE: "libnginx-mod-stream",
    "sniproxy": "sniproxy",
    "strace": "strace",
    "valgrind": "valgrind",
    "wrk": "wrk",
}
MODULE_PLACES = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules"]


def find(program: str) -> str | None:
    """Return the path of a program, or None.

    Servers are in sbin directories, where only root's PATH leads: beside each bin directory, its sbin is searched too.
    """
    places = [pathlib.Path(place) for place in os.environ.get("PATH", os.defpath).split(os.pathsep)]
    places += [place.parent / "sbin" for place in places if place.name == "bin"]
    return shutil.which(program, path=os.pathsep.join(map(str, places)))


def stream_module() -> str | None:
    """Return the path of nginx's stream module, "" when it is built in, or None when there is none."""
    nginx = find("nginx")
    if nginx is None:
        return None
    built = subprocess.run([nginx, "-V"], capture_output=True, text=True).stderr.split()
    if "--with-stream" in built:
        return ""
    paths = [pathlib.Path(place, f"{STREAM_MODULE}.so") for place in MODULE_PLACES]
    return next((str(path) for path in paths if path.exists()), None)


def missing(programs: Iterable[str] = PACKAGES) -> list[str]:
    """Return those of the programs that are not installed here, in their order."""
    return [name for name in programs if (stream_module() if name == STREAM_MODULE else find(name)) is None]


def install_command(programs: Iterable[str]) -> str:
    """Return the one command that installs these programs."""
    return "sudo apt install " + " ".join(sorted({PACKAGES[name] for name in programs}))


if __name__ == "__main__":
    print("\n".join(PACKAGES[name] for name in missing()))
