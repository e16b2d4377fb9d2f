-- The money: reserved before it is spent, settled with what was used, never lost.
--
-- settled + reserved <= limit, in tokens and in dollars, a day and a scope. Where only the reservations of others stand
-- in the way, a task waits, and a settlement wakes it. Where settled spend does, it is deferred to the next day, or
-- refused if even an empty day would not hold it. The fleet's one hot row is locked last and by many tasks at once.

create function atlas.today() returns date
language sql stable set search_path = ''
as $$ select (now() at time zone 'UTC')::date $$;
comment on function atlas.today() is 'The budget''s day: UTC.';

create function atlas.scopes_of(project uuid, sender text) returns text[]
language sql immutable set search_path = ''
as $$ select array['global', 'project:' || project, 'sender:' || sender] $$;
comment on function atlas.scopes_of(uuid, text) is 'The budgets a task is counted in.';

-- Opens a day's row of a budget. A budget set in the middle of a day counts what was spent and reserved before it.
create function atlas.open_day(p_scope text, p_day date) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if exists (select from atlas.budget_day b where b.scope = p_scope and b.day = p_day) then
    return;
  end if;
  if p_scope <> 'global' then
    -- every reservation and settlement holds this row: with it, the sums below stand still
    perform atlas.open_day('global', p_day);
    perform from atlas.budget_day b where b.scope = 'global' and b.day = p_day for update;
  else
    insert into atlas.budget (scope) values ('global') on conflict do nothing;
  end if;
  insert into atlas.budget_day (day, scope, reserved_tokens, settled_tokens, reserved_usd, settled_usd)
  select p_day, p_scope,
    coalesce(sum(s.reserved_tokens) filter (where s.state = 'reserved'), 0), coalesce(sum(s.tokens), 0),
    coalesce(sum(s.reserved_usd) filter (where s.state = 'reserved'), 0), coalesce(sum(s.usd), 0)
  from atlas.spend s where s.day = p_day and p_scope = any (s.scopes)
  on conflict do nothing;
end
$$;
comment on function atlas.open_day(text, date) is 'Opens a budget''s row of a day, with what the day already holds.';

create function atlas.lock_days(p_days date[], p_scopes text[]) returns void
language sql security definer set search_path = ''
as $$
  select atlas.open_day(b.scope, d.day)
  from atlas.budget b cross join unnest(p_days) as d (day)
  where b.scope = any (p_scopes)
    and not exists (select from atlas.budget_day x where x.scope = b.scope and x.day = d.day)
  order by b.scope;
  select from atlas.budget_day b where b.day = any (p_days) and b.scope = any (p_scopes)
  order by b.day, b.scope for update;
$$;
comment on function atlas.lock_days(date[], text[]) is 'Opens and locks days of budgets, in the one order.';

-- One reservation; the caller holds the locks. Answers {"outcome": reserved|wait|defer|refuse, …}.
create function atlas.reserve_one(p_task atlas.task, p_call integer, p_model text, p_input bigint, p_output bigint) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_day constant date := atlas.today();
  scopes constant text[] := atlas.scopes_of(p_task.project_id, p_task.sender_key);
  price constant atlas.model_price := atlas.price_on(p_model, v_day);
  need constant bigint := p_input + p_output;
  usd constant numeric := atlas.cost(price, p_input, 0, p_output);
  line record;
  earlier record;
  used bigint;
begin
  select s.id, s.state, s.reserved_tokens, s.reserved_usd into earlier from atlas.spend s
  where s.attempt_id = p_task.attempt_id and s.call = p_call;
  if found and (earlier.state <> 'reserved' or earlier.reserved_tokens < need) then
    return jsonb_build_object('outcome', 'refuse', 'code', 'call_number', 'scope', 'global', 'message',
      format('call %s of this attempt is taken: number the next call %s', p_call, p_call + 1));
  elsif found then
    return jsonb_build_object('outcome', 'reserved', 'spend_id', earlier.id, 'tokens', earlier.reserved_tokens,
      'usd', earlier.reserved_usd);
  end if;
  select coalesce(sum(coalesce(s.tokens, s.reserved_tokens)), 0) into used
  from atlas.spend s where s.attempt_id = p_task.attempt_id;
  for line in
    select b.scope, b.per_run, b.daily, b.usd_daily, d.reserved_tokens, d.settled_tokens, d.overrun_tokens,
      d.reserved_usd, d.settled_usd
    from atlas.budget b join atlas.budget_day d on d.scope = b.scope and d.day = v_day
    where b.scope = any (scopes) order by b.scope
  loop
    if used + need > line.per_run then
      return jsonb_build_object('outcome', 'refuse', 'code', 'run_budget', 'scope', line.scope,
        'message', format('%s tokens needed, %s of %s left in this run', need, line.per_run - used, line.per_run));
    end if;
    if need > line.daily or usd > line.usd_daily then
      return jsonb_build_object('outcome', 'refuse', 'code', 'day_budget', 'scope', line.scope, 'message',
        case when need > line.daily then format('%s tokens needed, the day''s budget (%s) is %s', need, line.scope, line.daily)
             else format('%s USD needed, the day''s budget (%s) is %s', round(usd, 4), line.scope, line.usd_daily) end);
    end if;
    if line.usd_daily is not null and usd is null then
      return jsonb_build_object('outcome', 'refuse', 'code', 'model_unpriced', 'scope', line.scope,
        'message', format('model %s has no price, and %s has a budget in USD', p_model, line.scope));
    end if;
    if line.settled_tokens + need > line.daily or line.settled_usd + usd > line.usd_daily then
      return jsonb_build_object('outcome', 'defer', 'code', 'day_budget', 'scope', line.scope,
        'settled_tokens', line.settled_tokens, 'until', (v_day + 1)::timestamp at time zone 'UTC',
        'message', format('the day''s budget (%s) is spent: %s of %s tokens, %s of %s USD', line.scope,
          line.settled_tokens, coalesce(line.daily::text, 'any'), round(line.settled_usd, 4),
          coalesce(line.usd_daily::text, 'any')));
    end if;
    if line.settled_tokens + line.reserved_tokens + need > line.daily
       or line.settled_usd + line.reserved_usd + usd > line.usd_daily then
      return jsonb_build_object('outcome', 'wait', 'code', 'reserved_budget', 'scope', line.scope,
        'settled_tokens', line.settled_tokens,
        'message', format('others have reserved what is left of the day''s budget (%s)', line.scope));
    end if;
  end loop;
  update atlas.budget_day d set reserved_tokens = d.reserved_tokens + need,
    reserved_usd = d.reserved_usd + coalesce(usd, 0)
  where d.day = v_day and d.scope = any (scopes);
  insert into atlas.spend (task_id, attempt_id, call, model, price_from, day, scopes, reserved_tokens, reserved_usd)
  values (p_task.id, p_task.attempt_id, p_call, p_model, price.valid_from, v_day, scopes, need, usd)
  returning id into used;
  return jsonb_build_object('outcome', 'reserved', 'spend_id', used, 'tokens', need, 'usd', usd);
end
$$;
comment on function atlas.reserve_one(atlas.task, integer, text, bigint, bigint) is
  'Reserves the worst case of one call, or says why not. Internal: the caller holds the locks.';

-- Hands a running task back to the queue without counting it against the task.
create function atlas.release_task(p_task atlas.task, p_reason text, p_until timestamptz, p_state text,
  p_code text default null, p_message text default null) returns void
language sql security definer set search_path = ''
as $$
  update atlas.attempt set state = p_state, finished_at = now(), error_code = p_code, error_message = p_message
  where id = p_task.attempt_id;
  update atlas.task set state = 'queued', attempt_id = null, wait_reason = p_reason, wait_scope = null, run_after = p_until,
    error_code = p_code, error_message = p_message
  where id = p_task.id;
  select atlas.append_audit(p_task.id, 'release_task', jsonb_strip_nulls(jsonb_build_object('reason', p_reason, 'state',
    p_state, 'attempt', p_task.attempts, 'code', p_code)));
$$;
comment on function atlas.release_task(atlas.task, text, timestamptz, text, text, text) is
  'Hands a running task back to the queue. Internal.';

-- Many reservations in one commit. A request is {"attempt_id", "call", "model", "input_tokens", "output_tokens",
-- "may_wait"}; the answers come in the order of the requests. outcome: reserved | wait | defer | refuse | lost. On wait
-- and defer the task went back to the queue (where may_wait is true).
--
-- Where all of them fit, they are reserved by one statement. Else they are taken one by one.
create function atlas.reserve_tokens(p_requests jsonb) returns setof jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  attempt_ids constant uuid[] := array(select (r ->> 'attempt_id')::uuid from jsonb_array_elements(p_requests) r);
  v_day constant date := atlas.today();
  v_scopes text[];
  request record;
  task atlas.task;
  answer jsonb;
begin
  perform from atlas.task t where t.attempt_id = any (attempt_ids) and t.state = 'running' order by t.id for no key update;
  perform from atlas.attempt a where a.id = any (attempt_ids) and a.state = 'running' order by a.id for no key update;
  select array_agg(distinct x) into v_scopes from atlas.task t
  cross join unnest(array['global', 'project:' || t.project_id, 'sender:' || t.sender_key]) x
  where t.attempt_id = any (attempt_ids) and t.state = 'running';
  perform atlas.lock_days(array[v_day], v_scopes);
  return query
  with request as (
    select r.n, r.attempt_id, r.call, r.model, r.input_tokens + r.output_tokens as need, t.id as task_id,
      array['global', 'project:' || t.project_id, 'sender:' || t.sender_key] as scopes, (p.price).valid_from,
      atlas.cost(p.price, r.input_tokens, 0, r.output_tokens) as usd,
      case when r.call = 0 then 0 else (select coalesce(sum(coalesce(s.tokens, s.reserved_tokens)), 0)
        from atlas.spend s where s.attempt_id = r.attempt_id) end as used
    from rows from (jsonb_to_recordset(p_requests) as (attempt_id uuid, call integer, model text, input_tokens bigint,
      output_tokens bigint)) with ordinality as r (attempt_id, call, model, input_tokens, output_tokens, n)
    left join atlas.task t on t.attempt_id = r.attempt_id and t.state = 'running'
    left join lateral (select atlas.price_on(r.model, v_day) as price) p on true
  ),
  total as (
    select x.scope, sum(q.need) as need, sum(q.usd) as usd, max(q.used + q.need) as longest, bool_and(q.usd is not null) as priced
    from request q cross join unnest(q.scopes) x (scope) group by x.scope
  ),
  verdict as (
    select not exists (select from request q where q.task_id is null)
      and (select count(distinct q.attempt_id) = count(*) from request q)
      and not exists (select from atlas.spend s join request q on q.attempt_id = s.attempt_id and q.call = s.call)
      and not exists (
        select from total o join atlas.budget b on b.scope = o.scope
        join atlas.budget_day d on d.scope = o.scope and d.day = v_day
        where o.longest > b.per_run
          or d.settled_tokens + d.reserved_tokens + o.need > b.daily
          or (b.usd_daily is not null
              and (not o.priced or d.settled_usd + d.reserved_usd + o.usd > b.usd_daily))) as fits
  ),
  reserved as (
    insert into atlas.spend (task_id, attempt_id, call, model, price_from, day, scopes, reserved_tokens, reserved_usd)
    select q.task_id, q.attempt_id, q.call, q.model, q.valid_from, v_day, q.scopes, q.need, q.usd
    from request q cross join verdict v where v.fits order by q.n
    returning id, spend.attempt_id
  ),
  booked as (
    update atlas.budget_day d set reserved_tokens = d.reserved_tokens + o.need,
      reserved_usd = d.reserved_usd + coalesce(o.usd, 0)
    from total o cross join verdict v where v.fits and d.day = v_day and d.scope = o.scope
  )
  select jsonb_build_object('outcome', 'reserved', 'spend_id', s.id, 'tokens', q.need, 'usd', q.usd)
  from request q join reserved s on s.attempt_id = q.attempt_id order by q.n;
  if found then
    perform atlas.append_audits('reserve_tokens', array_agg(s.task_id), array_agg(jsonb_build_object('call', s.call,
      'model', s.model, 'tokens', s.reserved_tokens, 'usd', s.reserved_usd)))
    from jsonb_to_recordset(p_requests) as r (attempt_id uuid, call integer)
    join atlas.spend s on s.attempt_id = r.attempt_id and s.call = r.call;
    return;
  end if;
  for request in
    select r.* from jsonb_to_recordset(p_requests) as r (attempt_id uuid, call integer, model text,
      input_tokens bigint, output_tokens bigint, may_wait boolean)
  loop
    select t.* into task from atlas.task t where t.attempt_id = request.attempt_id and t.state = 'running';
    if not found then
      return next jsonb_build_object('outcome', 'lost');
      continue;
    end if;
    answer := atlas.reserve_one(task, request.call, request.model, request.input_tokens, request.output_tokens);
    if answer ->> 'outcome' = 'reserved' then
      perform atlas.append_audit(task.id, 'reserve_tokens', jsonb_build_object('call', request.call,
        'model', request.model, 'tokens', answer -> 'tokens', 'usd', answer -> 'usd'));
    elsif answer ->> 'outcome' in ('wait', 'defer') and coalesce(request.may_wait, true) then
      -- a settlement wakes it; the minute is a net for a wake-up that found the row locked
      perform atlas.release_task(task,
        case answer ->> 'outcome' when 'wait' then 'reserved_budget' else 'settled_budget' end,
        case answer ->> 'outcome' when 'wait' then now() + interval '1 minute' else (answer ->> 'until')::timestamptz end,
        'released', answer ->> 'code', answer ->> 'message');
      -- somebody asked to cancel it: that does not wait for money
      update atlas.task t set wait_scope = answer ->> 'scope' where t.id = task.id and t.cancel_requested_at is null;
      update atlas.task t set wait_reason = null, run_after = now() where t.id = task.id and t.cancel_requested_at is not null;
    end if;
    return next answer;
  end loop;
end
$$;
comment on function atlas.reserve_tokens(jsonb) is
  'Reserves the worst case of calls about to be made: [{"attempt_id","call","model","input_tokens","output_tokens"}].';

-- Tasks that waited for others' reservations look again, about as many as a settlement may have made room for. p_all: also
-- those that were deferred to the next day, since settled money fell or a limit rose.
create function atlas.wake_waiting(p_scopes text[], p_limit integer, p_all boolean default false) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update atlas.task t set wait_reason = null, wait_scope = null, run_after = now()
  where t.id in (
    select w.id from atlas.task w where w.wait_scope = any (p_scopes) and (p_all or w.wait_reason = 'reserved_budget')
    order by w.in_id limit p_limit for no key update skip locked);
  if found then
    perform atlas.wake_workers();
  end if;
end
$$;
comment on function atlas.wake_waiting(text[], integer, boolean) is 'Makes tasks ready that waited for a budget. Internal.';

-- Settles or corrects calls; the caller holds the locks. An item is {"spend_id", "usage"}; a usage is {"input_tokens",
-- "cached_tokens", "output_tokens", "reasoning_tokens", "known"}, null: not known, so the whole reservation counts. What
-- was settled as unknown or estimated may be corrected; what was reported stands.
create function atlas.settle_spends(p_items jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  tasks uuid[];
  details jsonb[];
begin
  with item as (
    select distinct on (s.id) s.id, s.task_id, s.call, s.model, s.price_from, s.day, s.scopes, s.reserved_tokens, s.reserved_usd,
      s.state = 'reserved' as was_open, coalesce(s.tokens, 0) as was_tokens, coalesce(s.usd, 0) as was_usd,
      case when i.usage ->> 'input_tokens' is null or i.usage ->> 'output_tokens' is null then 'unknown'
           else coalesce(i.usage ->> 'known', 'unknown') end as known,
      (i.usage ->> 'input_tokens')::bigint as input, coalesce((i.usage ->> 'cached_tokens')::bigint, 0) as cached,
      (i.usage ->> 'output_tokens')::bigint as output, (i.usage ->> 'reasoning_tokens')::bigint as reasoning
    from jsonb_to_recordset(p_items) as i (spend_id bigint, usage jsonb)
    join atlas.spend s on s.id = i.spend_id
    where s.state = 'reserved' or (s.known <> 'reported' and coalesce(i.usage ->> 'known', 'unknown') <> 'unknown')
    order by s.id
  ),
  priced as (
    select i.*, case i.known when 'unknown' then i.reserved_tokens else i.input + i.output end as tokens,
      case i.known when 'unknown' then i.reserved_usd else atlas.cost(p, i.input, i.cached, i.output) end as usd
    from item i left join atlas.model_price p on p.model = i.model and p.valid_from = i.price_from
  ),
  settled as (
    update atlas.spend s set state = 'settled', known = p.known, input_tokens = p.input,
      cached_tokens = case when p.known <> 'unknown' then p.cached end, output_tokens = p.output,
      reasoning_tokens = p.reasoning, tokens = p.tokens, usd = p.usd,
      over_reservation = p.tokens > p.reserved_tokens, settled_at = now()
    from priced p where s.id = p.id
  ),
  booked as (
    update atlas.budget_day d set
      reserved_tokens = d.reserved_tokens - x.released_tokens, reserved_usd = d.reserved_usd - x.released_usd,
      settled_tokens = d.settled_tokens + x.tokens, settled_usd = d.settled_usd + x.usd,
      overrun_tokens = greatest(0, d.overrun_tokens + x.overrun)
    from (
      select p.day, c.scope,
        coalesce(sum(p.reserved_tokens) filter (where p.was_open), 0) as released_tokens,
        coalesce(sum(p.reserved_usd) filter (where p.was_open), 0) as released_usd,
        sum(p.tokens - p.was_tokens) as tokens, sum(coalesce(p.usd, 0) - p.was_usd) as usd,
        sum(greatest(0, p.tokens - p.reserved_tokens) - greatest(0, p.was_tokens - p.reserved_tokens)) as overrun
      from priced p cross join unnest(p.scopes) c (scope) group by p.day, c.scope) x
    where d.day = x.day and d.scope = x.scope
  ),
  told as (
    select p.task_id, jsonb_build_object('calls', jsonb_agg(jsonb_strip_nulls(jsonb_build_object('call', p.call,
      'model', p.model, 'tokens', p.tokens, 'usd', p.usd, 'known', p.known,
      'over_reservation', case when p.tokens > p.reserved_tokens then true end)) order by p.id)) as detail
    from priced p group by p.task_id
  )
  select array_agg(t.task_id), array_agg(t.detail) into tasks, details from told t;
  if tasks is not null then
    perform atlas.append_audits('record_usage', tasks, details);
  end if;
end
$$;
comment on function atlas.settle_spends(jsonb) is 'Settles or corrects calls. Internal: the caller holds the locks.';

-- Settles all open calls of attempts; usages: {"<attempt id>": {"<call>": usage}}. What has no usage counts in full;
-- with p_carry, what has a response id and no usage stays reserved for the next attempt instead.
create function atlas.settle_attempts(p_attempts uuid[], p_usages jsonb, p_carry boolean default false) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  items jsonb;
  v_days date[];
  v_scopes text[];
begin
  select jsonb_agg(jsonb_build_object('spend_id', s.id, 'usage', p_usages -> s.attempt_id::text -> s.call::text)),
      array_agg(distinct s.day)
    into items, v_days
  from atlas.spend s
  where s.attempt_id = any (p_attempts)
    and (s.state = 'reserved' or (s.known <> 'reported' and p_usages -> s.attempt_id::text -> s.call::text is not null))
    and not (p_carry and s.response_id is not null and p_usages -> s.attempt_id::text -> s.call::text is null
             and s.id = (select max(o.id) from atlas.spend o where o.attempt_id = s.attempt_id and o.state = 'reserved'));
  if items is null then
    return;
  end if;
  select array_agg(distinct x) into v_scopes from atlas.spend s cross join unnest(s.scopes) x
  where s.attempt_id = any (p_attempts);
  perform atlas.lock_days(v_days, v_scopes);
  perform atlas.settle_spends(items);
  perform atlas.wake_waiting(v_scopes, 2 + 2 * cardinality(p_attempts));
end
$$;
comment on function atlas.settle_attempts(uuid[], jsonb, boolean) is 'Settles what attempts still have reserved. Internal.';

-- Usage of calls that do not end their task: a fallback, a repair, a correction of what was unknown. An item is
-- {"spend_id", "attempt_id", "usage"}: the attempt must be the one that runs the task now, unless the service role corrects
-- the books. Answers how many calls there were.
create function atlas.record_usage(p_items jsonb) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  ids constant bigint[] := array(select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i);
  service constant boolean := atlas.is_service();
  allowed jsonb;
  corrects boolean;
  v_days date[];
  v_scopes text[];
  n integer;
begin
  perform from atlas.task t where t.id in (select s.task_id from atlas.spend s where s.id = any (ids))
  order by t.id for no key update;
  select jsonb_agg(i) into allowed from jsonb_array_elements(p_items) i
  join atlas.spend s on s.id = (i ->> 'spend_id')::bigint join atlas.task t on t.id = s.task_id
  where service or (s.attempt_id = (i ->> 'attempt_id')::uuid and t.attempt_id = s.attempt_id);
  if allowed is null then
    return 0;
  end if;
  select count(distinct s.id), array_agg(distinct s.day), array_agg(distinct x) into n, v_days, v_scopes
  from atlas.spend s cross join unnest(s.scopes) x where s.id = any (ids);
  perform atlas.lock_days(v_days, v_scopes);
  -- only a correction can make settled money fall, and let in who was deferred
  corrects := exists (select from atlas.spend s where s.id = any (ids) and s.state = 'settled');
  perform atlas.settle_spends(allowed);
  perform atlas.wake_waiting(v_scopes, 2 + 2 * n, corrects);
  return n;
end
$$;
comment on function atlas.record_usage(jsonb) is
  'Settles calls, or corrects what was unknown: [{"spend_id", "usage": {"input_tokens","output_tokens","known",…}}].';

-- Limits. Those of the environment give way to those that set_budget set.
create function atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text default 'control')
returns atlas.budget
language plpgsql security definer set search_path = ''
as $$
declare
  result atlas.budget;
begin
  if p_scope like 'project:%' and not exists (select from atlas.project p where p.id = atlas.as_uuid(substr(p_scope, 9))) then
    raise exception using errcode = 'AT004', message = format('set_budget: no project %s', substr(p_scope, 9)),
      hint = 'name a project by its id: select id, name from atlas.project';
  end if;
  insert into atlas.budget (scope) values (p_scope) on conflict do nothing;
  update atlas.budget b set
    per_run = case when 'per_run' = any (wanted) then (p_limits ->> 'per_run')::numeric::integer else b.per_run end,
    daily = case when 'daily' = any (wanted) then (p_limits ->> 'daily')::numeric::bigint else b.daily end,
    usd_daily = case when 'usd_daily' = any (wanted) then (p_limits ->> 'usd_daily')::numeric else b.usd_daily end,
    controlled = case p_set_by when 'control' then array(select distinct x from unnest(b.controlled || wanted) x order by x)
                               else b.controlled end,
    updated_at = now()
  from (select array(select k from jsonb_object_keys(p_limits) k
    where k in ('per_run', 'daily', 'usd_daily')
      and (p_set_by = 'control' or k <> all ((select o.controlled from atlas.budget o where o.scope = p_scope)::text[]))) as wanted) w
  where b.scope = p_scope
  returning b.* into result;
  if p_set_by = 'control' then
    perform atlas.append_audit(null, 'set_budget', jsonb_build_object('scope', p_scope) || p_limits);
  end if;
  perform atlas.lock_days(array[atlas.today()], array[p_scope]);
  -- a higher limit may let in who waited for the next day, or for others
  perform atlas.wake_waiting(array[p_scope], 100000, true);
  return result;
end
$$;
comment on function atlas.set_budget(text, jsonb, text) is
  'Sets limits of a scope: {"per_run": tokens, "daily": tokens, "usd_daily": dollars}; null removes one.';

create function atlas.get_budgets() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(b) || coalesce(to_jsonb(d) - 'scope', jsonb_build_object('day', atlas.today(),
      'reserved_tokens', 0, 'settled_tokens', 0, 'overrun_tokens', 0, 'reserved_usd', 0, 'settled_usd', 0))
    order by b.scope), '[]')
  from atlas.budget b left join atlas.budget_day d on d.scope = b.scope and d.day = atlas.today()
$$;
comment on function atlas.get_budgets() is 'All limits with what today holds.';

grant execute on function atlas.reserve_tokens(jsonb), atlas.record_usage(jsonb), atlas.get_budgets(),
  atlas.set_budget(text, jsonb, text), atlas.today() to service_role, atlas_worker;
grant execute on function atlas.today() to authenticated;

revoke execute on all functions in schema atlas, rag from public;
