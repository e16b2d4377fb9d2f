-- The books: one query that proves them, what a question would cost, and how long replies usually are.

create function atlas.check_ledger(p_since date default null)
returns table (problem text, subject text, expected numeric, found numeric)
language sql stable security definer set search_path = ''
as $$
  with call as (
    select s.* from atlas.spend s where p_since is null or s.day >= p_since
  ),
  corrected as (
    select c.id, c.day, c.scopes, c.reserved_tokens, c.state,
      c.tokens + coalesce((select sum(x.tokens) from atlas.spend x where x.corrects = c.id), 0) as tokens
    from call c where c.corrects is null
  ),
  booked as (
    select d.day, d.scope, d.reserved_tokens, d.settled_tokens, d.overrun_tokens, d.reserved_usd, d.settled_usd,
      coalesce(s.reserved_tokens, 0) as real_reserved, coalesce(s.tokens, 0) as real_settled,
      coalesce(s.reserved_usd, 0) as real_reserved_usd, coalesce(s.usd, 0) as real_settled_usd, coalesce(o.overrun, 0) as real_overrun
    from atlas.budget_day d
    left join (
      select c.day, x.scope, sum(c.reserved_tokens) filter (where c.state <> 'settled') as reserved_tokens,
        sum(c.tokens) as tokens, sum(c.reserved_usd) filter (where c.state <> 'settled') as reserved_usd, sum(c.usd) as usd
      from call c cross join unnest(c.scopes) x (scope) group by c.day, x.scope) s on s.day = d.day and s.scope = d.scope
    left join (
      select c.day, x.scope, sum(greatest(0, c.tokens - c.reserved_tokens)) as overrun
      from corrected c cross join unnest(c.scopes) x (scope) where c.state = 'settled' group by c.day, x.scope) o
      on o.day = d.day and o.scope = d.scope
    where p_since is null or d.day >= p_since
  ),
  touched as (select distinct c.task_id from call c),
  by_task as (
    select t.task_id, sum(s.tokens) as tokens, sum(s.usd) as usd, count(*) filter (where s.corrects is null) as calls
    from touched t join atlas.spend s on s.task_id = t.task_id group by t.task_id
  ),
  told as (
    select t.task_id, sum((c.value ->> 'tokens')::numeric) as tokens, sum((c.value ->> 'usd')::numeric) as usd
    from touched t join atlas.audit a on a.task_id = t.task_id and a.event in ('record_usage', 'complete_task') and a.detail ? 'calls'
    cross join jsonb_array_elements(a.detail -> 'calls') c group by t.task_id
  ),
  reserved as (
    select t.task_id, count(*) as calls from touched t
    join atlas.audit a on a.task_id = t.task_id and a.event = 'reserve_tokens' group by t.task_id
  )
  select 'a budget''s reserved tokens are not those of its calls', b.day || ' ' || b.scope, b.real_reserved, b.reserved_tokens
  from booked b where b.real_reserved <> b.reserved_tokens
  union all
  select 'a budget''s settled tokens are not those of its calls', b.day || ' ' || b.scope, b.real_settled, b.settled_tokens
  from booked b where b.real_settled <> b.settled_tokens
  union all
  select 'a budget''s reserved USD are not those of its calls', b.day || ' ' || b.scope, b.real_reserved_usd, b.reserved_usd
  from booked b where b.real_reserved_usd <> b.reserved_usd
  union all
  select 'a budget''s settled USD are not those of its calls', b.day || ' ' || b.scope, b.real_settled_usd, b.settled_usd
  from booked b where b.real_settled_usd <> b.settled_usd
  union all
  select 'a budget''s overrun is not that of its calls', b.day || ' ' || b.scope, b.real_overrun, b.overrun_tokens
  from booked b where b.real_overrun <> b.overrun_tokens
  union all
  select 'a call is in no day of its budget', c.id::text, 1, 0
  from call c join lateral unnest(c.scopes) x (scope) on true
  join atlas.budget b on b.scope = x.scope
  where c.tokens > 0 and c.reserved_at > b.updated_at and c.day = atlas.today()
    and not exists (select from atlas.budget_day d where d.day = c.day and d.scope = x.scope)
  union all
  select 'a reservation belongs to nobody', c.id::text, 0, c.reserved_tokens
  from call c join atlas.attempt a on a.id = c.attempt_id
  where c.state = 'reserved' and c.left_at is null and a.state <> 'running'
  union all
  select 'the audit of a task has other tokens than its calls', b.task_id::text, b.tokens, coalesce(t.tokens, 0)
  from by_task b left join told t on t.task_id = b.task_id where coalesce(b.tokens, 0) <> coalesce(t.tokens, 0)
  union all
  select 'the audit of a task has other USD than its calls', b.task_id::text, b.usd, coalesce(t.usd, 0)
  from by_task b left join told t on t.task_id = b.task_id where coalesce(b.usd, 0) <> coalesce(t.usd, 0)
  union all
  select 'the audit of a task has another number of reservations than calls', b.task_id::text, b.calls, coalesce(r.calls, 0)
  from by_task b left join reserved r on r.task_id = b.task_id where b.calls <> coalesce(r.calls, 0)
  union all
  select 'a task has another number of attempts than it counts', t.task_id::text, k.attempts,
    (select count(*) from atlas.attempt a where a.task_id = t.task_id)
  from touched t join atlas.task k on k.id = t.task_id
  where k.attempts <> (select count(*) from atlas.attempt a where a.task_id = t.task_id)
  union all
  select 'a task runs without its attempt, or an attempt without its task', coalesce(k.id, a.task_id)::text, 1, 0
  from (select t.id, t.attempt_id from atlas.task t where t.state = 'running') k
  full join (select x.id, x.task_id from atlas.attempt x where x.state = 'running') a on a.id = k.attempt_id
  where k.id is null or a.id is null
  union all
  select 'a task waits for reservations that do not exist', t.id::text, 0, 1
  from atlas.task t
  where t.wait_reason = 'reserved_budget' and t.run_after > now() + interval '90 seconds'
    and not exists (select from atlas.budget_day d where d.scope = t.wait_scope and d.reserved_tokens > 0)
  union all
  select 'a held call is not settled long after its hold', c.id::text, 0, c.reserved_tokens
  from call c where c.state = 'held' and c.held_until < now() - interval '10 minutes'
$$;
comment on function atlas.check_ledger(date) is
  'A row for each disagreement between budget days, calls, attempts and audit, since a UTC day; no row: the books are right.';
grant execute on function atlas.check_ledger(date) to service_role, atlas_worker;

-- One worker of the fleet proves the books at a time; the others read what it found.
create function atlas.watch_ledger(p_every interval default interval '5 minutes') returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  found_rows jsonb := jsonb '[]';
begin
  update atlas.control c set books_checked_at = now()
  where c.books_checked_at is null or c.books_checked_at < now() - p_every;
  if found then
    select coalesce(jsonb_agg(to_jsonb(l)), '[]') into found_rows from atlas.check_ledger(atlas.today() - 1) l;
    update atlas.control c set books_wrong = jsonb_array_length(found_rows);
  end if;
  return (select jsonb_build_object('wrong', c.books_wrong, 'rows', found_rows) from atlas.control c);
end
$$;
comment on function atlas.watch_ledger(interval) is
  'Proves the books of today and yesterday, unless a worker has done so lately: {"wrong": rows, "rows": those found now}.';
grant execute on function atlas.watch_ledger(interval) to service_role, atlas_worker;

create function atlas.measure_models() returns integer
language sql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan
as $$
  with model as (
    select s.model from atlas.model_state s
    where s.measured_at is null or s.measured_at < now() - interval '10 minutes' for no key update skip locked
  ),
  measured as (
    select m.model, (
      select percentile_disc(0.99) within group (order by r.output)
      from (
        -- a reply that was cut and continued is one reply; one that used up what was reserved may have wanted as much again
        select sum(c.output_tokens) * case when bool_or(c.cut) then 2 else 1 end as output
        from (select s.attempt_id, s.output_tokens, s.output_tokens >= s.reserved_output as cut from atlas.spend s
              where s.model = m.model and s.known = 'reported' and s.corrects is null and s.state = 'settled'
              order by s.id desc limit 2000) c
        group by c.attempt_id) r) as output
    from model m
  ),
  written as (
    update atlas.model_state s set usual_output = greatest(4000, m.output), measured_at = now()
    from measured m where s.model = m.model returning 1
  )
  select count(*)::integer from written
$$;
comment on function atlas.measure_models() is
  'Measures how long the replies of each model usually are: the 99th percentile of its latest 2,000 calls, 4,000 tokens at least.';
grant execute on function atlas.measure_models() to service_role, atlas_worker;

-- Before a question is asked: the most that it can cost, what such questions cost, and what is left.
create function atlas.quote_task(p_project uuid default null, p_window text default 'soonest', p_tier text default 'default')
returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
declare
  service constant boolean := atlas.is_service();
  task atlas.task;
  run bigint;
  run_usd numeric;
  v_factor numeric;
begin
  if p_window not in ('soonest', '2h', '8h') then
    perform atlas.refuse('window', format('%L is not known', p_window), 'use soonest, 2h or 8h', 'AT005', 'quote_task');
  end if;
  task.sender_key := case when service then 'service' else atlas.uid()::text end;
  if task.sender_key is null then
    raise exception using errcode = 'AT006', message = 'quote_task: nobody is signed in', hint = 'sign in, or use the service key';
  end if;
  task.project_id := coalesce(case when service then p_project else atlas.project_of(atlas.uid(), p_project::text) end,
    '00000000-0000-0000-0000-000000000001');
  v_factor := atlas.price_factor_of(p_tier, p_window);
  select min(b.per_run), min(b.usd_per_run) into run, run_usd from atlas.budget b
  where b.enforcement = 'hard' and b.scope = any (atlas.scopes_of(task.project_id, task.sender_key, ''));
  return jsonb_build_object('run_tokens', run, 'window', p_window, 'factor', v_factor,
    'models', (
      select coalesce(jsonb_agg(jsonb_build_object('model', m.model,
          'worst_usd', least(run_usd, w.usd), 'likely_usd', least(run_usd, l.usd), 'breaker', coalesce(s.state, 'closed')) order by m.n), '[]')
      from (
        select c.model, c.n from (select w.models from atlas.worker w where w.state <> 'stopped' and w.seen_at > now() - interval '2 minutes'
                      and w.models <> '{}' order by w.started_at desc limit 1) k
        cross join unnest(k.models) with ordinality as c (model, n)) m
      left join atlas.model_state s on s.model = m.model
      left join atlas.model x on x.name = m.model
      cross join lateral (select atlas.price_on(m.model, atlas.today()) as price) p
      cross join lateral (select greatest(
        atlas.worst_cost(p.price, 0, least(run, x.max_output_tokens), v_factor),
        atlas.worst_cost(p.price, coalesce(run / 2, x.context_tokens - x.max_output_tokens), least(run - run / 2, x.max_output_tokens), v_factor)) as usd) w
      cross join lateral (
        select percentile_cont(0.5) within group (order by c.usd / c.factor)::numeric(18, 9) * v_factor as usd
        from (select h.usd, h.factor from atlas.spend h where h.model = m.model and h.known = 'reported' and h.corrects is null
              order by h.id desc limit 200) c) l),
    'left', (
      select jsonb_agg(jsonb_build_object('scope', q.scope, 'period', q.period, 'unit', q.unit, 'most', q.most,
        'left', greatest(0, q.most - q.counted)) order by (q.most - q.counted) / nullif(q.most, 0) nulls first)
      from (
        select b.scope, v.*
        from atlas.budget_now b
        left join atlas.share_of(task.project_id, task.sender_key) share on b.scope like 'sender:%'
        cross join lateral (values
          ('day', 'tokens', coalesce(b.daily, share.daily)::numeric, b.settled_tokens + b.reserved_tokens),
          ('day', 'usd', coalesce(b.usd_daily, share.usd_daily), b.settled_usd + b.reserved_usd),
          ('month', 'tokens', b.monthly, b.month_settled_tokens + b.month_reserved_tokens),
          ('month', 'usd', b.usd_monthly, b.month_settled_usd + b.month_reserved_usd)) as v (period, unit, most, counted)
        where b.scope = any (atlas.scopes_of(task.project_id, task.sender_key, '')) and b.enforcement = 'hard' and v.most is not null
        union all
        -- who has not asked yet has their share of the day all the same
        select 'sender:' || task.sender_key, 'day', 'tokens', share.daily, 0 from atlas.share_of(task.project_id, task.sender_key) share
        where share.daily is not null and not exists (select from atlas.budget b where b.scope = 'sender:' || task.sender_key)) q));
end
$$;
comment on function atlas.quote_task(uuid, text, text) is
  'What a question of the caller would cost: {"models": [{"model", "worst_usd", "likely_usd"}], "run_tokens", "left": [{"scope",
"period", "unit", "most", "left"}]}. likely is the median of the model''s latest 200 calls; null: none yet.';
grant execute on function atlas.quote_task(uuid, text, text) to authenticated, service_role;

revoke execute on all functions in schema atlas, rag from public;
