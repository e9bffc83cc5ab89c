-- The requests of wrk: the file that BODY names, repeatedly, with the headers in HEADERS, one for each
-- line.  At the end, wrk prints one line, which bench.load reads.
wrk.method = "POST"
for name, value in (os.getenv("HEADERS") or ""):gmatch("([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end

local file = assert(io.open(os.getenv("BODY"), "rb"))
wrk.body = file:read("*a")
file:close()

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "bench %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), errors.status,
    errors.timeout, errors.connect + errors.read + errors.write))
end
