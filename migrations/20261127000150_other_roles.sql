-- The messages of other roles, which are nobody's task.
--
-- locks: public.architect_in ShareLock: an index of few rows is built, some 1 s a million messages; until then questions wait

create index architect_in_other_roles on public.architect_in (id) where data ->> 'role' <> 'architect';
