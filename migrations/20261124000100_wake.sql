-- Wake-ups over Realtime as well as NOTIFY: one broadcast a statement on the private topic atlas:wake, and the plain reads by
-- which a fleet decides who claims.

-- p_queued: how many tasks an insert brought; it is always announced, other events only where an idle worker is.
drop function atlas.wake_workers(boolean);
create function atlas.wake_workers(p_also_busy boolean default false, p_queued integer default null) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  idle constant boolean := exists (
    select from atlas.worker w where w.state = 'idle' and w.seen_at > now() - interval '2 minutes');
begin
  if p_queued is not null or p_also_busy or idle then
    perform realtime.send(jsonb_strip_nulls(jsonb_build_object('queued', p_queued)), 'task_queued', 'atlas:wake', true);
  end if;
  -- NOTIFY takes a lock of the whole database until the commit is on disk: only where a worker needs it
  if p_also_busy or idle then
    notify atlas_wake;
  end if;
end
$$;
comment on function atlas.wake_workers(boolean, integer) is 'Wakes idle workers, by NOTIFY and by a Realtime broadcast.';

create or replace function atlas.queue_messages() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  ids uuid[];
  details jsonb[];
begin
  with queued as (
    insert into atlas.task (id, kind, title, in_id, message_task_id, sender, sender_key, project_id, parent_id,
      priority, run_after, wait_reason)
    select case when n.data ->> 'msg_type' = 'chat' then n.task_id else gen_random_uuid() end,
      n.data ->> 'msg_type',
      case when n.data ->> 'msg_type' = 'control' then atlas.control_command(n.data) ->> 'command'
           else left(split_part(btrim(n.data ->> 'content', E' \t\r\n#'), E'\n', 1), 120) end,
      n.id, n.task_id, n.sender,
      coalesce(n.sender::text, nullif('key:' || (n.data #>> '{metadata,sender_key}'), 'key:'), 'service'),
      case when n.sender is null and n.data #>> '{metadata,project}' is null
           then '00000000-0000-0000-0000-000000000001'
           else atlas.project_of(n.sender, n.data #>> '{metadata,project}') end,
      (n.data #>> '{metadata,parent_id}')::uuid,
      coalesce((n.data #>> '{metadata,priority}')::smallint, 0),
      greatest(now(), (n.data #>> '{metadata,run_after}')::timestamptz),
      case when (n.data #>> '{metadata,run_after}')::timestamptz > now() then 'scheduled' end
    from new_rows n
    where n.data ->> 'role' = 'architect' and n.data ->> 'msg_type' in ('chat', 'control')
    order by n.id
    returning id, sender_key
  )
  select array_agg(q.id), array_agg(jsonb_build_object('sender_key', q.sender_key)) into ids, details from queued q;
  if ids is null then
    return null;
  end if;
  perform atlas.append_audits('submit_task', ids, details);
  -- commands are rare, and a worker whose slots are all busy still has some for them
  perform atlas.wake_workers(exists (select from new_rows n where n.data ->> 'msg_type' = 'control'), cardinality(ids));
  return null;
end
$$;

-- A cancellation is for the worker that runs the task, wherever it listens.
create function atlas.broadcast_cancel() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform realtime.send(jsonb_build_object('task_id', new.id), 'cancel_requested', 'atlas:wake', true);
  return null;
end
$$;
comment on function atlas.broadcast_cancel() is 'Tells workers over Realtime that a running task was asked to stop.';
create trigger broadcast_cancel after update of cancel_requested_at on atlas.task
  for each row when (old.cancel_requested_at is null and new.cancel_requested_at is not null)
  execute function atlas.broadcast_cancel();

-- An insert wakes every idle worker. Each waits a moment of its own, looks, and claims only if something is left.
create function atlas.has_work(p_chats boolean default true) returns boolean
language sql stable security definer set search_path = ''
as $$
  select exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'control')
    or (p_chats and (select c.paused_at is null from atlas.control c) and (
      exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat')
      or exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is not null and t.run_after <= now())))
$$;
comment on function atlas.has_work(boolean) is 'Whether a claim would find something now: a plain read. p_chats: questions too.';

-- Nothing announces that a task's waiting is over: an idle worker asks when to look again.
create function atlas.next_due() returns double precision
language sql stable security definer set search_path = ''
as $$
  -- greatest() passes over nulls
  select case when min(t.run_after) is not null then greatest(0, extract(epoch from min(t.run_after) - now())) end
  from atlas.task t
  where t.state = 'queued' and t.wait_reason is not null and (select c.paused_at is null from atlas.control c)
$$;
comment on function atlas.next_due() is 'Seconds until the first waiting task is due; null where none waits, and while the queue is paused.';

drop function atlas.mark_worker(uuid, text);
create function atlas.mark_worker(p_worker_id uuid, p_state text) returns integer
language sql security definer set search_path = ''
as $$
  update atlas.worker set state = p_state, seen_at = now() where id = p_worker_id;
  select count(*)::integer from atlas.worker w
  where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes' and w.id <> p_worker_id;
$$;
comment on function atlas.mark_worker(uuid, text) is
  'idle: waits for a wake-up. busy: claims again by itself. stopped. Answers how many others there are.';

grant execute on function atlas.has_work(boolean), atlas.next_due(), atlas.mark_worker(uuid, text) to service_role, atlas_worker;

-- a replaced function forgets its settings: see the migration "plans"
alter function atlas.queue_messages() set plan_cache_mode = force_generic_plan;
alter function atlas.queue_messages() set enable_seqscan = off;
alter function atlas.has_work(boolean) set enable_seqscan = off;
alter function atlas.next_due() set enable_seqscan = off;

revoke execute on all functions in schema atlas, rag from public;
