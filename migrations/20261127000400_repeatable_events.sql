-- The events of a task's start and of its reply have ids that follow from the task: where a copy of the database goes on beside its
-- original, or instead of it, what was sent already is not sent under another id.
--
-- locks: public.architect_out ShareRowExclusiveLock: a change of the catalog alone

create function atlas.event_of(p_task uuid, p_status text) returns uuid
language sql immutable parallel safe set search_path = ''
as $$
  -- the first half of the task's id keeps the order of time, which indexes are written in
  select encode(substr(uuid_send(p_task), 1, 8) || set_byte(h.hash, 0, (get_byte(h.hash, 0) & 63) | 128), 'hex')::uuid
  from (select substr(sha256(uuid_send(p_task) || convert_to(p_status, 'UTF8')), 1, 8) as hash) h
$$;
comment on function atlas.event_of(uuid, text) is 'The id of the event that a task is in_progress, or completed: the same in every copy. Internal.';

create function atlas.name_event() returns trigger
language plpgsql set search_path = ''
as $$
begin
  new.event_id := atlas.event_of(new.task_id, new.data #>> '{metadata,status}');
  return new;
end
$$;
comment on function atlas.name_event() is 'Gives the start and the reply of a task the ids of their events.';

create trigger name_event before insert on public.architect_out for each row
  when (new.data ->> 'msg_type' = 'spec' and new.data #>> '{metadata,status}' in ('in_progress', 'completed'))
  execute function atlas.name_event();
comment on trigger name_event on public.architect_out is 'Gives the start and the reply of a task the ids of their events.';

revoke execute on all functions in schema atlas, rag from public;
