-- Sets a value that no transaction wrote. While writers are under way it makes their fence dirty instead: nobody knows which
-- of the two came last. A cover gives way to it.
--
-- ARGV[3]  the entry   ARGV[4]  its life in ms, 0 for ever
-- Result   1 if it was set, else 0
if soil(true) then
  tell()
  return 0
end
set(ARGV[3], ARGV[4])
tell()
return 1
