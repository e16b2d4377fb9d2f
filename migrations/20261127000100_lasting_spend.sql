-- Spend and audit outlast their tasks: what a call cost stays known, by its scopes, when its task was trimmed.
--
-- locks: atlas.spend AccessExclusiveLock, atlas.task AccessExclusiveLock, atlas.attempt AccessExclusiveLock: changes of the catalog alone
-- locks: atlas.spend_by_sender AccessExclusiveLock, atlas.spend_by_project AccessExclusiveLock: changes of the catalog alone

-- squawk-ignore ban-drop-constraint
alter table atlas.spend drop constraint spend_task_id_fkey;
-- squawk-ignore ban-drop-constraint
alter table atlas.spend drop constraint spend_attempt_id_fkey;
comment on column atlas.spend.task_id is 'The task it belongs to; the task may have been trimmed since.';
comment on column atlas.spend.attempt_id is 'The attempt that made the call, or that took it up from a lost one; it may have been trimmed since.';

create function atlas.my_scopes() returns text[]
language sql stable security definer set search_path = ''
as $$
  select array['sender:' || atlas.uid()::text] || array(select 'project:' || p::text from atlas.my_projects() p)
$$;
comment on function atlas.my_scopes() is 'The budget scopes whose calls the calling user may see: their own, and those of their projects.';
grant execute on function atlas.my_scopes() to authenticated, service_role;

drop policy "people see the spend of tasks they see" on atlas.spend;
create policy "people see their own and their projects' spend" on atlas.spend for select to authenticated
  using (scopes && (select atlas.my_scopes()));
comment on policy "people see their own and their projects' spend" on atlas.spend is
  'Row level security: people see their own and their projects'' spend, also of tasks that were trimmed.';

-- Scopes stand in the order of atlas.scopes_of: global, project, sender, model.
create or replace view atlas.spend_by_sender with (security_invoker = true) as
select s.day, substr(s.scopes[3], 8) as sender_key, substr(s.scopes[2], 9)::uuid as project_id,
  count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens,
  sum(s.output_tokens) as output_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd, sum(s.cached_tokens) as cached_tokens,
  sum(s.reasoning_tokens) as reasoning_tokens, count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
  sum(s.cache_write_tokens) as cache_write_tokens,
  count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
  sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
  count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
  sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
    as presumed_usd
from atlas.spend s
where s.state <> 'reserved' group by s.day, s.scopes[3], s.scopes[2];
comment on view atlas.spend_by_sender is 'Calls a UTC day, sender and project.';

create or replace view atlas.spend_by_project with (security_invoker = true) as
select s.day, s.project_id, p.name as project, s.calls, s.input_tokens, s.cached_tokens, s.output_tokens, s.reasoning_tokens,
  s.tokens, s.usd, s.unknown_calls, s.cache_write_tokens, s.held_calls, s.held_tokens, s.held_usd, s.presumed_calls, s.presumed_usd
from (
  select s.day, substr(s.scopes[2], 9)::uuid as project_id, count(*) filter (where s.state = 'settled' and s.corrects is null) as calls, sum(s.input_tokens) as input_tokens,
    sum(s.cached_tokens) as cached_tokens, sum(s.output_tokens) as output_tokens,
    sum(s.reasoning_tokens) as reasoning_tokens, sum(s.tokens) as tokens, sum(s.usd) as usd,
    count(*) filter (where s.known = 'unknown' and not exists (select from atlas.spend c where c.corrects = s.id)) as unknown_calls,
    sum(s.cache_write_tokens) as cache_write_tokens,
    count(*) filter (where s.state = 'held') as held_calls, sum(s.reserved_tokens) filter (where s.state = 'held') as held_tokens,
    sum(s.reserved_usd) filter (where s.state = 'held') as held_usd,
    count(*) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id)) as presumed_calls,
    sum(s.reserved_usd) filter (where s.known = 'presumed_none' and not exists (select from atlas.spend c where c.corrects = s.id))
      as presumed_usd
  from atlas.spend s where s.state <> 'reserved' group by s.day, s.scopes[2]) s
left join atlas.project p on p.id = s.project_id;
comment on view atlas.spend_by_project is 'Calls a UTC day and project.';

-- Opens a day's row of a budget. A budget set in the middle of a day counts what was spent and reserved before it.
create or replace function atlas.open_day(p_scope text, p_day date) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
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
  -- who had a budget before the day began has spent nothing of it that is not counted; a sender's own tasks are few
  if (select (b.created_at at time zone 'UTC')::date < p_day and p_day = atlas.today() from atlas.budget b where b.scope = p_scope) then
    insert into atlas.budget_day (day, scope) values (p_day, p_scope) on conflict do nothing;
    return;
  -- of other days a task may have been trimmed since, and its calls are still there
  elsif p_scope like 'sender:%' and p_day = atlas.today() then
    insert into atlas.budget_day (day, scope, reserved_tokens, settled_tokens, reserved_usd, settled_usd)
    select p_day, p_scope,
      coalesce(sum(s.reserved_tokens) filter (where s.state <> 'settled'), 0), coalesce(sum(s.tokens), 0),
      coalesce(sum(s.reserved_usd) filter (where s.state <> 'settled'), 0), coalesce(sum(s.usd), 0)
    from atlas.task t cross join lateral (select c.* from atlas.spend c where c.task_id = t.id offset 0) s
    where t.sender_key = substr(p_scope, 8) and s.day = p_day and p_scope = any (s.scopes)
    on conflict do nothing;
    return;
  end if;
  insert into atlas.budget_day (day, scope, reserved_tokens, settled_tokens, reserved_usd, settled_usd)
  select p_day, p_scope,
    coalesce(sum(s.reserved_tokens) filter (where s.state <> 'settled'), 0), coalesce(sum(s.tokens), 0),
    coalesce(sum(s.reserved_usd) filter (where s.state <> 'settled'), 0), coalesce(sum(s.usd), 0)
  from atlas.spend s where s.day = p_day and p_scope = any (s.scopes)
  on conflict do nothing;
end
$$;
comment on function atlas.open_day(text, date) is 'Opens a budget''s row of a day, with what the day already holds.';

create or replace function atlas.announce_budget(p_scope text, p_period text, p_unit text, p_level integer, p_most numeric, p_settled numeric)
returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_starts constant date := case p_period when 'month' then date_trunc('month', atlas.today())::date else atlas.today() end;
begin
  insert into atlas.budget_event (scope, period, starts, unit, level, most)
  values (p_scope, p_period, v_starts, p_unit, p_level, p_most) on conflict do nothing;
  if not found then
    return;
  end if;
  perform atlas.emit(case p_level when 80 then 'budget.warning' else 'budget.spent' end, jsonb_build_object(
    'scope', p_scope, 'period', p_period, 'starts', v_starts, 'unit', p_unit, 'limit', p_most, 'settled', p_settled,
    'percent', case when p_most > 0 then round(100 * p_settled / p_most, 1) else 100 end,
    'top_senders', (
      select coalesce(jsonb_agg(jsonb_build_object('sender', x.sender_key, 'tokens', x.tokens, 'usd', x.usd)
        order by x.amount desc, x.sender_key), '[]')
      from (
        select substr(s.scopes[3], 8) as sender_key, sum(s.tokens) as tokens, sum(s.usd) as usd,
          case p_unit when 'usd' then sum(s.usd) else sum(s.tokens) end as amount
        from atlas.spend s
        where s.day >= v_starts and p_scope = any (s.scopes) and s.state = 'settled'
        group by s.scopes[3] order by 4 desc nulls last, 1 limit 5) x)));
end
$$;
comment on function atlas.announce_budget(text, text, text, integer, numeric, numeric) is
  'Tells of a budget once: at 80 %, and when it is spent. Internal.';

-- What a call cost can be learned when its task is gone.
create or replace function atlas.record_usage(p_items jsonb) returns integer
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
  join atlas.spend s on s.id = (i ->> 'spend_id')::bigint left join atlas.task t on t.id = s.task_id
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
