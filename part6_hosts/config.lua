-- Settings for part 6: three sites behind one address, by the name that the client asks for.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"
local first = os.getenv("RSP_BACKEND_PORT") or "8001" -- and the next two ports
-- listenTlsPort = "8443"   -- TLS: by the server name in the first message; certificates stay with the backends
-- listenAddress = "::"     -- IPv6 and IPv4; without it, IPv4 alone

hosts = {
  ["site1.localhost"] = {backends = {{address = "127.0.0.1", port = first}}},
  ["*.site2.localhost"] = {
    backends = {{address = "127.0.0.1", port = first + 1}, {address = "127.0.0.1", port = first + 2}},
    balance = "least_conn",         -- all that part 5 knows: balance, check, maxFails, failTimeout, connectTimeout
    -- sendProxyProtocol = "v1",    -- or "v2": tells the backends the client's address; they must expect it
  },
  default = {backends = {{address = "127.0.0.1", port = first}}},   -- for all other names
}

-- trustedProxies = {"10.0.0.0/8"}   -- what these say in X-Forwarded-For is kept, and added to
-- headTimeout = 10000               -- milliseconds for the whole head of a request, or the first message of TLS

-- function route(request)           -- may choose another host: nil leaves the choice as it is. With a route, each
--                                   -- request has its own connection
--   if request.headers and request.headers.cookie == "try=new" then return "new.site2.localhost" end
-- end
