-- Reservations: before a call its worst case is taken out of every budget that its task counts in, or the task waits.

create function atlas.grouped(value numeric) returns text
language sql immutable set search_path = ''
as $$ select to_char(value, case when value = trunc(value) then 'FM999,999,999,999,990' else 'FM999,999,990.0000' end) $$;
comment on function atlas.grouped(numeric) is 'A number as people read it, such as 73,768 or 0.0450. Internal.';

-- A person without a budget of their own has a share of their project's day, so that nobody can spend all of it.
create function atlas.share_of(p_project uuid, p_sender text) returns table (daily bigint, usd_daily numeric)
language sql stable security definer set search_path = ''
as $$
  select floor(r.sender_daily_share * coalesce(p.daily, g.daily))::bigint, r.sender_daily_share * coalesce(p.usd_daily, g.usd_daily)
  from atlas.spend_rules r
  left join atlas.budget g on g.scope = 'global' and g.enforcement = 'hard'
  left join atlas.budget p on p.scope = 'project:' || p_project and p.enforcement = 'hard'
  where p_sender <> 'service'
$$;
comment on function atlas.share_of(uuid, text) is
  'What a sender without a budget of their own may spend a day; no row for the service role. Internal.';

-- One reservation; the caller holds the locks. Answers {"outcome": reserved|wait|defer|refuse, …}.
create function atlas.reserve_one(p_task atlas.task, p_call integer, p_model text, p_input bigint, p_output bigint, p_tier text,
  p_window text) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_day constant date := atlas.today();
  scopes constant text[] := atlas.scopes_of(p_task.project_id, p_task.sender_key, p_model);
  price constant atlas.model_price := atlas.price_on(p_model, v_day);
  v_factor constant numeric := atlas.price_factor_of(p_tier, p_window);
  need constant bigint := p_input + p_output;
  usd constant numeric := atlas.worst_cost(price, p_input, p_output, v_factor);
  earlier record;
  hit record;
  used record;
  spend_id bigint;
  holds timestamptz;
begin
  select s.id, s.state, s.reserved_tokens, s.reserved_usd into earlier from atlas.spend s
  where s.attempt_id = p_task.attempt_id and s.call = p_call and s.corrects is null;
  if found and (earlier.state <> 'reserved' or earlier.reserved_tokens < need) then
    return jsonb_build_object('outcome', 'refuse', 'code', 'call_number', 'scope', 'global', 'message',
      format('call %s of this attempt is taken: number the next call %s', p_call, p_call + 1));
  elsif found then
    return jsonb_build_object('outcome', 'reserved', 'spend_id', earlier.id, 'tokens', earlier.reserved_tokens,
      'usd', earlier.reserved_usd, 'again', true);
  end if;
  select min(s.held_until) into holds from atlas.spend s
  where s.task_id = p_task.id and s.state = 'held' and s.held_until > now() having count(*) > 1;
  if found then
    return jsonb_build_object('outcome', 'wait', 'code', 'held', 'until', holds, 'message',
      format('two calls were sent and not answered: the next one is made when their hold ends, at %s',
        to_char(holds at time zone 'UTC', 'HH24:MI:SS "UTC"')));
  end if;
  -- what a lost attempt left on hold counts in the day and the month, not in this run
  select coalesce(sum(coalesce(s.tokens, s.reserved_tokens)), 0) as tokens, coalesce(sum(coalesce(s.usd, s.reserved_usd)), 0) as usd
    into used from atlas.spend s where s.task_id = p_task.id and s.attempt_id = p_task.attempt_id and s.state <> 'held';
  select b.scope into hit from atlas.budget_now b
  where b.scope = any (scopes) and b.enforcement = 'hard' and usd is null
    and num_nonnulls(b.usd_per_run, b.usd_daily, b.usd_monthly) > 0 order by b.scope limit 1;
  if found then
    return jsonb_build_object('outcome', 'refuse', 'code', 'model_unpriced', 'scope', hit.scope,
      'message', format('model %s has no price, and %s has a budget in USD', p_model, hit.scope));
  end if;
  select b.scope, b.when_spent, case l.period when 'run' then b.run_lowered_at when 'day' then b.day_lowered_at else b.month_lowered_at end
      > p_task.queued_at as lowered, l.*,
    l.settled + l.need > l.most and (not l.shared or l.settled > 0) as spent into hit
  from atlas.budget_now b
  left join atlas.share_of(p_task.project_id, p_task.sender_key) share on b.scope like 'sender:%'
  cross join lateral (values
    ('run', 'in this run', 'tokens', b.per_run::numeric, used.tokens, 0::numeric, need::numeric, null::date, false),
    ('run', 'in this run', 'USD', b.usd_per_run, used.usd, 0, usd, null, false),
    ('day', 'today', 'tokens', coalesce(b.daily, share.daily), b.settled_tokens, b.reserved_tokens, need, v_day + 1, b.daily is null),
    ('day', 'today', 'USD', coalesce(b.usd_daily, share.usd_daily), b.settled_usd, b.reserved_usd, usd, v_day + 1,
      b.usd_daily is null),
    ('month', 'this month', 'tokens', b.monthly, b.month_settled_tokens, b.month_reserved_tokens, need,
      (date_trunc('month', v_day) + interval '1 month')::date, false),
    ('month', 'this month', 'USD', b.usd_monthly, b.month_settled_usd, b.month_reserved_usd, usd,
      (date_trunc('month', v_day) + interval '1 month')::date, false)
  ) as l (period, said, unit, most, settled, reserved, need, following, shared)
  where b.scope = any (scopes) and b.enforcement = 'hard' and l.need > 0 and l.settled + l.reserved + l.need > l.most
    -- a share never stands in the way of a person's first call of a day
    and not (l.shared and l.settled + l.reserved = 0)
  -- what can never fit first, then what is spent the longest, then what others have reserved
  order by ((l.need > l.most and not l.shared) or l.period = 'run') desc, l.settled + l.need > l.most desc, l.following desc nulls first, b.scope limit 1;
  if found then
    -- what is left is too little for a call: for those who ask it is spent
    if hit.spent and hit.period <> 'run' and hit.need <= hit.most and not hit.shared then
      perform atlas.announce_budget(hit.scope, hit.period, lower(hit.unit), 100, hit.most, hit.settled);
    end if;
    return jsonb_strip_nulls(jsonb_build_object(
      'outcome', case
        when hit.spent and not hit.lowered is true and ((hit.need > hit.most and not hit.shared) or hit.period = 'run') then 'refuse'
        when hit.spent and hit.when_spent = 'reject' and not hit.lowered is true then 'refuse'
        when hit.spent then 'defer' else 'wait' end,
      'code', case when hit.period = 'run' then 'run_budget' when hit.spent then hit.period || '_budget' else 'reserved_budget' end,
      'scope', hit.scope, 'settled', hit.settled, 'reserved', hit.reserved, 'most', hit.most,
      'until', case when hit.spent then coalesce(hit.following, v_day + 1)::timestamp at time zone 'UTC' end,
      'message', format('%s: %s needs %s%s at worst, %s left of %s%s %s (%s spent%s)', hit.scope, p_model, atlas.grouped(hit.need),
        case hit.unit when 'USD' then ' USD' else '' end,
        atlas.grouped(greatest(0, hit.most - hit.settled - case when hit.spent then 0 else hit.reserved end)),
        atlas.grouped(hit.most), case hit.unit when 'USD' then ' USD' else '' end, hit.said, atlas.grouped(hit.settled),
        case when not hit.spent then ', ' || atlas.grouped(hit.reserved) || ' reserved by calls under way' else '' end)));
  end if;
  update atlas.budget_day d set reserved_tokens = d.reserved_tokens + need,
    reserved_usd = d.reserved_usd + coalesce(usd, 0)
  where d.day = v_day and d.scope = any (scopes);
  insert into atlas.spend (task_id, attempt_id, call, model, price_from, tier, completion_window, factor, day, scopes,
    reserved_tokens, reserved_usd, reserved_output)
  values (p_task.id, p_task.attempt_id, p_call, p_model, price.valid_from, p_tier, p_window, v_factor, v_day, scopes, need, usd, p_output)
  returning id into spend_id;
  return jsonb_build_object('outcome', 'reserved', 'spend_id', spend_id, 'tokens', need, 'usd', usd);
end
$$;
comment on function atlas.reserve_one(atlas.task, integer, text, bigint, bigint, text, text) is
  'Reserves the worst case of one call, or says why not. Internal: the caller holds the locks.';

-- Hands a running task back to the queue without counting it against the task.
create function atlas.release_task(p_task atlas.task, p_reason text, p_until timestamptz, p_state text,
  p_code text default null, p_message text default null) returns void
language sql security definer set search_path = ''
as $$
  update atlas.attempt set state = p_state, finished_at = now(), error_code = p_code, error_message = p_message
  where id = p_task.attempt_id;
  -- somebody asked to cancel it: that waits for nothing
  update atlas.task t set state = 'queued', attempt_id = null, wait_scope = null, adopted_at = null,
    wait_reason = case when t.cancel_requested_at is null then p_reason end,
    run_after = case when t.cancel_requested_at is null then p_until else now() end,
    error_code = p_code, error_message = p_message
  where id = p_task.id;
  select atlas.append_audit(p_task.id, 'release_task', jsonb_strip_nulls(jsonb_build_object('reason', p_reason, 'state',
    p_state, 'attempt', p_task.attempts, 'worker', (select a.lease_owner from atlas.attempt a where a.id = p_task.attempt_id),
    'code', p_code)));
$$;
comment on function atlas.release_task(atlas.task, text, timestamptz, text, text, text) is
  'Hands a running task back to the queue. Internal.';

-- Many reservations in one commit. A request is {"attempt_id", "call", "model", "input_tokens", "output_tokens", "tier",
-- "completion_window", "may_wait"}; the answers come in the order of the requests. outcome: reserved | wait | defer | refuse |
-- lost. On wait and defer the task went back to the queue (where may_wait is true).
--
-- Where all of them fit, they are reserved by one statement. Else they are taken one by one.
create function atlas.reserve_tokens(p_requests jsonb) returns setof jsonb
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  attempt_ids constant uuid[] := array(select (r ->> 'attempt_id')::uuid from jsonb_array_elements(p_requests) r);
  v_day constant date := atlas.today();
  v_tasks constant uuid[] := array(select a.task_id from atlas.attempt a where a.id = any (attempt_ids));
  v_scopes text[];
  request record;
  task atlas.task;
  answer jsonb;
begin
  if exists (select from jsonb_to_recordset(p_requests) as r (input_tokens bigint, output_tokens bigint)
             where least(r.input_tokens, r.output_tokens) < 0) then
    perform atlas.refuse('input_tokens or output_tokens', 'is negative', 'send what the call may use at most, at least 0', 'AT005',
      'reserve_tokens');
  end if;
  if exists (select from jsonb_to_recordset(p_requests) as r (model text) where r.model is null) then
    perform atlas.refuse('model', 'is missing', 'name the model that is to be called', 'AT005', 'reserve_tokens');
  end if;
  perform from atlas.task t where t.id = any (v_tasks) and t.attempt_id = any (attempt_ids) order by t.id for no key update;
  select array_agg(distinct x) into v_scopes
  from jsonb_to_recordset(p_requests) as r (attempt_id uuid, model text)
  join (select k.* from atlas.task k where k.id = any (v_tasks) offset 0) t on t.attempt_id = r.attempt_id
  cross join unnest(array['global', 'project:' || t.project_id, 'sender:' || t.sender_key, 'model:' || r.model]) x;
  -- a person's share of the day is counted in a budget of their own
  insert into atlas.budget (scope)
  select x from unnest(v_scopes) x
  where x like 'sender:%' and x <> 'sender:service' and not exists (select from atlas.budget b where b.scope = x)
    and (select r.sender_daily_share is not null from atlas.spend_rules r)
  order by x on conflict do nothing;
  perform atlas.lock_days(array[v_day], v_scopes);
  return query
  with asked as materialized (
    select r.n, r.attempt_id, r.call, r.model, r.input_tokens, r.output_tokens, coalesce(r.tier, 'default') as tier,
      coalesce(r.completion_window, 'soonest') as completion_window, t.id as task_id, t.project_id, t.sender_key
    from rows from (jsonb_to_recordset(p_requests) as (attempt_id uuid, call integer, model text, input_tokens bigint,
      output_tokens bigint, tier text, completion_window text)) with ordinality
      as r (attempt_id, call, model, input_tokens, output_tokens, tier, completion_window, n)
    left join (select k.* from atlas.task k where k.id = any (v_tasks) offset 0) t on t.attempt_id = r.attempt_id
  ),
  -- once for all calls of a kind, and of a sender
  priced as materialized (
    select k.*, atlas.price_on(k.model, v_day) as price, atlas.price_factor_of(k.tier, k.completion_window) as factor
    from (select distinct a.model, a.tier, a.completion_window from asked a) k
  ),
  shared as materialized (
    select k.*, s.daily, s.usd_daily from (select distinct a.project_id, a.sender_key from asked a) k
    cross join lateral atlas.share_of(k.project_id, k.sender_key) s
  ),
  request as materialized (
    select r.n, r.attempt_id, r.call, r.model, r.input_tokens + r.output_tokens as need, r.output_tokens, r.task_id,
      array['global', 'project:' || r.project_id, 'sender:' || r.sender_key, 'model:' || r.model] as scopes, (p.price).valid_from,
      r.tier, r.completion_window, p.factor,
      atlas.worst_cost(p.price, r.input_tokens, r.output_tokens, p.factor) as usd,
      u.tokens as used, u.usd as used_usd, h.daily as share_daily, h.usd_daily as share_usd, u.taken, u.holds
    from asked r
    join priced p on p.model = r.model and p.tier = r.tier and p.completion_window = r.completion_window
    left join shared h on h.project_id = r.project_id and h.sender_key = r.sender_key
    -- what its task has called so far: one look by the index
    cross join lateral (
      select coalesce(sum(coalesce(s.tokens, s.reserved_tokens)) filter (where s.attempt_id = r.attempt_id and s.state <> 'held'), 0) as tokens,
        coalesce(sum(coalesce(s.usd, s.reserved_usd)) filter (where s.attempt_id = r.attempt_id and s.state <> 'held'), 0) as usd,
        bool_or(s.attempt_id = r.attempt_id and s.call = r.call and s.corrects is null) as taken, bool_or(s.state = 'held') as holds
      from atlas.spend s where s.task_id = r.task_id) u
  ),
  total as (
    select x.scope, sum(q.need) as need, sum(q.usd) as usd, max(q.used + q.need) as longest, max(q.used_usd + q.usd) as longest_usd,
      bool_and(q.usd is not null) as priced,
      case when x.scope like 'sender:%' then min(q.share_daily) end as share_daily,
      case when x.scope like 'sender:%' then min(q.share_usd) end as share_usd
    from request q cross join unnest(q.scopes) x (scope) group by x.scope
  ),
  verdict as (
    select not exists (select from request q where q.task_id is null)
      and (select count(distinct q.attempt_id) = count(*) from request q)
      and not exists (select from request q where q.taken or q.holds)
      and not exists (
        select from total o join atlas.budget_now b on b.scope = o.scope
        -- a call that costs nothing waits for no budget
        where b.enforcement = 'hard' and (o.need > 0 or o.usd > 0 or not o.priced) and (
          o.longest > b.per_run or o.longest_usd > b.usd_per_run
          or b.settled_tokens + b.reserved_tokens + o.need > coalesce(b.daily, o.share_daily)
          or b.settled_usd + b.reserved_usd + o.usd > coalesce(b.usd_daily, o.share_usd)
          or b.month_settled_tokens + b.month_reserved_tokens + o.need > b.monthly
          or b.month_settled_usd + b.month_reserved_usd + o.usd > b.usd_monthly
          or (not o.priced and num_nonnulls(b.usd_per_run, b.usd_daily, b.usd_monthly) > 0))) as fits
  ),
  reserved as (
    insert into atlas.spend (task_id, attempt_id, call, model, price_from, tier, completion_window, factor, day, scopes,
      reserved_tokens, reserved_usd, reserved_output)
    select q.task_id, q.attempt_id, q.call, q.model, q.valid_from, q.tier, q.completion_window, q.factor, v_day, q.scopes,
      q.need, q.usd, q.output_tokens
    from request q cross join verdict v where v.fits order by q.n
    returning id, spend.attempt_id
  ),
  booked as (
    update atlas.budget_day d set reserved_tokens = d.reserved_tokens + o.need,
      reserved_usd = d.reserved_usd + coalesce(o.usd, 0)
    from total o cross join verdict v where v.fits and d.day = v_day and d.scope = any (v_scopes) and d.scope = o.scope
  )
  select jsonb_build_object('outcome', 'reserved', 'spend_id', s.id, 'tokens', q.need, 'usd', q.usd)
  from request q join reserved s on s.attempt_id = q.attempt_id order by q.n;
  if found then
    perform atlas.append_audits('reserve_tokens', array_agg(s.task_id), array_agg(jsonb_build_object('attempt', a.number,
      'worker', a.lease_owner, 'call', s.call, 'model', s.model, 'tokens', s.reserved_tokens, 'usd', s.reserved_usd)))
    from jsonb_to_recordset(p_requests) as r (attempt_id uuid, call integer)
    cross join lateral (select x.* from atlas.attempt x where x.id = r.attempt_id limit 1) a
    cross join lateral (select x.* from atlas.spend x
      where x.attempt_id = r.attempt_id and x.call = r.call and x.corrects is null limit 1) s;
    return;
  end if;
  for request in
    select r.* from jsonb_to_recordset(p_requests) as r (attempt_id uuid, call integer, model text,
      input_tokens bigint, output_tokens bigint, tier text, completion_window text, may_wait boolean)
  loop
    select t.* into task from atlas.task t where t.id = any (v_tasks) and t.attempt_id = request.attempt_id;
    if not found then
      return next jsonb_build_object('outcome', 'lost');
      continue;
    end if;
    answer := atlas.reserve_one(task, request.call, request.model, request.input_tokens, request.output_tokens,
      coalesce(request.tier, 'default'), coalesce(request.completion_window, 'soonest'));
    if answer ->> 'outcome' = 'reserved' and not answer ? 'again' then
      perform atlas.append_audit(task.id, 'reserve_tokens', jsonb_build_object('attempt', task.attempts,
        'worker', (select a.lease_owner from atlas.attempt a where a.id = task.attempt_id), 'call', request.call,
        'model', request.model, 'tokens', answer -> 'tokens', 'usd', answer -> 'usd'));
    elsif answer ->> 'outcome' in ('wait', 'defer') and coalesce(request.may_wait, true) then
      perform atlas.wait_for_budget(task, answer);
    end if;
    return next answer;
  end loop;
end
$$;
comment on function atlas.reserve_tokens(jsonb) is
  'Reserves the worst case of calls about to be made: [{"attempt_id","call","model","input_tokens","output_tokens"}].';
grant execute on function atlas.reserve_tokens(jsonb) to service_role, atlas_worker;

create function atlas.wait_for_budget(p_task atlas.task, p_answer jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  -- a settlement wakes it; the minute is a net for a wake-up that found the row locked
  perform atlas.release_task(p_task,
    case when p_answer ->> 'code' = 'held' then 'held' when p_answer ->> 'outcome' = 'wait' then 'reserved_budget' else 'settled_budget' end,
    coalesce((p_answer ->> 'until')::timestamptz, now() + interval '1 minute'), 'released', p_answer ->> 'code',
    p_answer ->> 'message');
  update atlas.task t set wait_scope = p_answer ->> 'scope' where t.id = p_task.id and t.wait_reason is not null;
  -- earlier calls of the attempt that nobody has settled
  perform atlas.settle_attempts(array[p_task.attempt_id], '{}');
end
$$;
comment on function atlas.wait_for_budget(atlas.task, jsonb) is 'Hands a task back to the queue that no budget has room for now. Internal.';

-- Tasks that waited for others' reservations look again, about as many as a settlement may have made room for. p_all: also
-- those that were deferred to the next day, since settled money fell or a limit rose.
create function atlas.wake_waiting(p_scopes text[], p_limit integer, p_all boolean default false) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
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
