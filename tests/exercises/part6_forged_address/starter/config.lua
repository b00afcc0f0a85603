-- A site behind a load balancer, 127.0.0.2, which says in X-Forwarded-For who it asks for. So it has to be trusted.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"
trustedProxies = {"127.0.0.0/8"}

hosts = {
  ["shop.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"}}},
}
