-- Three backends behind one address, by name; there is no default. Without the environment's ports: 8000 and 8443.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"
listenTlsPort = os.getenv("RSP_LISTEN_TLS_PORT") or "8443"

hosts = {
  ["shop.example"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"}}},
  ["*.shop.example"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_B") or "8002"}}},
  ["*.eu.shop.example"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_C") or "8003"}}},
}
