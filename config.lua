-- Settings for part 3 and part 4. This file is a Lua program: values may be computed.
listenPort = os.getenv("RSP_LISTEN_PORT") or "8000"

-- Where the requests go. A name works too. Part 3 looks it up for every client, part 4 once.
backendAddress = "127.0.0.1"
backendPort = os.getenv("RSP_BACKEND_PORT") or "8001"
