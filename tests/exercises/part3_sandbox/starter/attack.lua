-- A config like any other, so far. The proxy that runs it has the sandbox open: _G is all that Lua has.
listenPort = "1"
backendAddress = "127.0.0.1"
backendPort = "none"
