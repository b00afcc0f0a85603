-- A config like any other, so far. The proxy that runs it has an empty SANDBOX.
listenPort = "1"
backendAddress = "127.0.0.1"
backendPort = "none"
