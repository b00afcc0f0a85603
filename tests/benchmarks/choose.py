"""What it costs part 5 to choose a backend, in processor time a connection, without any connection.

    python tests/benchmarks/choose.py [--clients N]

It takes part 5's own modules into this process, and asks for a backend as pair.py does for each client.
"""

import argparse
import statistics
import sys
import tempfile
import time

from support.packages import packages_needed
from support.parts import PARTS, ROOT

SETS = 'backends = {} for n = 1, COUNT do backends[n] = {address = "127.0.0.1", port = "8001"} end\n'
IN_TURN = "local turn = 0 function balance(client, backends) turn = turn % #backends + 1 return backends[turn] end"
RULES = {name: f'balance = "{name}"' for name in ("round_robin", "least_conn", "random", "ip_hash")}
RULES["a Lua function"] = IN_TURN
COUNTS = (1, 3, 100)
TIMES = 7  # that the clients come; the median counts


def backend_set(count, rule):
    """Return the BackendSet of a config with `count` backends."""
    from config import read_config_file  # part 5's, once main has said where that is
    from settings import read_settings

    with tempfile.NamedTemporaryFile("w", suffix=".lua") as config:
        config.write('listenPort = "8000"\n' + SETS.replace("COUNT", str(count)) + rule)
        config.flush()
        return read_settings(read_config_file(config.name))[0]


def cost(backends, clients):
    """Return the microseconds of processor time that one client's backend costs to choose, count and let go."""
    found = []
    for _ in range(TIMES):
        start = time.process_time()
        for _ in range(clients):
            backend, _ = next(backends.attempts(("127.0.0.1", 5555)))
            backends.remove_connection(backend)
        found.append(1e6 * (time.process_time() - start) / clients)
    return statistics.median(found)


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=20_000, help="how many choose, seven times each (20000)")
    clients = parser.parse_args().clients
    with packages_needed():
        import lupa  # noqa: F401 which part 5 reads its config with
    sys.path.insert(0, str(ROOT / PARTS[5]))
    print(f"{'µs a connection, backends:':<28}" + "".join(f"{count:>8}" for count in COUNTS))
    for name, rule in RULES.items():
        costs = [cost(backend_set(count, rule), clients) for count in COUNTS]
        print(f"  {name:<26}" + "".join(f"{microseconds:8.1f}" for microseconds in costs))


if __name__ == "__main__":
    main()
