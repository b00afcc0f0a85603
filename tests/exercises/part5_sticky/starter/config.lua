-- Sticky sessions, to be written. Without the environment's ports, those of part 5's README.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"

backends = {
  {address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"},
  {address = "127.0.0.1", port = os.getenv("RSP_BACKEND_B") or "8002"},
  {address = "127.0.0.1", port = os.getenv("RSP_BACKEND_C") or "8003"},
}

check = {interval = 50, rise = 2, fall = 2, timeout = 500}   -- so that who is down is known before a client comes

balance = "round_robin"   -- in place of this: function balance(client, backends)
