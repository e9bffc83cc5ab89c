-- Like post.lua, but each connection waits at random before its next request, DELAY milliseconds in
-- the mean, so that requests arrive as from independent clients.
dofile(os.getenv("HERE") .. "/post.lua")

local milliseconds = tonumber(os.getenv("DELAY"))

function delay()
  return -math.log(1 - math.random()) * milliseconds
end
