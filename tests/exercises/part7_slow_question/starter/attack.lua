-- Two sites that are in the config, so nothing about them has to be asked for. Without the environment's ports: 8000 and 6379.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"

redis = {address = "127.0.0.1", port = os.getenv("RSP_REDIS_PORT") or "6379"}

hosts = {
  ["shop.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"}}},
  ["blog.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_B") or "8002"}}},
}

function route(request)
  return nil
end
