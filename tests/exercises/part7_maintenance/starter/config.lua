-- Two sites, A and B, and a page that says sorry, C. Without the environment's ports: 8000 and 6379.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"

redis = {address = "127.0.0.1", port = os.getenv("RSP_REDIS_PORT") or "6379"}

hosts = {
  ["shop.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"}}},
  ["blog.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_B") or "8002"}}},
  ["maintenance.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_C") or "8003"}}},
}

function route(request)
  return nil
end
