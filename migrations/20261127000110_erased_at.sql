-- When the texts of a task were erased.
--
-- locks: atlas.task AccessExclusiveLock: a change of the catalog alone

alter table atlas.task add column erased_at timestamptz;
comment on column atlas.task.erased_at is 'When its texts were erased; null: they are there.';
