-- The one reader of tasks: the command line, REST and the edge functions call these. Security invoker: row level security decides.

create function atlas.find_task(p_text text, p_state text default null) returns setof uuid
language sql stable set search_path = ''
as $$
  with digits as (select replace(lower(p_text), '-', '') as d),
  prefix as (
    select case when d ~ '^[0-9a-f]{4,32}$' then rpad(d, 32, '0')::uuid end as low,
      case when d ~ '^[0-9a-f]{4,32}$' then rpad(d, 32, 'f')::uuid end as high
    from digits
  ),
  found as (
    (select t.id, t.queued_at, t.in_id from atlas.task t
     where t.id between (select low from prefix) and (select high from prefix) limit 100)
    union
    (select t.id, t.queued_at, t.in_id from atlas.task t
     where t.kind = 'control' and t.message_task_id between (select low from prefix) and (select high from prefix) limit 100)
    union
    (select t.id, t.queued_at, t.in_id from atlas.task t
     where p_text = 'last' and t.kind = 'chat' and (p_state is null or t.state = p_state)
     order by t.queued_at desc, t.in_id desc limit 1)
  )
  select f.id from found f order by f.queued_at desc, f.in_id desc limit 6
$$;
comment on function atlas.find_task(text, text) is
  'The tasks whose id, or whose message''s task_id, begins with a text; at most 6, newest first. last: the latest question (in a
state, where one is given).';
grant execute on function atlas.find_task(text, text) to authenticated, service_role;

create function atlas.task_state(p_task_id uuid) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object('task_id', t.id, 'state', t.state, 'wait_reason', t.wait_reason, 'run_after', t.run_after,
    'model', coalesce(t.model, a.model), 'queued_at', t.queued_at, 'finished_at', t.finished_at,
    'error_code', t.error_code, 'error_message', t.error_message,
    'expected_at', case when t.wait_reason = 'response' then (
      select max(s.reserved_at) + case max(s.completion_window) when '2h' then interval '2 hours' when '8h' then interval '8 hours' end
      from atlas.spend s where s.task_id = t.id and s.state = 'reserved') end,
    'reply', o.data -> 'content', 'metadata', o.data -> 'metadata', 'event_id', o.event_id)
  from atlas.task t
  left join atlas.attempt a on a.id = t.attempt_id
  left join public.architect_out o on o.id = t.out_id
  where t.id = p_task_id
$$;
comment on function atlas.task_state(uuid) is
  'Where a task stands, why it waits, and its reply once it has ended; null for a task that the caller may not read.';
grant execute on function atlas.task_state(uuid) to authenticated, service_role;

-- What a person who waits wants to know. Definer: how many workers are alive, and who is served before, is not theirs to read.
create function atlas.task_progress(p_task_id uuid) returns jsonb
language sql stable security definer set search_path = ''
  set enable_seqscan = off set jit = off
as $$
  select jsonb_build_object(
    'place', case when t.ready and t.kind = 'chat' then array_position(atlas.next_tasks(1000), t.id) end,
    'paused_at', (select c.paused_at from atlas.control c),
    'pause_reason', (select c.reason from atlas.control c),
    'workers', (select count(*) from atlas.worker w where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'),
    'characters', (select coalesce(max(p."offset" + length(p.text)), 0) from atlas.reply_part p join atlas.attempt a on a.id = p.attempt_id
      where p.attempt_id = t.attempt_id and p.generation = a.generation),
    'usd', (select coalesce(sum(s.usd), 0) from atlas.spend s where s.task_id = t.id),
    'reserved_usd', (select coalesce(sum(s.reserved_usd), 0) from atlas.spend s where s.task_id = t.id and s.state in ('reserved', 'held')))
  from atlas.task t
  where t.id = p_task_id and (atlas.is_service() or atlas.owns_task(p_task_id))
$$;
comment on function atlas.task_progress(uuid) is
  'What a task waits behind, and what it has cost and written so far. place: its turn among ready questions, null past a thousand; null for a task that the caller may not read.';
grant execute on function atlas.task_progress(uuid) to authenticated, service_role;

create function atlas.get_task(p_task_id uuid) returns jsonb
language sql stable set search_path = ''
as $$
  select to_jsonb(h) || jsonb_build_object(
    'question', coalesce(i.data ->> 'content', h.title),
    'reply', o.data -> 'content',
    'metadata', coalesce(o.data -> 'metadata', '{}'),
    'attempt_list', (
      select coalesce(jsonb_agg(jsonb_build_object('number', a.number, 'state', a.state, 'model', a.model,
        'started_at', a.started_at, 'finished_at', a.finished_at, 'first_delta_at', a.first_delta_at,
        'error_code', a.error_code, 'error_message', a.error_message) order by a.number), '[]')
      from atlas.attempt a where a.task_id = h.id),
    'calls', (select coalesce(jsonb_agg(to_jsonb(s) order by s.id), '[]') from atlas.spend s where s.task_id = h.id),
    'audit', (
      select coalesce(jsonb_agg(jsonb_build_object('seq', u.seq, 'at', u.at, 'event', u.event, 'actor', u.actor,
        'detail', u.detail) order by u.seq), '[]')
      from atlas.audit u where u.task_id = h.id))
  from atlas.task_history h
  join atlas.task t on t.id = h.id
  left join public.architect_in i on i.id = t.in_id
  left join public.architect_out o on o.id = t.out_id
  where h.id = p_task_id
$$;
comment on function atlas.get_task(uuid) is
  'A task with its question, reply, attempts, calls and audit; null for a task that the caller may not read.';
grant execute on function atlas.get_task(uuid) to authenticated, service_role;

-- What a person named as the parent of their question is taken only if they could read it themselves.
create function atlas.get_thread(p_task_id uuid, p_for uuid) returns table (question text, reply text, parent_id uuid)
language sql stable security definer set search_path = ''
as $$
  select i.data ->> 'content', coalesce(o.data ->> 'content', ''), t.parent_id
  from atlas.task f
  join atlas.task t on t.id = p_task_id and t.kind = 'chat' and t.project_id = f.project_id
  join public.architect_in i on i.id = t.in_id
  left join public.architect_out o on o.id = t.out_id
  where f.id = p_for and (f.sender is null or t.sender = f.sender
    or exists (select from atlas.member m where m.user_id = f.sender and m.project_id = t.project_id))
$$;
comment on function atlas.get_thread(uuid, uuid) is
  'An earlier question of the same project and its reply, for a task whose sender may read it.';
grant execute on function atlas.get_thread(uuid, uuid) to service_role, atlas_worker;

create function atlas.queue_metrics() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    -- each count by the partial index of its kind
    'queued', (select count(*) from atlas.task t where t.ready and t.kind = 'chat')
      + (select count(*) from atlas.task t where t.ready and t.kind = 'control'),
    'waiting', (select count(*) from atlas.task t where t.wait_reason is not null),
    'running', (select count(*) from atlas.attempt a where a.state = 'running'),
    'dead_lettered', (select count(*) from atlas.task t where t.dead_letter),
    'outbox_dead', (select count(*) from atlas.outbox o where o.state = 'dead'),
    'outbox', (select coalesce(jsonb_agg(jsonb_build_object('destination', s.destination, 'pending', s.pending,
        'open', coalesce(s.open_until > now(), false),
        'oldest_seconds', coalesce(extract(epoch from now() - s.oldest), 0))), '[]')
      -- events kept for future destinations are not a backlog, and their number grows with history
      from atlas.outbox_status s where s.enabled and s.destination is not null),
    'oldest_seconds', coalesce((select extract(epoch from now() - min(greatest(t.queued_at, t.run_after)))
      from atlas.task t where t.ready and t.kind = 'chat'), 0),
    'paused', (select c.paused_at is not null from atlas.control c),
    'cache_flushed_at', (select c.cache_flushed_at from atlas.control c),
    'workers', (select count(*) from atlas.worker w where w.state <> 'stopped'
      and w.seen_at > now() - interval '2 minutes'),
    'models', (select coalesce(jsonb_object_agg(s.model, jsonb_build_object('breaker', s.state, 'since', s.since,
        'last_error', s.last_error)), '{}') from atlas.model_state s),
    'held_calls', (select count(*) from atlas.spend s where s.held_until is not null),
    'jit', current_setting('jit')::boolean,
    'budgets', atlas.get_budgets(),
    -- told of as spent, and no limit was raised since
    'spent_budgets', (
      select coalesce(jsonb_agg(jsonb_build_object('scope', b.scope, 'period', l.period, 'unit', l.unit)), '[]')
      from atlas.budget b
      cross join lateral (values ('day', 'tokens', b.daily::numeric), ('day', 'usd', b.usd_daily), ('month', 'tokens', b.monthly),
        ('month', 'usd', b.usd_monthly)) as l (period, unit, most)
      where b.scope not like 'sender:%' and b.enforcement = 'hard' and l.most is not null
        and exists (select from atlas.budget_event e where e.scope = b.scope and e.period = l.period and e.unit = l.unit
          and e.level = 100 and e.most = l.most
          and e.starts = case l.period when 'month' then date_trunc('month', atlas.today())::date else atlas.today() end)))
$$;
comment on function atlas.queue_metrics() is 'What /metrics, heartbeat and `atlas status` show of the queue.';
grant execute on function atlas.queue_metrics() to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
