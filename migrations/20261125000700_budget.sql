-- The money: reserved before it is spent, settled with what was used, never lost.
--
-- settled + reserved <= limit, in tokens and in dollars, a run, a day and a month, and a scope. Where only the reservations of
-- others stand in the way, a task waits, and a settlement wakes it. Where settled spend does, it is deferred until the next day
-- or month, or rejected, as the budget says. The fleet's one hot row is locked last and by many tasks at once.

create table atlas.spend_rules (
  only_row boolean primary key default true check (only_row),
  hold_seconds integer not null default 900 check (hold_seconds >= 0),
  held_retry_seconds integer not null default 60 check (held_retry_seconds >= 0),
  hold_unknown text not null default 'release' check (hold_unknown in ('release', 'settle')),
  sender_daily_share numeric(4, 3) check (sender_daily_share > 0 and sender_daily_share <= 1) default 0.5
);
comment on table atlas.spend_rules is 'One row: how calls without an answer and people without a budget are treated. Workers set it when they start.';
comment on column atlas.spend_rules.only_row is 'There is one row.';
comment on column atlas.spend_rules.hold_seconds is 'How long the reservation of a call that was sent and not answered goes on counting.';
comment on column atlas.spend_rules.held_retry_seconds is 'How long its task waits before its second call.';
comment on column atlas.spend_rules.hold_unknown is 'What becomes of it then. release: presumed not made. settle: booked in full.';
comment on column atlas.spend_rules.sender_daily_share is 'Of their project''s day, what a person without a budget of their own may spend; null: all.';
alter table atlas.spend_rules enable row level security;
grant select on atlas.spend_rules to service_role;
insert into atlas.spend_rules default values;

create function atlas.set_spend_rules(p_rules jsonb) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  share numeric;
begin
  select r.sender_daily_share into share from atlas.spend_rules r for no key update;
  update atlas.spend_rules r set
    hold_seconds = coalesce((p_rules ->> 'hold_seconds')::integer, r.hold_seconds),
    held_retry_seconds = coalesce((p_rules ->> 'held_retry_seconds')::integer, r.held_retry_seconds),
    hold_unknown = coalesce(p_rules ->> 'hold_unknown', r.hold_unknown),
    sender_daily_share = case when p_rules ? 'sender_daily_share' then (p_rules ->> 'sender_daily_share')::numeric
                              else r.sender_daily_share end;
  -- a larger share may let in who waited for the next day
  if exists (select from atlas.spend_rules r where coalesce(r.sender_daily_share, 1) > share) then
    perform atlas.wake_waiting(array(select distinct t.wait_scope from atlas.task t where t.wait_scope like 'sender:%'), 100000, true);
  end if;
end
$$;
comment on function atlas.set_spend_rules(jsonb) is
  'Sets {"hold_seconds", "held_retry_seconds", "hold_unknown", "sender_daily_share"} for the whole fleet.';
grant execute on function atlas.set_spend_rules(jsonb) to service_role, atlas_worker;

create table atlas.budget (
  scope text primary key check (scope ~ '^(global|(project|sender|model):.+)$'),
  per_run integer check (per_run >= 0),
  daily bigint check (daily >= 0),
  monthly bigint check (monthly >= 0),
  usd_per_run numeric(14, 6) check (usd_per_run >= 0),
  usd_daily numeric(14, 6) check (usd_daily >= 0),
  usd_monthly numeric(14, 6) check (usd_monthly >= 0),
  enforcement text not null default 'hard' check (enforcement in ('hard', 'soft')),
  when_spent text not null default 'defer' check (when_spent in ('defer', 'reject')),
  controlled text[] not null default '{}' check (controlled <@ array['per_run', 'daily', 'monthly', 'usd_per_run', 'usd_daily',
    'usd_monthly', 'enforcement', 'when_spent']),
  set_by text not null generated always as (case when controlled = '{}' then 'settings' else 'control' end) stored,
  run_lowered_at timestamptz,
  day_lowered_at timestamptz,
  month_lowered_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
comment on table atlas.budget is 'Limits: the whole fleet''s (global), a project''s, a sender''s, a model''s. Null means none.';
comment on column atlas.budget.scope is 'global, project:<id>, sender:<key> or model:<name>.';
comment on column atlas.budget.per_run is 'Tokens of one attempt, input and output together.';
comment on column atlas.budget.daily is 'Tokens of one UTC day.';
comment on column atlas.budget.monthly is 'Tokens of one calendar month (UTC).';
comment on column atlas.budget.usd_per_run is 'US dollars of one attempt.';
comment on column atlas.budget.usd_daily is 'US dollars of one UTC day.';
comment on column atlas.budget.usd_monthly is 'US dollars of one calendar month (UTC).';
comment on column atlas.budget.enforcement is 'hard: nothing is called beyond it. soft: it is only told of.';
comment on column atlas.budget.when_spent is 'What a task does when it is spent. defer: waits for the next day or month. reject: fails.';
comment on column atlas.budget.controlled is 'Limits that set_budget set: those of a worker''s environment do not replace them.';
comment on column atlas.budget.set_by is 'settings: all from a worker''s environment; control: set_budget set some.';
comment on column atlas.budget.run_lowered_at is 'When a limit of a run last fell: what had been asked before waits, and never fails by it.';
comment on column atlas.budget.day_lowered_at is 'When a limit of a day last fell: what had been asked before waits, and never fails by it.';
comment on column atlas.budget.month_lowered_at is 'When a limit of a month last fell: what had been asked before waits, and never fails by it.';
comment on column atlas.budget.created_at is 'When the budget was first set, or first counted in.';
comment on column atlas.budget.updated_at is 'When the row last changed.';
alter table atlas.budget enable row level security;
create policy "people see their own and their projects' budgets" on atlas.budget for select to authenticated
  using (scope = 'sender:' || (select auth.uid())::text
    or scope in (select 'project:' || p from atlas.my_projects() p));
comment on policy "people see their own and their projects' budgets" on atlas.budget is 'Row level security: people see their own and their projects'' budgets.';
grant select on atlas.budget to authenticated;
grant select on atlas.budget to service_role;
insert into atlas.budget (scope) values ('global');

create table atlas.budget_day (
  day date not null,
  scope text not null references atlas.budget (scope) on delete cascade,
  reserved_tokens bigint not null default 0 check (reserved_tokens >= 0),
  settled_tokens bigint not null default 0 check (settled_tokens >= 0),
  overrun_tokens bigint not null default 0 check (overrun_tokens >= 0),
  reserved_usd numeric(18, 9) not null default 0 check (reserved_usd >= 0),
  settled_usd numeric(18, 9) not null default 0 check (settled_usd >= 0),
  primary key (day, scope)
) with (fillfactor = 50);
create index budget_day_scope on atlas.budget_day (scope, day);
comment on table atlas.budget_day is 'What each budget holds on a UTC day: settled + reserved <= limit.';
comment on column atlas.budget_day.day is 'The UTC day.';
comment on column atlas.budget_day.scope is 'The budget.';
comment on column atlas.budget_day.reserved_tokens is 'Tokens of calls under way or held, at their worst case.';
comment on column atlas.budget_day.settled_tokens is 'Tokens of settled calls, corrections included.';
comment on column atlas.budget_day.overrun_tokens is 'Usage above its reservation: recorded in full, never clipped.';
comment on column atlas.budget_day.reserved_usd is 'US dollars of calls under way or held, at their worst case.';
comment on column atlas.budget_day.settled_usd is 'US dollars of settled calls.';
alter table atlas.budget_day enable row level security;
create policy "people see their own and their projects' days" on atlas.budget_day for select to authenticated
  using (scope = 'sender:' || (select auth.uid())::text
    or scope in (select 'project:' || p from atlas.my_projects() p));
comment on policy "people see their own and their projects' days" on atlas.budget_day is 'Row level security: people see their own and their projects'' days.';
grant select on atlas.budget_day to authenticated;
grant select on atlas.budget_day to service_role;

create function atlas.today() returns date
language sql stable set search_path = ''
as $$ select (now() at time zone 'UTC')::date $$;
comment on function atlas.today() is 'The budget''s day: UTC.';
grant execute on function atlas.today() to authenticated, service_role, atlas_worker;

create function atlas.scopes_of(project uuid, sender text, model text) returns text[]
language sql immutable set search_path = ''
as $$ select array['global', 'project:' || project, 'sender:' || sender, 'model:' || model] $$;
comment on function atlas.scopes_of(uuid, text, text) is 'The budgets that a call of a task counts in.';

-- Opens a day's row of a budget. A budget set in the middle of a day counts what was spent and reserved before it.
create function atlas.open_day(p_scope text, p_day date) returns void
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
  elsif p_scope like 'sender:%' then
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

create function atlas.lock_days(p_days date[], p_scopes text[]) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  perform atlas.open_day(b.scope, d.day)
  from atlas.budget b cross join unnest(p_days) as d (day)
  where b.scope = any (p_scopes)
    and (select true from atlas.budget_day x where x.scope = b.scope and x.day = d.day limit 1) is null
  order by b.scope;
  perform from atlas.budget_day b where b.day = any (p_days) and b.scope = any (p_scopes)
  order by b.day, b.scope for update;
end
$$;
comment on function atlas.lock_days(date[], text[]) is 'Opens and locks days of budgets, in the one order.';

-- What each budget allows and holds today and this month.
create view atlas.budget_now with (security_invoker = true) as
select b.scope, b.per_run, b.usd_per_run, b.daily, b.usd_daily, b.monthly, b.usd_monthly, b.enforcement, b.when_spent,
  b.run_lowered_at, b.day_lowered_at, b.month_lowered_at,
  b.set_by, atlas.today() as day,
  coalesce(d.reserved_tokens, 0) as reserved_tokens, coalesce(d.settled_tokens, 0) as settled_tokens,
  coalesce(d.overrun_tokens, 0) as overrun_tokens, coalesce(d.reserved_usd, 0) as reserved_usd,
  coalesce(d.settled_usd, 0) as settled_usd,
  m.reserved_tokens as month_reserved_tokens, m.settled_tokens as month_settled_tokens,
  m.reserved_usd as month_reserved_usd, m.settled_usd as month_settled_usd
from atlas.budget b
-- a look-up by the key: a day has a row of each sender
left join lateral (select x.* from atlas.budget_day x where x.scope = b.scope and x.day = atlas.today() limit 1) d on true
left join lateral (
  select coalesce(sum(x.reserved_tokens), 0)::bigint as reserved_tokens, coalesce(sum(x.settled_tokens), 0)::bigint as settled_tokens,
    coalesce(sum(x.reserved_usd), 0) as reserved_usd, coalesce(sum(x.settled_usd), 0) as settled_usd
  from atlas.budget_day x
  where x.scope = b.scope and x.day >= date_trunc('month', atlas.today())::date
    and (b.monthly is not null or b.usd_monthly is not null)) m on true;
comment on view atlas.budget_now is 'Every budget with what today and, where it has a limit of a month, this month hold (UTC).';
comment on column atlas.budget_now.scope is 'global, project:<id>, sender:<key> or model:<name>.';
comment on column atlas.budget_now.per_run is 'Tokens of one attempt, input and output together.';
comment on column atlas.budget_now.usd_per_run is 'US dollars of one attempt.';
comment on column atlas.budget_now.daily is 'Tokens of one UTC day.';
comment on column atlas.budget_now.usd_daily is 'US dollars of one UTC day.';
comment on column atlas.budget_now.monthly is 'Tokens of one calendar month (UTC).';
comment on column atlas.budget_now.usd_monthly is 'US dollars of one calendar month (UTC).';
comment on column atlas.budget_now.enforcement is 'hard: nothing is called beyond it. soft: it is only told of.';
comment on column atlas.budget_now.when_spent is 'What a task does when it is spent: defer or reject.';
comment on column atlas.budget_now.run_lowered_at is 'When a limit of a run last fell.';
comment on column atlas.budget_now.day_lowered_at is 'When a limit of a day last fell.';
comment on column atlas.budget_now.month_lowered_at is 'When a limit of a month last fell.';
comment on column atlas.budget_now.set_by is 'settings: all from a worker''s environment; control: set_budget set some.';
comment on column atlas.budget_now.day is 'The UTC day.';
comment on column atlas.budget_now.reserved_tokens is 'Tokens of calls under way or held, at their worst case.';
comment on column atlas.budget_now.settled_tokens is 'Tokens of settled calls, corrections included.';
comment on column atlas.budget_now.overrun_tokens is 'Usage above its reservation: recorded in full, never clipped.';
comment on column atlas.budget_now.reserved_usd is 'US dollars of calls under way or held, at their worst case.';
comment on column atlas.budget_now.settled_usd is 'US dollars of settled calls.';
comment on column atlas.budget_now.month_reserved_tokens is 'Reserved of this month; 0 without a limit of a month.';
comment on column atlas.budget_now.month_settled_tokens is 'Settled of this month; 0 without a limit of a month.';
comment on column atlas.budget_now.month_reserved_usd is 'US dollars reserved of this month; 0 without a limit of a month.';
comment on column atlas.budget_now.month_settled_usd is 'US dollars settled of this month; 0 without a limit of a month.';
grant select on atlas.budget_now to authenticated, service_role;

-- A budget that is wrong is refused here, whoever sets it: a control message, the command line, SQL.
create function atlas.check_limits(p_scope text, p_limits jsonb, p_state text default 'AT005',
  p_thing text default 'set_budget', p_prefix text default '') returns void
language plpgsql stable security definer set search_path = ''
as $$
declare
  names constant text[] := array['per_run', 'daily', 'monthly', 'usd_per_run', 'usd_daily', 'usd_monthly'];
  modes constant jsonb := jsonb '{"enforcement": ["hard", "soft"], "when_spent": ["defer", "reject"]}';
  name text;
  value jsonb;
begin
  if coalesce(p_scope, '') !~ '^(global|project:[0-9a-f-]{36}|(sender|model):.+)$' then
    perform atlas.refuse(p_prefix || 'scope', format('%L is not a scope', p_scope),
      'use global, project:<uuid>, sender:<key> or model:<name>', p_state, p_thing);
  end if;
  if jsonb_typeof(p_limits) is distinct from 'object' then
    perform atlas.refuse(p_prefix || 'limits', 'are not an object', 'send such as {"daily": 200000}', p_state, p_thing);
  end if;
  for name, value in select * from jsonb_each(p_limits) loop
    if modes ? name then
      if not modes -> name @> value or jsonb_typeof(value) <> 'string' then
        perform atlas.refuse(p_prefix || name, format('%s is not known', value),
          format('use %s or %s', modes -> name ->> 0, modes -> name ->> 1), p_state, p_thing);
      end if;
    elsif name <> all (names) then
      perform atlas.refuse(p_prefix || name, 'is not a limit', 'use one of ' || array_to_string(names || array['enforcement', 'when_spent'], ', '),
        p_state, p_thing);
    elsif jsonb_typeof(value) not in ('number', 'null')
       or (value #>> '{}')::numeric not between 0 and (case name when 'per_run' then 2147483647 else 1e12 end)
       or (name like 'usd%' and (value #>> '{}')::numeric > 1e7)
       or (name not like 'usd%' and (value #>> '{}')::numeric <> trunc((value #>> '{}')::numeric)) then
      perform atlas.refuse(p_prefix || name, format('%s is not a budget', value),
        case when name like 'usd%' then 'send US dollars, from 0 to 10,000,000, or null for none'
             else 'send a whole number of tokens, at least 0, or null for none' end, p_state, p_thing);
    end if;
  end loop;
end
$$;
comment on function atlas.check_limits(text, jsonb, text, text, text) is 'Refuses limits that are not ones, naming the field and the fix. Internal.';

-- Limits. Those of the environment give way to those that set_budget set. An admin of a project may set the project's.
create function atlas.set_budget(p_scope text, p_limits jsonb, p_set_by text default 'control')
returns atlas.budget
language plpgsql security definer set search_path = ''
as $$
declare
  names constant text[] := array['per_run', 'daily', 'monthly', 'usd_per_run', 'usd_daily', 'usd_monthly'];
  old atlas.budget;
  result atlas.budget;
  wanted text[];
  fallen text[];
  v_day date;
begin
  if not (atlas.is_service() or atlas.caller_role() = 'atlas_worker') and not exists (
    select from atlas.member m where m.user_id = atlas.uid() and m.role = 'admin' and 'project:' || m.project_id = p_scope) then
    raise exception using errcode = 'AT006', message = format('set_budget: %s is not a project that you are an admin of', p_scope),
      hint = 'ask an admin of the project, or an operator';
  end if;
  if p_set_by not in ('control', 'settings') or (p_set_by = 'settings' and not (atlas.is_service() or atlas.caller_role() = 'atlas_worker')) then
    raise exception using errcode = 'AT006', message = format('set_budget: %L is for workers alone', p_set_by), hint = 'leave it out';
  end if;
  perform atlas.check_limits(p_scope, p_limits);
  if p_scope like 'project:%' and not exists (select from atlas.project p where p.id = atlas.as_uuid(substr(p_scope, 9))) then
    raise exception using errcode = 'AT004', message = format('set_budget: no project %s', substr(p_scope, 9)),
      hint = 'name a project by its id: select id, name from atlas.project';
  end if;
  insert into atlas.budget (scope) values (p_scope) on conflict do nothing;
  select b.* into old from atlas.budget b where b.scope = p_scope for no key update;
  wanted := array(select k from jsonb_object_keys(p_limits) k where p_set_by = 'control' or k <> all (old.controlled));
  update atlas.budget b set
    per_run = case when 'per_run' = any (wanted) then (p_limits ->> 'per_run')::numeric::integer else b.per_run end,
    daily = case when 'daily' = any (wanted) then (p_limits ->> 'daily')::numeric::bigint else b.daily end,
    monthly = case when 'monthly' = any (wanted) then (p_limits ->> 'monthly')::numeric::bigint else b.monthly end,
    usd_per_run = case when 'usd_per_run' = any (wanted) then (p_limits ->> 'usd_per_run')::numeric else b.usd_per_run end,
    usd_daily = case when 'usd_daily' = any (wanted) then (p_limits ->> 'usd_daily')::numeric else b.usd_daily end,
    usd_monthly = case when 'usd_monthly' = any (wanted) then (p_limits ->> 'usd_monthly')::numeric else b.usd_monthly end,
    enforcement = case when 'enforcement' = any (wanted) then p_limits ->> 'enforcement' else b.enforcement end,
    when_spent = case when 'when_spent' = any (wanted) then p_limits ->> 'when_spent' else b.when_spent end,
    controlled = case p_set_by when 'control' then array(select distinct x from unnest(b.controlled || wanted) x order by x)
                               else b.controlled end,
    updated_at = now()
  where b.scope = p_scope
  returning b.* into result;
  -- where there was no limit, the first one of a worker's settings lowers nothing
  fallen := array(select n from unnest(names) n where (to_jsonb(result) ->> n)::numeric
    < coalesce((to_jsonb(old) ->> n)::numeric, case p_set_by when 'control' then 'infinity'::numeric end));
  update atlas.budget b set
    run_lowered_at = case when fallen && array['per_run', 'usd_per_run'] then now() else b.run_lowered_at end,
    day_lowered_at = case when fallen && array['daily', 'usd_daily'] then now() else b.day_lowered_at end,
    month_lowered_at = case when fallen && array['monthly', 'usd_monthly'] then now() else b.month_lowered_at end
  where b.scope = p_scope and fallen <> '{}' returning b.* into result;
  if not found then
    select b.* into result from atlas.budget b where b.scope = p_scope;
  end if;
  if p_set_by = 'control' then
    perform atlas.append_audit(null, 'set_budget', jsonb_build_object('scope', p_scope) || p_limits);
  end if;
  -- a limit of a month counts what the month held before there was a budget
  if result.monthly is not null or result.usd_monthly is not null then
    for v_day in
      select distinct s.day from atlas.spend s
      where s.day between date_trunc('month', atlas.today())::date and atlas.today() order by s.day
    loop
      perform atlas.open_day(p_scope, v_day);
    end loop;
  end if;
  perform atlas.lock_days(array[atlas.today()], array[p_scope]);
  -- a higher limit may let in who waited for the next day, or for others
  perform atlas.wake_waiting(array(select distinct t.wait_scope from atlas.task t
    where t.wait_scope = p_scope or (t.wait_scope like 'sender:%' and p_scope ~ '^(global|project:)')), 100000, true);
  return result;
end
$$;
comment on function atlas.set_budget(text, jsonb, text) is
  'Sets limits of a scope: {"per_run": tokens, "daily", "monthly", "usd_per_run": dollars, "usd_daily", "usd_monthly",
"enforcement": hard|soft, "when_spent": defer|reject}; null removes one. What waits for it goes on at once.';
grant execute on function atlas.set_budget(text, jsonb, text) to authenticated, service_role, atlas_worker;

create function atlas.get_budgets() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(b) || jsonb_build_object('held_tokens', coalesce(h.tokens, 0), 'held_usd', coalesce(h.usd, 0))
    order by b.scope), '[]')
  from atlas.budget_now b
  left join lateral (
    select sum(s.reserved_tokens) as tokens, sum(s.reserved_usd) as usd
    from atlas.spend s where s.held_until is not null and s.day = b.day and b.scope = any (s.scopes)) h on true
  where b.scope = 'global' or num_nonnulls(b.per_run, b.usd_per_run, b.daily, b.usd_daily, b.monthly, b.usd_monthly) > 0
$$;
comment on function atlas.get_budgets() is 'All limits with what today and this month hold.';
grant execute on function atlas.get_budgets() to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
