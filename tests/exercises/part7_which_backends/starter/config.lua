-- Three backends: A is in this config, under shop.localhost; all else is in redis. Without the environment's ports: 8000 and 6379.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"

redis = {address = "127.0.0.1", port = os.getenv("RSP_REDIS_PORT") or "6379"}

hosts = {
  ["shop.localhost"] = {backends = {{address = "127.0.0.1", port = os.getenv("RSP_BACKEND_A") or "8001"}}},
}
