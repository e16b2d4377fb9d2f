-- Settlements: after a call its reservation becomes what was used. What nobody knows yet is held; what nobody will know counts
-- in full; what is learned later is a correction, a row of its own.

-- Settles, holds or corrects calls; the caller holds the locks. An item is {"spend_id", "usage"}; a usage is {"input_tokens",
-- "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "tier", "response_id", "known"}. known: reported, estimated;
-- none, presumed_none (it cost nothing); held (nobody knows yet: the reservation goes on counting). A usage of null: nobody
-- will know, so the whole reservation counts. What was reported stands; all else may be corrected by a report.
create function atlas.settle_spends(p_items jsonb, p_days date[], p_scopes text[]) returns table (task_id uuid, calls jsonb)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  ids constant bigint[] := array(select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i);
begin
  return query
  with item as (
    select distinct on (s.id) s.id, s.task_id, s.attempt_id, s.call, s.model, s.price_from, s.tier, s.completion_window, s.day,
      s.scopes, s.reserved_tokens, s.reserved_usd, s.response_id, s.state <> 'settled' as was_open, s.tokens as was_tokens,
      s.usd as was_usd, s.input_tokens as was_input, s.cached_tokens as was_cached, s.cache_write_tokens as was_write,
      s.output_tokens as was_output, s.reasoning_tokens as was_reasoning,
      case when i.usage ->> 'known' in ('none', 'presumed_none', 'held') then i.usage ->> 'known'
           when i.usage ->> 'input_tokens' is null or i.usage ->> 'output_tokens' is null then 'unknown'
           else coalesce(i.usage ->> 'known', 'unknown') end as known,
      coalesce((i.usage ->> 'input_tokens')::bigint, 0) as input, coalesce((i.usage ->> 'cached_tokens')::bigint, 0) as cached,
      coalesce((i.usage ->> 'cache_write_tokens')::bigint, 0) as cache_write,
      coalesce((i.usage ->> 'output_tokens')::bigint, 0) as output,
      coalesce((i.usage ->> 'reasoning_tokens')::bigint, 0) as reasoning, i.usage ->> 'tier' as tier_given,
      i.usage ->> 'response_id' as response_given
    from jsonb_to_recordset(p_items) as i (spend_id bigint, usage jsonb)
    -- by the key: a plan made on an empty table would read the whole of a partial index instead
    join (select c.* from atlas.spend c where c.id = any (ids) offset 0) s on s.id = i.spend_id and s.corrects is null
    -- a call whose response is known meanwhile, by the webhook say, is not held: it stays with its task
    where (s.state <> 'settled' and not (coalesce(i.usage ->> 'known', '') = 'held' and s.response_id is not null))
      or (s.known <> 'reported' and i.usage ->> 'known' in ('reported', 'estimated') and i.usage ->> 'input_tokens' is not null
          and (select true from atlas.spend c where c.corrects = s.id and c.known = 'reported' limit 1) is null)
    order by s.id
  ),
  priced as (
    select i.*, f.factor,
      case i.known when 'unknown' then i.reserved_tokens else i.input + i.output end as new_tokens,
      case when i.known = 'unknown' then i.reserved_usd
           when i.known in ('none', 'presumed_none') then 0
           -- its price row was taken away meanwhile: the worst case counts
           when p.model is null then i.reserved_usd
           else atlas.cost(p, i.input, i.cached, i.output, i.cache_write, f.factor) end as new_usd
    from item i
    cross join lateral (select atlas.price_factor_of(coalesce(i.tier_given, i.tier), i.completion_window) as factor offset 0) f
    left join atlas.model_price p on p.model = i.model and p.valid_from = i.price_from
  ),
  moved as (
    -- what it counts already, with the corrections that were made of it
    select p.*, case when p.was_open then 0 else p.was_tokens + coalesce(c.tokens, 0) end as counted_tokens,
      case when p.was_open then 0 else coalesce(p.was_usd, 0) + coalesce(c.usd, 0) end as counted_usd,
      coalesce(p.was_input, 0) + coalesce(c.input_tokens, 0) as counted_input,
      coalesce(p.was_cached, 0) + coalesce(c.cached_tokens, 0) as counted_cached,
      coalesce(p.was_write, 0) + coalesce(c.cache_write_tokens, 0) as counted_write,
      coalesce(p.was_output, 0) + coalesce(c.output_tokens, 0) as counted_output,
      coalesce(p.was_reasoning, 0) + coalesce(c.reasoning_tokens, 0) as counted_reasoning
    from priced p
    left join lateral (
      select sum(x.tokens) as tokens, sum(x.usd) as usd, sum(x.input_tokens) as input_tokens, sum(x.cached_tokens) as cached_tokens,
        sum(x.cache_write_tokens) as cache_write_tokens, sum(x.output_tokens) as output_tokens, sum(x.reasoning_tokens) as reasoning_tokens
      from atlas.spend x where x.corrects = p.id and not p.was_open) c on true
  ),
  settled as (
    update atlas.spend s set state = 'settled', held_until = null, left_at = null, known = p.known,
      input_tokens = case when p.known <> 'unknown' then p.input end, cached_tokens = case when p.known <> 'unknown' then p.cached end,
      cache_write_tokens = case when p.known <> 'unknown' then p.cache_write end,
      output_tokens = case when p.known <> 'unknown' then p.output end,
      reasoning_tokens = case when p.known <> 'unknown' then p.reasoning end,
      tokens = p.new_tokens, usd = p.new_usd, tier_given = p.tier_given, factor = p.factor,
      response_id = coalesce(s.response_id, p.response_given),
      over_reservation = p.new_tokens > p.reserved_tokens, settled_at = now()
    from moved p where s.id = p.id and s.id = any (ids) and p.was_open and p.known <> 'held'
  ),
  held as (
    update atlas.spend s set state = 'held', held_until = now() + interval '1 second' * (r.hold_seconds
      + case s.completion_window when '2h' then 7200 when '8h' then 28800 else 0 end)
    from moved p, atlas.spend_rules r where s.id = p.id and s.id = any (ids) and s.state = 'reserved' and s.response_id is null and p.known = 'held'
  ),
  corrected as (
    insert into atlas.spend (task_id, attempt_id, call, corrects, state, model, price_from, tier, completion_window, tier_given,
      factor, day, scopes, reserved_tokens, response_id, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
      reasoning_tokens, tokens, usd, known, settled_at)
    select p.task_id, p.attempt_id, p.call, p.id, 'settled', p.model, p.price_from, p.tier, p.completion_window, p.tier_given,
      p.factor, p.day, p.scopes, 0, p.response_id, p.input - p.counted_input, p.cached - p.counted_cached,
      p.cache_write - p.counted_write, p.output - p.counted_output, p.reasoning - p.counted_reasoning,
      p.new_tokens - p.counted_tokens, p.new_usd - p.counted_usd, p.known, now()
    from moved p where not p.was_open
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
        sum(p.new_tokens - p.counted_tokens) as tokens, sum(coalesce(p.new_usd, 0) - p.counted_usd) as usd,
        sum(greatest(0, p.new_tokens - p.reserved_tokens) - greatest(0, p.counted_tokens - p.reserved_tokens)) as overrun
      from moved p cross join unnest(p.scopes) c (scope) where p.known <> 'held' group by p.day, c.scope) x
    where d.day = any (p_days) and d.scope = any (p_scopes) and d.day = x.day and d.scope = x.scope
  )
  select p.task_id, jsonb_agg(jsonb_strip_nulls(jsonb_build_object('call', p.call,
    'model', p.model, 'tokens', case when p.known <> 'held' then p.new_tokens - p.counted_tokens end,
    'usd', case when p.known <> 'held' then p.new_usd - p.counted_usd end, 'known', p.known,
    'corrects', case when not p.was_open then p.id end,
    'over_reservation', case when p.was_open and p.new_tokens > p.reserved_tokens then true end)) order by p.id)
  from moved p group by p.task_id;
end
$$;
comment on function atlas.settle_spends(jsonb, date[], text[]) is
  'Settles, holds or corrects calls; says of each task what became of its calls, for the audit. Internal: the caller holds the locks.';

-- What every settlement does, in the one order: locks the days, settles, audits, tells of budgets that are spent, wakes who waits for
-- room. The calls go into the row of whatever ends with them, p_event, with what that says of each task: {"<task id>": detail}.
create function atlas.settle_in(p_days date[], p_scopes text[], p_items jsonb, p_event text default 'record_usage',
  p_details jsonb default '{}') returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  -- only a correction can make settled money fall, and let in who was deferred
  corrects constant boolean := exists (select from atlas.spend s where s.state = 'settled'
    and s.id = any (array(select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i)));
  tasks uuid[];
  details jsonb[];
begin
  perform atlas.lock_days(p_days, p_scopes);
  select array_agg(coalesce(c.task_id, d.key::uuid)), array_agg(coalesce(d.value, '{}')
      || case when c.task_id is not null then jsonb_build_object('calls', c.calls) else '{}' end)
    into tasks, details
  from atlas.settle_spends(p_items, p_days, p_scopes) c full join jsonb_each(p_details) d on d.key = c.task_id::text;
  if tasks is not null then
    perform atlas.append_audits(p_event, tasks, details);
  end if;
  perform atlas.announce_budgets(p_scopes);
  perform atlas.wake_waiting(p_scopes, 2 + 2 * jsonb_array_length(p_items), corrects);
end
$$;
comment on function atlas.settle_in(date[], text[], jsonb, text, jsonb) is
  'Settles calls of some days and budgets, and what follows from it. Internal: the caller holds their tasks.';

-- Settles all open calls of attempts; usages: {"<attempt id>": {"<call>": usage}}. Of a call without a usage nobody guesses: one that
-- has a response keeps it, to be asked for, and one that has none is held (unless its response had begun, and is not stored by the
-- provider: then it counts in full). A usage that is held may name the response, which its worker had no time to store.
create function atlas.settle_attempts(p_attempts uuid[], p_usages jsonb, p_event text default 'record_usage',
  p_details jsonb default '{}') returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  items jsonb;
  v_days date[];
  v_scopes text[];
begin
  update atlas.spend s set left_at = now(),
    response_id = coalesce(s.response_id, p_usages #>> array[s.attempt_id::text, s.call::text, 'response_id'])
  where s.attempt_id = any (p_attempts) and s.corrects is null and s.state = 'reserved'
    and coalesce(s.response_id, p_usages #>> array[s.attempt_id::text, s.call::text, 'response_id']) is not null
    and coalesce(p_usages -> s.attempt_id::text -> s.call::text, '{"known": "held"}') ->> 'known' = 'held';
  select jsonb_agg(jsonb_build_object('spend_id', s.id, 'usage',
      coalesce(u.usage, case when not s.unstored then '{"known": "held"}'::jsonb end))), array_agg(distinct s.day)
    into items, v_days
  from atlas.spend s cross join lateral (select p_usages -> s.attempt_id::text -> s.call::text as usage) u
  where s.attempt_id = any (p_attempts) and s.corrects is null
    and ((s.state = 'reserved' and s.left_at is null) or (u.usage is not null and (s.state = 'held' or s.known <> 'reported')));
  if items is null then
    if p_details <> '{}' then
      perform atlas.append_audits(p_event, array_agg(d.key::uuid), array_agg(d.value)) from jsonb_each(p_details) d;
    end if;
    return;
  end if;
  select array_agg(distinct x) into v_scopes from atlas.spend s cross join unnest(s.scopes) x
  where s.attempt_id = any (p_attempts) and s.corrects is null;
  perform atlas.settle_in(v_days, v_scopes, items, p_event, p_details);
end
$$;
comment on function atlas.settle_attempts(uuid[], jsonb, text, jsonb) is
  'Settles what attempts still have reserved, in the audit row of what ends them. Internal.';

-- Usage of calls that do not end their task: a fallback, a repair, a correction of what was unknown. An item is
-- {"spend_id", "attempt_id", "usage"}: the attempt must be the one that runs the task now, unless the service role corrects
-- the books. Answers how many calls there were.
create function atlas.record_usage(p_items jsonb) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  ids constant bigint[] := array(select (i ->> 'spend_id')::bigint from jsonb_array_elements(p_items) i);
  service constant boolean := atlas.is_service();
  allowed jsonb;
  v_days date[];
  v_scopes text[];
  n integer;
begin
  perform from atlas.task t where t.id in (select s.task_id from atlas.spend s where s.id = any (ids))
  order by t.id for no key update;
  select jsonb_agg(i) into allowed from jsonb_array_elements(p_items) i
  join atlas.spend s on s.id = (i ->> 'spend_id')::bigint join atlas.task t on t.id = s.task_id
  -- a call that its task has left behind is settled by whichever worker asked what became of it
  where service or (s.attempt_id = (i ->> 'attempt_id')::uuid and (t.attempt_id = s.attempt_id
    or (s.response_id is not null and (t.finished_at is not null or t.attempt_id <> s.attempt_id))));
  if allowed is null then
    return 0;
  end if;
  select count(distinct s.id), array_agg(distinct s.day), array_agg(distinct x) into n, v_days, v_scopes
  from atlas.spend s cross join unnest(s.scopes) x where s.id = any (ids);
  perform atlas.settle_in(v_days, v_scopes, allowed);
  return n;
end
$$;
comment on function atlas.record_usage(jsonb) is
  'Settles calls, or corrects what was unknown: [{"spend_id", "usage": {"input_tokens","output_tokens","known",…}}].';
grant execute on function atlas.record_usage(jsonb) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
