-- What refers to a reply, and which events carry texts of their own: without these each task that is trimmed would read the whole outbox.
--
-- locks: atlas.outbox ShareLock: indexes are built, some 2 s a million rows; until then replies wait

create index outbox_message on atlas.outbox (out_id) where out_id is not null;
create index outbox_payload on atlas.outbox (task_id) where payload is not null;
