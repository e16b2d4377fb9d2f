-- Where the oldest texts are.
--
-- locks: atlas.task ShareLock: an index is built, some 2 s a million tasks; until then questions, claims and replies wait, and reads go on

-- by when they were asked, which never changes: a task that ends is written in place
create index task_unerased on atlas.task (queued_at) where erased_at is null;
