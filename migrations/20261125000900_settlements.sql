-- Settlements: after a call its reservation becomes what was used; what is not known counts in full until it is corrected.

-- Settles or corrects calls; the caller holds the locks. An item is {"spend_id", "usage"}; a usage is {"input_tokens",
-- "cached_tokens", "output_tokens", "reasoning_tokens", "known"}, null: not known, so the whole reservation counts. What
-- was settled as unknown or estimated may be corrected; what was reported stands.
create function atlas.settle_spends(p_items jsonb) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off
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
-- with p_inherit, what has a response id and no usage stays reserved for the next attempt instead.
create function atlas.settle_attempts(p_attempts uuid[], p_usages jsonb, p_inherit boolean default false) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off
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
    and not (p_inherit and s.response_id is not null and p_usages -> s.attempt_id::text -> s.call::text is null
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
grant execute on function atlas.record_usage(jsonb) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
