-- A config whose function gives every client to round robin, so far.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"

backends = {
  {address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"},
  {address = "127.0.0.1", port = os.getenv("RSP_BACKEND_B") or "8002"},
}

function balance(client, backends)
  return nil
end
