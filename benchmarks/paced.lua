-- As post.lua, and each connection waits before it asks again: DELAY milliseconds in the mean, at
-- random, so that requests come as from callers who do not know of each other.
dofile(os.getenv("HERE") .. "/post.lua")

local milliseconds = tonumber(os.getenv("DELAY"))

function delay()
  return -math.log(1 - math.random()) * milliseconds
end
