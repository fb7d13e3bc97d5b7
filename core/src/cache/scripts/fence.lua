-- A writer begins.
--
-- ARGV[3]  the writer's token, 16 characters   ARGV[4]  ms after which it counts as gone
-- Result   how many writers there are now
return raise(ARGV[3], ARGV[4])
