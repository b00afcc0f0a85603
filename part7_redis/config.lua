-- Settings for part 7: the hosts are in redis, and may change at any time.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"
-- listenTlsPort = "8443"

redis = {address = "127.0.0.1", port = "6379"}   -- also: user, password, database (0)
-- redis = {path = "/run/redis.sock"}            -- a Unix socket, in place of address and port
--   redis-cli sadd hostnames:site1.localhost:backends 127.0.0.1:8001 127.0.0.1:8002
-- A member is ADDRESS or ADDRESS:PORT (80, or 443 for TLS). Names without a set get that of httpDefault or httpsDefault:
--   redis-cli sadd hostnames:httpDefault:backends 127.0.0.1:8003

-- Hosts listed here are not looked up. What part 5 knows holds for the sets in redis as well (balance, maxFails, ...).
-- hosts = {["admin.localhost"] = {backends = {{address = "127.0.0.1", port = "8009"}}}}

-- function route(request)           -- may ask redis: get, exists, hget, smembers and so on
--   local name = redis.get("alias:" .. (request.host or ""))
--   return name                     -- nil, also when redis does not answer, leaves the choice as it is
-- end
