-- The queue: a message becomes a task, workers claim tasks in fair turns, and hold them by a lease.

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

create function atlas.wake_workers(p_also_busy boolean default false) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  -- NOTIFY takes a lock of the whole database until the commit is on disk: only where an idle worker needs it
  if p_also_busy or exists (select from atlas.worker w where w.state = 'idle' and w.seen_at > now() - interval '2 minutes') then
    notify atlas_wake;
  end if;
end
$$;
comment on function atlas.wake_workers(boolean) is 'Notifies idle workers, if there are any.';

create function atlas.queue_messages() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  ids uuid[];
  details jsonb[];
begin
  with queued as (
    insert into atlas.task (id, kind, title, in_id, message_task_id, sender, sender_key, project_id, parent_id,
      priority, run_after, wait_reason)
    select case when n.data ->> 'msg_type' = 'chat' and data ->> 'role' = 'architect' then n.task_id else gen_random_uuid() end,
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
  perform realtime.send(jsonb_build_object('queued', cardinality(ids)), 'task_queued', 'atlas:wake', true);
  -- commands are rare, and a worker whose slots are all busy still has some for them
  perform atlas.wake_workers(exists (select from new_rows n where n.data ->> 'msg_type' = 'control'));
  return null;
end
$$;
comment on function atlas.queue_messages() is 'Queues new messages for the architect and wakes idle workers, once a statement.';
create trigger queue_messages after insert on public.architect_in
  referencing new table as new_rows for each statement execute function atlas.queue_messages();

create function atlas.submit_task(data jsonb, sender uuid default auth.uid())
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
  'Sends a message. The same question again is no second task: it answers with the first one''s state.';

create function atlas.register_worker(p_worker_id uuid, p_name text, p_version text, p_concurrency integer)
returns void
language sql security definer set search_path = ''
as $$
  delete from atlas.worker w where w.seen_at < now() - interval '1 day';
  insert into atlas.worker (id, name, version, concurrency)
  values (p_worker_id, p_name, p_version, p_concurrency)
  on conflict (id) do update set state = 'busy', seen_at = now();
$$;
comment on function atlas.register_worker(uuid, text, text, integer) is 'Says that a worker is there.';

create function atlas.mark_worker(p_worker_id uuid, p_state text) returns void
language sql security definer set search_path = ''
as $$
  update atlas.worker set state = p_state, seen_at = now() where id = p_worker_id
$$;
comment on function atlas.mark_worker(uuid, text) is 'idle: waits for a wake-up. busy: claims again by itself. stopped.';

-- Which tasks are next: by priority, then in rounds over senders, the least recently served sender first. The k-th
-- task of a sender belongs to round k, so a task waits for at most one earlier claim of each other active sender.
create function atlas.next_tasks(p_senders integer, p_each integer) returns table (task_id uuid, turn bigint)
language sql stable security definer set search_path = ''
as $$
  with recursive active as (
    (select t.rank, t.sender_key from atlas.task t
     where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat' order by t.rank, t.sender_key limit 1)
    union all
    select n.rank, n.sender_key from active a cross join lateral (
      select t.rank, t.sender_key from atlas.task t
      where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat' and (t.rank, t.sender_key) > (a.rank, a.sender_key)
      order by t.rank, t.sender_key limit 1) n
  ),
  turns as (
    select a.rank, a.sender_key, coalesce(s.claim_seq, 0) as served
    from active a left join lateral (
      select t.claim_seq from atlas.task t where t.sender_key = a.sender_key and t.claim_seq is not null
      order by t.claim_seq desc limit 1) s on true
    order by a.rank, served, a.sender_key limit p_senders
  )
  select c.id, row_number() over (order by u.rank, c.round, u.served, u.sender_key)
  from turns u cross join lateral (
    select t.id, row_number() over (order by t.in_id) as round
    from (select t.id, t.in_id from atlas.task t
          where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat' and t.rank = u.rank and t.sender_key = u.sender_key
          order by t.in_id limit p_each) t) c
$$;
comment on function atlas.next_tasks(integer, integer) is
  'Ready tasks in the order in which they are due: of so many senders, so many of each.';

create function atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval)
returns table (task_id uuid, attempt_id uuid, attempt integer, kind text, message jsonb, message_task_id uuid,
  sender_key text, project_id uuid, parent_id uuid, queued_at timestamptz, lease_expires_at timestamptz,
  cancel_requested boolean, per_run integer, carried jsonb)
language plpgsql security definer set search_path = ''
as $$
declare
  chosen uuid[] := '{}'::uuid[];
  chats uuid[];
  width integer;
begin
  if exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is not null and t.run_after <= now()) then
    update atlas.task t set wait_reason = null, wait_scope = null
    where t.id in (select w.id from atlas.task w where w.state = 'queued' and w.wait_reason is not null
      and w.run_after <= now() order by w.run_after limit 500 for no key update skip locked);
  end if;
  -- control messages are few, and go first; they are carried out also while the queue is paused
  if p_controls > 0 then
    select coalesce(array_agg(c.id), '{}') into chosen from (
      select t.id from atlas.task t
      where t.state = 'queued' and t.kind = 'control' and t.wait_reason is null
      order by t.in_id limit p_controls for no key update skip locked) c;
  end if;
  if p_chats > 0 and (select c.paused_at is null from atlas.control c) then
    -- other claimers may hold all of the first ones: then a wider look
    foreach width in array array[2, 32] loop
      select array_agg(c.id order by c.turn) into chats from (
        select t.id, n.turn from atlas.next_tasks(width * p_chats, width * p_chats) n join atlas.task t on t.id = n.task_id
        where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat'
        order by n.turn limit p_chats for no key update of t skip locked) c;
      exit when cardinality(chats) = p_chats
        or not exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat'
                       and t.id <> all (coalesce(chats, '{}')));
    end loop;
    chosen := chosen || chats;
  end if;
  if cardinality(chosen) = 0 then
    return;
  end if;
  return query
  with picked as (
    select t.id, gen_random_uuid() as new_attempt, nextval('atlas.claim_seq') as seq
    from unnest(chosen) with ordinality as o (id, n) join atlas.task t on t.id = o.id
    order by o.n
  ),
  claimed as (
    update atlas.task t set state = 'running', attempt_id = p.new_attempt, attempts = t.attempts + 1,
      claim_seq = p.seq, started_at = coalesce(t.started_at, now())
    from picked p where t.id = p.id
    returning t.*
  ),
  begun as (
    insert into atlas.attempt (id, task_id, number, worker_id, lease_expires_at)
    select c.attempt_id, c.id, c.attempts, p_worker_id, now() + p_lease from claimed c
    returning attempt.id, attempt.lease_expires_at
  ),
  -- a reservation whose response was begun passes on from the lost attempt, as call 0 of this one
  carried as (
    update atlas.spend s set attempt_id = c.attempt_id, call = 0
    from claimed c where s.task_id = c.id and s.state = 'reserved'
      and s.id = (select max(o.id) from atlas.spend o where o.task_id = c.id and o.state = 'reserved')
    returning s.task_id, s.id, s.model, s.response_id, s.reserved_tokens
  ),
  announced as (
    insert into public.architect_out (data, task_id, owner, project_id)
    select jsonb_build_object('task_id', c.id, 'role', 'architect', 'msg_type', 'spec', 'content', '',
        'metadata', jsonb_build_object('tokens', 0, 'model', null, 'parent_id', c.parent_id,
          'status', 'in_progress', 'schema_ver', 1)),
      c.id, c.sender, c.project_id
    from claimed c where c.kind = 'chat' and c.attempts = 1
  )
  select c.id, c.attempt_id, c.attempts, c.kind, m.data, c.message_task_id, c.sender_key, c.project_id, c.parent_id,
    c.queued_at, b.lease_expires_at, c.cancel_requested_at is not null,
    (select min(l.per_run) from atlas.budget l
      where l.scope in ('global', 'project:' || c.project_id, 'sender:' || c.sender_key)),
    case when k.task_id is not null then jsonb_build_object('spend_id', k.id, 'model', k.model,
      'response_id', k.response_id, 'reserved_tokens', k.reserved_tokens,
      'sequence_number', l.sequence_number, 'text', coalesce((
        select string_agg(p.text, '' order by p."offset") from atlas.reply_part p
        where p.attempt_id = l.id and p.generation = l.generation), '')) end
  from claimed c
  join begun b on b.id = c.attempt_id
  join public.architect_in m on m.id = c.in_id
  left join carried k on k.task_id = c.id
  left join lateral (
    select e.id, e.generation, e.sequence_number from atlas.attempt e
    where e.task_id = c.id and e.number < c.attempts and e.response_id = k.response_id
    order by e.number desc limit 1) l on k.task_id is not null
  order by c.claim_seq;
  perform atlas.append_audits('claim_tasks', array_agg(t.id),
    array_agg(jsonb_build_object('attempt', t.attempts, 'worker', p_worker_id)))
  from atlas.task t where t.id = any (chosen);
end
$$;
comment on function atlas.claim_tasks(uuid, integer, integer, interval) is
  'Claims up to so many questions and control messages, in fair turns, each with a lease on a new attempt. carried: the
response that a lost attempt had begun, with its reservation, to be taken up.';

create function atlas.extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval)
returns table (attempt_id uuid, held boolean, cancel_requested boolean)
language sql security definer set search_path = ''
as $$
  update atlas.worker set seen_at = now() where id = p_worker_id;
  with due as (
    select a.id from atlas.attempt a where a.id = any (p_attempts) and a.worker_id = p_worker_id
      and a.state = 'running' order by a.id for no key update
  ),
  extended as (
    update atlas.attempt a set lease_expires_at = now() + p_lease where a.id in (select due.id from due)
    returning a.id, a.task_id
  )
  select p.id, e.id is not null, coalesce(t.cancel_requested_at is not null, false)
  from unnest(p_attempts) as p (id)
  left join extended e on e.id = p.id
  left join atlas.task t on t.id = e.task_id;
$$;
comment on function atlas.extend_leases(uuid, uuid[], interval) is
  'Extends the leases that are still held; not held: the task is somebody else''s now, its call must stop.';

-- Everything a running reply leaves behind, of many attempts in one commit. An item is
-- {"attempt_id", "call", "generation", "response_id", "resumable", "sequence_number", "offset", "text"}.
create function atlas.record_progress(p_items jsonb) returns table (attempt_id uuid)
language sql security definer set search_path = ''
as $$
  with item as (
    select i.*, a.task_id from jsonb_to_recordset(p_items) as i (attempt_id uuid, call integer, generation integer,
      response_id text, resumable boolean, sequence_number bigint, "offset" integer, text text, model text)
    join (select r.id, r.task_id from atlas.attempt r
          where r.id in (select (j ->> 'attempt_id')::uuid from jsonb_array_elements(p_items) j)
            and r.state = 'running' order by r.id for no key update) a on a.id = i.attempt_id
  ),
  at as (
    update atlas.attempt a set generation = i.generation, response_id = i.response_id, model = i.model,
      sequence_number = case when i.response_id is distinct from a.response_id then i.sequence_number
                             else greatest(a.sequence_number, i.sequence_number) end,
      first_delta_at = coalesce(a.first_delta_at, case when i.text <> '' then now() end)
    from (select distinct on (item.attempt_id) item.* from item
          order by item.attempt_id, item.generation desc, item."offset" desc) i
    where a.id = i.attempt_id
  ),
  responses as (
    update atlas.spend s set response_id = i.response_id from item i
    where s.attempt_id = i.attempt_id and s.call = i.call and s.state = 'reserved' and i.resumable
      and s.response_id is distinct from i.response_id
  ),
  parts as (
    insert into atlas.reply_part (attempt_id, generation, "offset", text, task_id)
    select i.attempt_id, i.generation, i."offset", i.text, i.task_id from item i where i.text <> ''
    on conflict do nothing
  )
  select distinct i.attempt_id from item i
$$;
comment on function atlas.record_progress(jsonb) is
  'Stores response ids, sequence numbers and text of running replies; answers with the attempts still held.';

grant execute on function atlas.submit_task(jsonb, uuid) to authenticated, service_role;
grant execute on function atlas.check_message(jsonb), atlas.as_uuid(text) to service_role;
grant execute on function atlas.as_uuid(text) to authenticated;
grant execute on function atlas.register_worker(uuid, text, text, integer), atlas.mark_worker(uuid, text),
  atlas.claim_tasks(uuid, integer, integer, interval), atlas.extend_leases(uuid, uuid[], interval),
  atlas.record_progress(jsonb) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
