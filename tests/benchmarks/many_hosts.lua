-- For wrk: each request asks for another one of the hosts h0.test, h1.test and so on, on its own connection.
function init(arguments)
  hosts = tonumber(arguments[1])
  wrk.headers["Connection"] = "close"
end

function request()
  wrk.headers["Host"] = "h" .. math.random(0, hosts - 1) .. ".test"
  return wrk.format()
end
