-- Reservations: before a call its worst case is taken out of every budget that its task counts in, or the task waits.

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
  set plan_cache_mode = force_generic_plan set enable_seqscan = off
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
grant execute on function atlas.reserve_tokens(jsonb) to service_role, atlas_worker;

-- Tasks that waited for others' reservations look again, about as many as a settlement may have made room for. p_all: also
-- those that were deferred to the next day, since settled money fell or a limit rose.
create function atlas.wake_waiting(p_scopes text[], p_limit integer, p_all boolean default false) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off
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

revoke execute on all functions in schema atlas, rag from public;
