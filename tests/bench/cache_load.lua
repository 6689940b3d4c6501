-- for wrk: goes round over the lines of $WRK_PATHS, "path" or "path<TAB>etag", and prints what came of it as JSON
local requests, at = {}, 0
function init(args)
  for line in io.lines(os.getenv("WRK_PATHS")) do
    local path, etag = line:match("^([^\t]+)\t?(.*)$")
    local headers = {}
    if etag ~= "" then headers["If-None-Match"] = etag end
    requests[#requests + 1] = wrk.format("GET", path, headers)
  end
  at = math.random(#requests)
end
function request()
  at = at % #requests + 1
  return requests[at]
end
function done(summary, latency)
  io.write(string.format('JSON {"requests":%d,"bytes":%d,"us":%d,"p99_us":%d,"wrong":%d}\n',
    summary.requests, summary.bytes, summary.duration, latency:percentile(99),
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
