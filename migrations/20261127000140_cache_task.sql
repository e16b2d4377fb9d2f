-- What was found for a question is kept under a hash of it; the task says whose it was.
--
-- locks: rag.cache AccessExclusiveLock: a change of the catalog, and an index over what a week found, less than a second

alter table rag.cache add column task_id uuid;
comment on column rag.cache.task_id is 'The task whose search it was, the latest one.';
create index cache_task on rag.cache (task_id);
