-- Each request with the next of the tokens in the file: wrk ... -s wrk.lua URL -- TOKENS [BODY-BYTES]. One line of JSON at the end.
local requests, next_one = {}, 0

function init(words)
  local bytes = tonumber(words[2] or "0")
  local body = bytes > 0 and '{"amount":50,"text":"' .. string.rep("x", bytes - 23) .. '"}' or nil
  -- Bodies are kept once for each request: fewer of them, so that the generator stays small.
  local most = body and 100 or 1000000
  for token in io.lines(words[1]) do
    if #requests == most then break end
    local fields = { ["Host"] = "tools.local", ["User-Agent"] = "wrk", ["Accept"] = "application/json", ["Authorization"] = "Bearer " .. token }
    if body then fields["Content-Type"] = "application/json" end
    requests[#requests + 1] = wrk.format(body and "POST" or "GET", "/v1/tools/search?q=hello", fields, body)
  end
end

function request()
  next_one = next_one % #requests + 1
  return requests[next_one]
end

function done(summary, latency, each)
  local errors = summary.errors
  io.write(string.format('\n{"calls":%d,"seconds":%f,"bad":%d,"broken":%d,"p50":%f,"p99":%f}\n', summary.requests, summary.duration / 1e6,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(50), latency:percentile(99)))
end
