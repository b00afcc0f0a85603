-- Settings for `make hosts`: many sites behind one address, told apart by the name that a client asks for.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"            -- HTTP: the name is in the Host header
listenTlsPort = os.getenv("RSP_LISTEN_TLS_PORT") or "8443"     -- TLS: it is in the first message, the ClientHello

-- The sites listen on ports that happened to be free. tests/demo/many_sites.py hands them over in the environment.
local function backend(name)
  return {address = "127.0.0.1", port = os.getenv("RSP_DEMO_" .. name)}
end

hosts = {
  -- Two backends, in turn.
  ["site1.localhost"] = {backends = {backend("BLUE"), backend("GREEN")}},

  -- Any name that ends in .site2.localhost, however many labels are in front.
  ["*.site2.localhost"] = {backends = {backend("SITE2")}},

  -- A WebSocket begins as a request, so the Host header leads it to the right backend too.
  ["chat.localhost"] = {backends = {backend("CHAT")}},

  -- The backend has the certificate, and the proxy can't read a byte of what is said. It can't add a header either, so
  -- a separate line, before the first encrypted byte, tells the backend who the client is.
  ["secure.localhost"] = {backends = {backend("SECURE")}, sendProxyProtocol = "v1"},

  -- Whatever else they ask for: 127.0.0.1, a name that is misspelt, or none.
  default = {backends = {backend("FRONT")}},
}

-- A host that is in no table is looked up in redis: moving.localhost. Without a redis, there are only those above.
local address, port = (os.getenv("RSP_DEMO_REDIS") or ""):match("^(.+):(%d+)$")
redis = address and {address = address, port = port}

-- Called for each request and each TLS client. It returns the name of the host to use; nil is the one they asked for.
-- It may send a client's next request elsewhere, so where there is a route, each request has its own connection.
function route(request)
  if request.tls then
    return "secure.localhost"   -- the only site here that speaks TLS
  elseif request.host == "www.site1.localhost" then
    return "site1.localhost"    -- another name for the same site
  end
end
