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
  select s.id, s.reserved_tokens, s.reserved_usd into earlier from atlas.spend s
  where s.attempt_id = p_task.attempt_id and s.call = p_call;
  if found then
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
  update atlas.task set state = 'queued', attempt_id = null, wait_reason = p_reason, run_after = p_until,
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
create function atlas.reserve_tokens(p_requests jsonb) returns setof jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  request record;
  task atlas.task;
  answer jsonb;
begin
  perform from atlas.task t where t.attempt_id in (select (r ->> 'attempt_id')::uuid from jsonb_array_elements(p_requests) r)
    and t.state = 'running' order by t.id for update;
  perform atlas.lock_days(array[atlas.today()], array(select distinct unnest(atlas.scopes_of(t.project_id, t.sender_key))
    from atlas.task t where t.state = 'running'
      and t.attempt_id in (select (r ->> 'attempt_id')::uuid from jsonb_array_elements(p_requests) r)));
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
    end if;
    return next answer;
  end loop;
end
$$;
comment on function atlas.reserve_tokens(jsonb) is
  'Reserves the worst case of calls about to be made: [{"attempt_id","call","model","input_tokens","output_tokens"}].';

-- Tasks that waited for others' reservations look again, as many as a settlement may have made room for.
create function atlas.wake_waiting(p_scopes text[], p_limit integer) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if not exists (select from atlas.task t where t.wait_reason = 'reserved_budget') then
    return;
  end if;
  update atlas.task t set wait_reason = null, run_after = now()
  where t.id in (
    select w.id from atlas.task w where w.wait_reason = 'reserved_budget'
      and atlas.scopes_of(w.project_id, w.sender_key) && p_scopes
    order by w.in_id limit p_limit for update skip locked);
  if found then
    perform atlas.wake_workers();
  end if;
end
$$;
comment on function atlas.wake_waiting(text[], integer) is 'Makes tasks ready that waited for reserved money. Internal.';

create function atlas.wake_workers() returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if exists (select from atlas.worker w where w.state = 'idle' and w.seen_at > now() - interval '2 minutes') then
    notify atlas_wake;
  end if;
end
$$;
comment on function atlas.wake_workers() is 'Notifies idle workers, if there are any.';

-- Settles one call; the caller holds the locks. usage: {"input_tokens", "cached_tokens", "output_tokens",
-- "reasoning_tokens", "known"}; null: not known, so the whole reservation counts. A row that was settled as unknown or
-- estimated may be corrected; one that was reported stands.
create function atlas.settle_one(p_spend atlas.spend, p_usage jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_known constant text := coalesce(p_usage ->> 'known', 'unknown');
  price constant atlas.model_price := (select p from atlas.model_price p
    where p.model = p_spend.model and p.valid_from = p_spend.price_from);
  input constant bigint := (p_usage ->> 'input_tokens')::bigint;
  cached constant bigint := coalesce((p_usage ->> 'cached_tokens')::bigint, 0);
  output constant bigint := (p_usage ->> 'output_tokens')::bigint;
  used constant bigint := case when v_known = 'unknown' then p_spend.reserved_tokens else input + output end;
  paid constant numeric := case when v_known = 'unknown' then p_spend.reserved_usd
                                else atlas.cost(price, input, cached, output) end;
  was_open constant boolean := p_spend.state = 'reserved';
begin
  if not was_open and (p_spend.known = 'reported' or v_known = 'unknown') then
    return;
  end if;
  update atlas.budget_day d set
    reserved_tokens = d.reserved_tokens - case when was_open then p_spend.reserved_tokens else 0 end,
    settled_tokens = d.settled_tokens + used - coalesce(p_spend.tokens, 0),
    overrun_tokens = greatest(0, d.overrun_tokens + greatest(0, used - p_spend.reserved_tokens)
      - greatest(0, coalesce(p_spend.tokens, 0) - p_spend.reserved_tokens)),
    reserved_usd = d.reserved_usd - case when was_open then coalesce(p_spend.reserved_usd, 0) else 0 end,
    settled_usd = d.settled_usd + coalesce(paid, 0) - coalesce(p_spend.usd, 0)
  where d.day = p_spend.day and d.scope = any (p_spend.scopes);
  update atlas.spend s set state = 'settled', known = v_known, input_tokens = input,
    cached_tokens = case when v_known <> 'unknown' then cached end, output_tokens = output,
    reasoning_tokens = (p_usage ->> 'reasoning_tokens')::bigint, tokens = used, usd = paid,
    over_reservation = used > s.reserved_tokens, settled_at = now()
  where s.id = p_spend.id;
  perform atlas.append_audit(p_spend.task_id, 'record_usage', jsonb_strip_nulls(jsonb_build_object('call', p_spend.call,
    'model', p_spend.model, 'tokens', used, 'usd', paid, 'known', v_known,
    'over_reservation', case when used > p_spend.reserved_tokens then true end)));
end
$$;
comment on function atlas.settle_one(atlas.spend, jsonb) is 'Settles or corrects one call. Internal: the caller holds the locks.';

-- Settles all open calls of attempts; usages: {"<attempt id>": {"<call>": usage}}. What has no usage counts in full;
-- with p_carry, what has a response id and no usage stays reserved for the next attempt instead.
create function atlas.settle_attempts(p_attempts uuid[], p_usages jsonb, p_carry boolean default false) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  open atlas.spend;
  days date[];
  scopes text[];
begin
  select array_agg(distinct s.day), array_agg(distinct x) into days, scopes
  from atlas.spend s cross join unnest(s.scopes) x
  where s.attempt_id = any (p_attempts) and s.state = 'reserved'
    and not (p_carry and s.response_id is not null and p_usages -> s.attempt_id::text -> s.call::text is null);
  if days is null then
    return;
  end if;
  perform atlas.lock_days(days, scopes);
  for open in
    select s.* from atlas.spend s where s.attempt_id = any (p_attempts) and s.state = 'reserved'
      and not (p_carry and s.response_id is not null and p_usages -> s.attempt_id::text -> s.call::text is null)
    order by s.id
  loop
    perform atlas.settle_one(open, p_usages -> open.attempt_id::text -> open.call::text);
  end loop;
  perform atlas.wake_waiting(scopes, 2 + 2 * cardinality(p_attempts));
end
$$;
comment on function atlas.settle_attempts(uuid[], jsonb, boolean) is 'Settles what attempts still have reserved. Internal.';

-- Usage of calls that do not end their task: a fallback, a repair, a correction of what was unknown. An item is
-- {"spend_id", "usage"}. Answers how many rows were settled or corrected.
create function atlas.record_usage(p_items jsonb) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  item record;
  row atlas.spend;
  scopes text[];
  days date[];
  n integer := 0;
begin
  perform from atlas.task t where t.id in (select s.task_id from atlas.spend s
    where s.id in (select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i)) order by t.id for update;
  select array_agg(distinct s.day), array_agg(distinct x) into days, scopes
  from atlas.spend s cross join unnest(s.scopes) x
  where s.id in (select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i);
  perform atlas.lock_days(days, scopes);
  for item in select i.* from jsonb_to_recordset(p_items) as i (spend_id bigint, usage jsonb) order by i.spend_id loop
    select s.* into row from atlas.spend s where s.id = item.spend_id;
    if found then
      perform atlas.settle_one(row, item.usage);
      n := n + 1;
    end if;
  end loop;
  perform atlas.wake_waiting(scopes, 2 + 2 * n);
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
  insert into atlas.budget as b (scope, per_run, daily, usd_daily, set_by)
  values (p_scope, (p_limits ->> 'per_run')::integer, (p_limits ->> 'daily')::bigint,
    (p_limits ->> 'usd_daily')::numeric, p_set_by)
  on conflict (scope) do update set
    per_run = case when p_limits ? 'per_run' then excluded.per_run else b.per_run end,
    daily = case when p_limits ? 'daily' then excluded.daily else b.daily end,
    usd_daily = case when p_limits ? 'usd_daily' then excluded.usd_daily else b.usd_daily end,
    set_by = excluded.set_by, updated_at = now()
  where p_set_by = 'control' or b.set_by = 'settings'
  returning * into result;
  if result is null then
    select b.* into result from atlas.budget b where b.scope = p_scope;
    return result;
  end if;
  if p_set_by = 'control' then
    perform atlas.append_audit(null, 'set_budget', jsonb_build_object('scope', p_scope) || p_limits);
  end if;
  perform atlas.lock_days(array[atlas.today()], array[p_scope]);
  -- a higher limit may let in who waited for the next day, or for others
  update atlas.task t set wait_reason = null, run_after = now()
  where t.id in (select w.id from atlas.task w where w.wait_reason in ('settled_budget', 'reserved_budget')
    and p_scope = any (atlas.scopes_of(w.project_id, w.sender_key)) for update skip locked);
  perform atlas.wake_workers();
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
