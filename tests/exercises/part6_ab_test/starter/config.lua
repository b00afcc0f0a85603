-- A shop, its new version, and another site. So far everybody gets what they ask for.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"
listenTlsPort = os.getenv("RSP_LISTEN_TLS_PORT") or "8443"

hosts = {
  ["shop.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"}}},
  ["new.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_B") or "8002"}}},
  ["other.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_C") or "8003"}}},
}

function route(request)
  return nil
end
