-- A transaction that was accepted earlier is about to commit: unless what is there is its own value or a later accepted one,
-- the key is fenced, so that nobody finds there what is older than the row will be.
--
-- ARGV[3]  the cover's token, "+" and 15 characters   ARGV[4]  ms after which it counts as gone
-- ARGV[5]  SHA-1 of the value that may stay   ARGV[6]  the accept sequence   ARGV[7]  the generation: see stays.lua
-- Result   1 if it is fenced, 0 if the value stayed
if stays(ARGV[5], ARGV[6], ARGV[7]) then return 0 end
raise(ARGV[3], ARGV[4])
return 1
