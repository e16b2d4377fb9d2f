-- The queue: a message becomes a task, and idle workers are woken.

-- The project comes from membership. A message may name one of the sender's own; the service role may name any.
create function atlas.project_of(sender uuid, named text) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
declare
  found_id uuid;
begin
  if named is not null then
    select p.id into found_id from atlas.project p
    where (p.id = atlas.as_uuid(named) or p.name = named)
      and (sender is null
           or exists (select from atlas.member m where m.project_id = p.id and m.user_id = sender));
    if found_id is null then
      perform atlas.refuse('metadata.project', format('%L is none of yours', named),
        'name a project you are a member of, or leave it out', 'AT006');
    end if;
    return found_id;
  end if;
  select m.project_id into found_id from atlas.member m where m.user_id = sender
  order by m.created_at, m.project_id limit 1;
  return coalesce(found_id, '00000000-0000-0000-0000-000000000001');
end
$$;
comment on function atlas.project_of(uuid, text) is 'The project of a message: named, else the sender''s first, else default.';

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

create function atlas.queue_messages() returns trigger
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  ids uuid[];
  details jsonb[];
begin
  with queued as (
    insert into atlas.task (id, kind, title, in_id, message_task_id, sender, sender_key, project_id, parent_id,
      priority, run_after, wait_reason)
    select case when n.data ->> 'msg_type' = 'chat' then n.task_id else atlas.new_id() end,
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
    returning id, in_id, sender_key
  )
  select array_agg(q.id), array_agg(jsonb_build_object('sender_key', q.sender_key, 'message_sha256', atlas.message_sha256(n.data)))
    into ids, details from queued q join new_rows n on n.id = q.in_id;
  if ids is null then
    return null;
  end if;
  perform atlas.append_audits('submit_task', ids, details);
  -- commands are rare, and a worker whose slots are all busy still has some for them
  perform atlas.wake_workers(exists (select from new_rows n where n.data ->> 'msg_type' = 'control'), cardinality(ids));
  return null;
end
$$;
comment on function atlas.queue_messages() is 'Queues new messages for the architect and wakes idle workers, once a statement.';

create trigger queue_messages after insert on public.architect_in
  referencing new table as new_rows for each statement execute function atlas.queue_messages();
comment on trigger queue_messages on public.architect_in is 'Queues new messages for the architect and wakes idle workers, once a statement.';

create function atlas.submit_task(data jsonb, sender uuid default atlas.uid())
returns table (task_id uuid, state text, created boolean)
language plpgsql set search_path = ''
as $$
declare
  v_id constant uuid := atlas.as_uuid(data ->> 'task_id');
begin
  if data ->> 'msg_type' = 'chat' and data ->> 'role' = 'architect' then
    return query select t.id, t.state, false from atlas.task t where t.id = v_id and t.kind = 'chat';
    if found then
      return;
    end if;
  end if;
  begin
    insert into public.architect_in (data, sender) values (submit_task.data, submit_task.sender);
    return query select v_id, 'queued', true;
  exception when unique_violation then
    return query select t.id, t.state, false from atlas.task t where t.id = v_id;
    if not found then
      raise;
    end if;
  end;
end
$$;
comment on function atlas.submit_task(jsonb, uuid) is
  'Sends a message. The same question again makes no second task: it answers with the first one''s state.';
grant execute on function atlas.submit_task(jsonb, uuid) to authenticated, service_role;

create function atlas.register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer,
  p_models text[] default '{}', p_protocol integer default 1)
returns void
language sql security definer set search_path = ''
as $$
  delete from atlas.worker w where w.seen_at < now() - interval '1 day';
  insert into atlas.worker (id, name, version, concurrency, models, protocol)
  values (p_worker_id, p_name, p_version, p_concurrency, p_models, p_protocol)
  on conflict (id) do update set state = 'busy', seen_at = now();
$$;
comment on function atlas.register_worker(uuid, text, text, integer, text[], integer) is 'Says that a worker is there, which models it calls, and which protocol it speaks.';
grant execute on function atlas.register_worker(uuid, text, text, integer, text[], integer) to service_role, atlas_worker;

create function atlas.mark_worker(p_worker_id uuid, p_state text) returns integer
language sql security definer set search_path = ''
as $$
  update atlas.worker set state = p_state, seen_at = now() where id = p_worker_id;
  select count(*)::integer from atlas.worker w
  where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes' and w.id <> p_worker_id;
$$;
comment on function atlas.mark_worker(uuid, text) is
  'idle: waits for a wake-up. busy: claims again by itself. stopped. Answers how many others there are.';
grant execute on function atlas.mark_worker(uuid, text) to service_role, atlas_worker;

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
comment on trigger broadcast_cancel on atlas.task is 'Tells workers over Realtime that a running task was asked to stop.';

revoke execute on all functions in schema atlas, rag from public;
