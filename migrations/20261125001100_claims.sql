-- Claims: in fair turns, each with a lease on a new attempt; leases are extended while the attempt runs.

-- An insert wakes every idle worker. Each waits a moment of its own, looks, and claims only if something is left.
create function atlas.has_work(p_chats boolean default true) returns boolean
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'control')
    or (p_chats and (select c.paused_at is null from atlas.control c) and (
      exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat')
      or exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is not null and t.run_after <= now())));
end
$$;
comment on function atlas.has_work(boolean) is 'Whether a claim would find something now: a plain read. p_chats: questions too.';
grant execute on function atlas.has_work(boolean) to service_role, atlas_worker;

-- Nothing announces that a task's waiting is over: an idle worker asks when to look again.
create function atlas.next_due() returns double precision
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  -- greatest() passes over nulls
  return (select case when min(t.run_after) is not null then greatest(0, extract(epoch from min(t.run_after) - now())) end
    from atlas.task t
    where t.state = 'queued' and t.wait_reason is not null and (select c.paused_at is null from atlas.control c));
end
$$;
comment on function atlas.next_due() is 'Seconds until the first waiting task is due; null where none waits, and while the queue is paused.';
grant execute on function atlas.next_due() to service_role, atlas_worker;

-- Which tasks are next: by priority, then in rounds over senders, the least recently served sender first. The k-th
-- task of a sender belongs to round k, so a task waits for at most one earlier claim of each other active sender.
create function atlas.next_tasks(p_senders integer, p_each integer) returns table (task_id uuid, turn bigint)
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return query
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
          order by t.in_id limit p_each) t) c;
end
$$;
comment on function atlas.next_tasks(integer, integer) is
  'Ready tasks in the order in which they are due: of so many senders, so many of each.';

create function atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval)
returns table (task_id uuid, attempt_id uuid, attempt integer, kind text, message jsonb, message_task_id uuid,
  sender_key text, project_id uuid, parent_id uuid, queued_at timestamptz, lease_expires_at timestamptz,
  cancel_requested boolean, per_run integer, per_run_scope text, label_key uuid, inherited jsonb)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  chosen uuid[] := '{}'::uuid[];
  chats uuid[];
  width integer;
  again boolean;
  details jsonb[];
begin
  p_chats := least(p_chats, 10000);
  p_controls := least(p_controls, 10000);
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
        select t.id, n.turn from (select * from atlas.next_tasks(width * p_chats, width * p_chats) order by turn) n
        -- asked again, row by row, since another claim may have come in between
        cross join lateral (select l.id from atlas.task l
          where l.id = n.task_id and l.state = 'queued' and l.wait_reason is null and l.kind = 'chat'
          for no key update skip locked) t
        limit p_chats) c;
      exit when cardinality(chats) = p_chats
        or not exists (select from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat'
                       and t.id <> all (coalesce(chats, '{}')));
    end loop;
    chosen := chosen || chats;
  end if;
  if cardinality(chosen) = 0 then
    return;
  end if;
  with picked as (
    select o.id, nextval('atlas.claim_seq') as seq from unnest(chosen) with ordinality as o (id, n) order by o.n
  ),
  claimed as (
    update atlas.task t set state = 'running', attempt_id = atlas.new_id(), attempts = t.attempts + 1,
      claim_seq = p.seq, started_at = coalesce(t.started_at, now())
    from picked p where t.id = p.id and t.id = any (chosen)
    returning t.*
  ),
  begun as (
    insert into atlas.attempt (id, task_id, number, lease_owner, lease_expires_at)
    select c.attempt_id, c.id, c.attempts, p_worker_id, now() + atlas.bounded(p_lease, '0', '1 hour') from claimed c
  ),
  announced as (
    insert into public.architect_out (data, task_id, owner, project_id)
    select jsonb_build_object('task_id', c.id, 'role', 'architect', 'msg_type', 'spec', 'content', '',
        'metadata', jsonb_build_object('tokens', 0, 'model', null, 'parent_id', c.parent_id,
          'status', 'in_progress', 'schema_ver', 1)),
      c.id, c.sender, c.project_id
    from claimed c where c.kind = 'chat' and c.attempts = 1
  )
  select bool_or(c.attempts > 1), array_agg(jsonb_build_object('attempt', c.attempts, 'worker', p_worker_id) order by array_position(chosen, c.id))
    into again, details from claimed c;
  perform atlas.append_audits('claim_tasks', chosen, details);
  if again then
    perform atlas.inherit_responses(chosen);
  end if;
  return query
  select t.id, t.attempt_id, t.attempts, t.kind, m.data, t.message_task_id, t.sender_key, t.project_id, t.parent_id,
    t.queued_at, now() + atlas.bounded(p_lease, '0', '1 hour'), t.cancel_requested_at is not null,
    r.per_run, r.scope,
    case when t.attempts = 1 then t.attempt_id
         else (select f.id from atlas.attempt f where f.task_id = t.id and f.number = 1 limit 1) end,
    case when t.attempts > 1 then atlas.inherited_response(t) end
  from atlas.task t
  -- a look-up by the key, whatever the planner thinks of how many there are
  cross join lateral (select i.data from public.architect_in i where i.id = t.in_id limit 1) m
  left join lateral (
    select l.per_run, case when l.scope <> 'global' or 'per_run' = any (l.controlled) then l.scope end as scope
    from atlas.budget l
    where l.scope = any (array['global', 'project:' || t.project_id, 'sender:' || t.sender_key]) and l.per_run is not null
    order by l.per_run, l.scope limit 1) r on true
  where t.id = any (chosen)
  order by t.claim_seq;
end
$$;
comment on function atlas.claim_tasks(uuid, integer, integer, interval) is
  'Claims up to so many questions and control messages, in fair turns, each with a lease on a new attempt. label_key:
random, the same for each attempt of a task; sources are labelled by it. inherited: the
response that a lost attempt had begun, with its reservation, to be resumed.';
grant execute on function atlas.claim_tasks(uuid, integer, integer, interval) to service_role, atlas_worker;

create function atlas.extend_leases(p_worker_id uuid, p_attempts uuid[], p_lease interval)
returns table (attempt_id uuid, held boolean, cancel_requested boolean, adopted boolean)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  update atlas.worker set seen_at = now() where id = p_worker_id;
  return query
  with due as (
    select a.id from atlas.attempt a where a.id = any (p_attempts) and a.lease_owner = p_worker_id
      and a.state = 'running' order by a.id for no key update
  ),
  extended as (
    update atlas.attempt a set lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour') where a.id in (select due.id from due)
    returning a.id, a.task_id
  )
  select p.id, e.id is not null, coalesce(t.cancel_requested_at is not null, false), coalesce(t.adopted_at is not null, false)
  from unnest(p_attempts) as p (id)
  left join extended e on e.id = p.id
  left join atlas.task t on t.id = e.task_id;
end
$$;
comment on function atlas.extend_leases(uuid, uuid[], interval) is
  'Extends the leases that are still held; not held: the task is somebody else''s now, its call must stop. adopted: another call of
the task is answered already, and this one must stop for it.';
grant execute on function atlas.extend_leases(uuid, uuid[], interval) to service_role, atlas_worker;

-- While no model answers, no question is sent. What is ready is set aside in one statement, and says why; the model that answers
-- again wakes it. After five minutes each task's people are told once.
create function atlas.defer_upstream(p_message text, p_limit integer default 500) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  deferred integer;
  task_id uuid;
begin
  update atlas.task t set wait_reason = 'upstream', wait_scope = null, run_after = now() + interval '1 second' * (50 + random() * 20),
    outage_since = coalesce(t.outage_since, now()), error_code = 'upstream', error_message = left(p_message, 2000)
  where t.id in (
    select q.id from atlas.task q where q.state = 'queued' and q.kind = 'chat' and q.cancel_requested_at is null
      -- a response that is under way is asked for, whatever becomes of new calls
      and not exists (select from atlas.spend s where s.task_id = q.id and s.state = 'reserved' and s.response_id is not null)
      and (q.wait_reason is null or (q.wait_reason is not null and q.run_after <= now()))
    order by q.in_id limit p_limit for no key update skip locked);
  get diagnostics deferred = row_count;
  for task_id in
    update atlas.task t set escalated_at = now()
    where t.id in (select q.id from atlas.task q where q.wait_reason = 'upstream' and q.escalated_at is null
      and q.outage_since < now() - interval '5 minutes' order by q.in_id limit 100 for no key update skip locked)
    returning t.id
  loop
    perform atlas.escalate(task_id, 'upstream', p_message);
  end loop;
  return deferred;
end
$$;
comment on function atlas.defer_upstream(text, integer) is
  'Sets questions aside that are ready while no model answers; says how many. A model that answers again wakes them.';
grant execute on function atlas.defer_upstream(text, integer) to service_role, atlas_worker;

-- Those that waited for a model come back one after another, so that it is not stormed.
create function atlas.wake_upstream(p_limit integer default 100000) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  woken integer;
begin
  with waiting as (
    select t.id, row_number() over (order by t.in_id) as n from (
      select w.id, w.in_id from atlas.task w where w.wait_reason = 'upstream' order by w.in_id limit p_limit
      for no key update skip locked) t
  )
  update atlas.task t set run_after = now() + interval '1 second' * least(3, w.n / 50.0 * random())
  from waiting w where t.id = w.id;
  get diagnostics woken = row_count;
  if woken > 0 then
    perform atlas.wake_workers();
  end if;
  return woken;
end
$$;
comment on function atlas.wake_upstream(integer) is 'Makes tasks due that waited for a model, spread over at most three seconds. Internal.';

revoke execute on all functions in schema atlas, rag from public;
