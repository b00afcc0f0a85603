-- Settings for part 5: three backends, spread by weight, checked every 3 s. Times are milliseconds.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"
local first = os.getenv("RSP_BACKEND_PORT") or "8001" -- and the next two ports

backends = {
  {address = "127.0.0.1", port = first},                    -- weight = 1, when nothing is said
  {address = "127.0.0.1", port = first + 1, weight = 2},    -- gets twice as many clients
  {address = "127.0.0.1", port = first + 2, backup = true}, -- only when no other is up
}

balance = "round_robin"   -- or "least_conn", "random" (the better of two), "ip_hash" (an address keeps its backend)
-- function balance(client, backends) return backends[2] end   -- or your own

check = {interval = 3000, rise = 2, fall = 5, timeout = 1000}   -- a connect is enough; or ask, and look at the status:
-- check = {type = "http", send = "GET /health HTTP/1.0\r\n\r\n", expect = {200, 399}}

maxFails = 1          -- this many failed connects of real clients within failTimeout,
failTimeout = 10000   -- and a backend is left out for as long
connectTimeout = 2000 -- then the next backend is tried
