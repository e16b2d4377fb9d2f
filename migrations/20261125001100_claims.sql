-- Claims: in fair turns, each with a lease on a new attempt; leases are extended while the attempt runs.

-- An insert wakes every idle worker. Each waits a moment of its own, looks, and claims only if something is left.
create function atlas.has_work(p_chats boolean default true) returns boolean
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return exists (select from atlas.task t where t.ready and t.kind = 'control')
    or (p_chats and (select c.paused_at is null from atlas.control c) and (
      exists (select from atlas.task t where t.ready and t.kind = 'chat')
      or exists (select from atlas.task t where t.wait_reason is not null and t.run_after <= now())));
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
    where t.wait_reason is not null and (select c.paused_at is null from atlas.control c));
end
$$;
comment on function atlas.next_due() is 'Seconds until the first waiting task is due; null where none waits, and while the queue is paused.';
grant execute on function atlas.next_due() to service_role, atlas_worker;

-- Which tasks are next: by priority, then in rounds over projects, and in each over its senders. Both go in a circle, from where the
-- last claim stopped, so a task that is its sender's first waits for at most one claim of each other active sender of its project, and
-- one of each other project for each of those. What is read is what is taken, however many others wait.
create function atlas.ready_projects(p_rank integer, p_most integer) returns setof uuid
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  last constant uuid := coalesce((select t.project_id from atlas.task t where t.rank = p_rank and t.claim_seq is not null
    and t.kind = 'chat'
    order by t.claim_seq desc limit 1), '00000000-0000-0000-0000-000000000000');
  bound uuid := last;
  lap integer := 1;
begin
  while lap <= 2 and p_most > 0 loop
    select t.project_id into bound from atlas.task t
    where t.ready and t.kind = 'chat' and t.rank = p_rank and t.project_id > bound
    order by t.project_id, t.sender_key, t.in_id limit 1;
    if found and (lap = 1 or bound <= last) then
      return next bound;
      p_most := p_most - 1;
    else
      lap := lap + 1;
      bound := '00000000-0000-0000-0000-000000000000';
    end if;
  end loop;
end
$$;
comment on function atlas.ready_projects(integer, integer) is
  'Projects with ready tasks of a rank, after the one that was served last, in a circle. Internal.';

create function atlas.ready_senders(p_rank integer, p_project uuid, p_most integer) returns setof text
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  last constant text := coalesce((select t.sender_key from atlas.task t where t.rank = p_rank and t.project_id = p_project
    and t.claim_seq is not null and t.kind = 'chat' order by t.claim_seq desc limit 1), '');
  bound text := last;
  lap integer := 1;
begin
  while lap <= 2 and p_most > 0 loop
    select t.sender_key into bound from atlas.task t
    where t.ready and t.kind = 'chat' and t.rank = p_rank and t.project_id = p_project and t.sender_key > bound
    order by t.sender_key, t.in_id limit 1;
    if found and (lap = 1 or bound <= last) then
      return next bound;
      p_most := p_most - 1;
    else
      lap := lap + 1;
      bound := '';
    end if;
  end loop;
end
$$;
comment on function atlas.ready_senders(integer, uuid, integer) is
  'Senders of a project with ready tasks of a rank, after the one who was served last, in a circle. Internal.';

create function atlas.ready_tasks(p_rank integer, p_project uuid, p_most integer) returns setof uuid
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  senders constant text[] := array(select atlas.ready_senders(p_rank, p_project, p_most));
  each_most integer := ceil(p_most::numeric / greatest(cardinality(senders), 1));
  tasks uuid[];
begin
  loop
    tasks := array(
      select t.id from unnest(senders) with ordinality as s (key, place)
      cross join lateral (
        select r.id, row_number() over (order by r.in_id) as round
        from (select q.id, q.in_id from atlas.task q
              where q.ready and q.kind = 'chat' and q.rank = p_rank and q.project_id = p_project and q.sender_key = s.key
              order by q.in_id limit each_most) r) t
      order by t.round, s.place limit p_most);
    -- some have fewer than their share: others have more
    exit when cardinality(tasks) = p_most or each_most >= p_most;
    each_most := least(4 * each_most, p_most);
  end loop;
  return query select unnest(tasks);
end
$$;
comment on function atlas.ready_tasks(integer, uuid, integer) is
  'Ready tasks of a project and a rank, in rounds over its senders. Internal.';

create function atlas.next_tasks(p_most integer) returns uuid[]
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  found_tasks uuid[] := '{}'::uuid[];
  projects uuid[];
  tasks uuid[];
  each_most integer;
  missing integer;
  v_rank integer := -32768;
begin
  loop
    missing := p_most - cardinality(found_tasks);
    exit when missing = 0;
    select t.rank into v_rank from atlas.task t where t.ready and t.kind = 'chat' and t.rank > v_rank
    order by t.rank, t.project_id, t.sender_key, t.in_id limit 1;
    exit when not found;
    projects := array(select atlas.ready_projects(v_rank, missing));
    each_most := ceil(missing::numeric / greatest(cardinality(projects), 1));
    loop
      tasks := array(
        select t.id from unnest(projects) with ordinality as p (id, place)
        cross join lateral (
          select r.id, r.round from atlas.ready_tasks(v_rank, p.id, each_most) with ordinality as r (id, round)) t
        order by t.round, p.place limit missing);
      exit when cardinality(tasks) = missing or each_most >= missing;
      each_most := least(4 * each_most, missing);
    end loop;
    found_tasks := found_tasks || tasks;
  end loop;
  return found_tasks;
end
$$;
comment on function atlas.next_tasks(integer) is 'So many ready tasks, in the order in which they are due. Internal.';

create function atlas.claim_tasks(p_worker_id uuid, p_chats integer, p_controls integer, p_lease interval)
returns table (task_id uuid, attempt_id uuid, attempt integer, kind text, message jsonb, message_task_id uuid,
  sender_key text, project_id uuid, parent_id uuid, queued_at timestamptz, lease_expires_at timestamptz,
  cancel_requested boolean, per_run integer, per_run_scope text, label_key uuid, inherited jsonb)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  chosen uuid[] := '{}'::uuid[];
  candidates uuid[];
  chats uuid[];
  width integer;
  again boolean;
begin
  p_chats := least(p_chats, 10000);
  p_controls := least(p_controls, 10000);
  if exists (select from atlas.task t where t.wait_reason is not null and t.run_after <= now()) then
    update atlas.task t set wait_reason = null, wait_scope = null
    where t.id in (select w.id from atlas.task w where w.wait_reason is not null and w.run_after <= now()
      order by w.run_after limit 500 for no key update skip locked);
  end if;
  -- control messages are few, and go first; they are carried out also while the queue is paused
  if p_controls > 0 then
    select coalesce(array_agg(c.id), '{}') into chosen from (
      select t.id from atlas.task t
      where t.ready and t.kind = 'control'
      order by t.in_id limit p_controls for no key update skip locked) c;
  end if;
  if p_chats > 0 and (select c.paused_at is null from atlas.control c) then
    -- other claimers may hold all of the first ones: then a wider look
    foreach width in array array[2, 32] loop
      candidates := atlas.next_tasks(width * p_chats);
      select array_agg(c.id order by c.place) into chats from (
        select t.id, n.place from unnest(candidates) with ordinality as n (id, place)
        -- asked again, row by row, since another claim may have come in between
        cross join lateral (select l.id from atlas.task l
          where l.id = n.id and l.state = 'queued' and l.wait_reason is null for no key update skip locked) t
        limit p_chats) c;
      exit when cardinality(chats) = p_chats or cardinality(candidates) < width * p_chats;
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
  select bool_or(c.attempts > 1) into again from claimed c;
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
    select q.id from atlas.task q where q.kind = 'chat' and q.cancel_requested_at is null
      -- a response that is under way is asked for, whatever becomes of new calls
      and (select true from atlas.spend s where s.task_id = q.id and s.state = 'reserved' and s.response_id is not null limit 1) is null
      and (q.ready or (q.wait_reason is not null and q.run_after <= now()))
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
