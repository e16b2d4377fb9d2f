-- The money: reserved before it is spent, settled with what was used, never lost.
--
-- settled + reserved <= limit, in tokens and in dollars, a day and a scope. Where only the reservations of others stand
-- in the way, a task waits, and a settlement wakes it. Where settled spend does, it is deferred to the next day, or
-- refused if even an empty day would not hold it. The fleet's one hot row is locked last and by many tasks at once.

create table atlas.budget (
  scope text primary key check (scope ~ '^(global|(project|sender):.+)$'),
  per_run integer check (per_run >= 0),
  daily bigint check (daily >= 0),
  usd_daily numeric(14, 6) check (usd_daily >= 0),
  controlled text[] not null default '{}' check (controlled <@ array['per_run', 'daily', 'usd_daily']),
  set_by text not null generated always as (case when controlled = '{}' then 'settings' else 'control' end) stored,
  updated_at timestamptz not null default now()
);
comment on table atlas.budget is 'Limits: the whole fleet''s (global), a project''s, a sender''s. Null means none.';
comment on column atlas.budget.scope is 'global, project:<id> or sender:<key>.';
comment on column atlas.budget.per_run is 'Tokens of one attempt, input and output together.';
comment on column atlas.budget.daily is 'Tokens of one UTC day.';
comment on column atlas.budget.usd_daily is 'US dollars of one UTC day.';
comment on column atlas.budget.controlled is 'Limits that set_budget set: those of a worker''s environment do not replace them.';
comment on column atlas.budget.set_by is 'settings: all from a worker''s environment; control: set_budget set some.';
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
comment on table atlas.budget_day is 'What each budget holds on a UTC day: settled + reserved <= limit.';
comment on column atlas.budget_day.day is 'The UTC day.';
comment on column atlas.budget_day.scope is 'The budget.';
comment on column atlas.budget_day.reserved_tokens is 'Tokens of calls under way, at their worst case.';
comment on column atlas.budget_day.settled_tokens is 'Tokens of settled calls.';
comment on column atlas.budget_day.overrun_tokens is 'Usage above its reservation: recorded in full, never clipped.';
comment on column atlas.budget_day.reserved_usd is 'US dollars of calls under way, at their worst case.';
comment on column atlas.budget_day.settled_usd is 'US dollars of settled calls.';
alter table atlas.budget_day enable row level security;
create policy "people see their own and their projects' days" on atlas.budget_day for select to authenticated
  using (scope = 'sender:' || (select auth.uid())::text
    or scope in (select 'project:' || p from atlas.my_projects() p));
comment on policy "people see their own and their projects' days" on atlas.budget_day is 'Row level security: people see their own and their projects'' days.';
grant select on atlas.budget_day to authenticated;
grant select on atlas.budget_day to service_role;

create table atlas.spend (
  id bigint generated always as identity primary key,
  task_id uuid not null references atlas.task (id),
  attempt_id uuid not null references atlas.attempt (id),
  call integer not null check (call >= 0),
  state text not null default 'reserved' check (state in ('reserved', 'settled')),
  model text not null,
  price_from date,
  day date not null,
  scopes text[] not null,
  reserved_tokens bigint not null check (reserved_tokens >= 0),
  reserved_usd numeric(18, 9) check (reserved_usd >= 0),
  response_id text,
  input_tokens bigint check (input_tokens >= 0),
  cached_tokens bigint check (cached_tokens >= 0),
  output_tokens bigint check (output_tokens >= 0),
  reasoning_tokens bigint check (reasoning_tokens >= 0),
  tokens bigint check (tokens >= 0),
  usd numeric(18, 9) check (usd >= 0),
  known text check (known in ('reported', 'estimated', 'unknown')),
  over_reservation boolean not null default false,
  settled_at timestamptz,
  unique (attempt_id, call),
  check ((state = 'settled') = (settled_at is not null)),
  check ((state = 'settled') = (known is not null)),
  check ((state = 'settled') = (tokens is not null))
);
create index spend_task on atlas.spend (task_id);
create index spend_open on atlas.spend (task_id) where state = 'reserved';
create index spend_day on atlas.spend (day);
comment on table atlas.spend is 'One row a model call, from its reservation to its settlement.';
comment on column atlas.spend.id is 'Its id.';
comment on column atlas.spend.task_id is 'The task it belongs to.';
comment on column atlas.spend.attempt_id is 'The attempt that made the call, or that took it up from a lost one.';
comment on column atlas.spend.call is 'Which call of its attempt, from 0. Makes reserving idempotent.';
comment on column atlas.spend.state is 'reserved while the call is under way, then settled.';
comment on column atlas.spend.model is 'The model that answered, or was called.';
comment on column atlas.spend.price_from is 'valid_from of the price row used; null where the model has no price.';
comment on column atlas.spend.day is 'The UTC day.';
comment on column atlas.spend.scopes is 'The budgets that it counts against.';
comment on column atlas.spend.reserved_tokens is 'The worst case: counted input with a margin, and the most output.';
comment on column atlas.spend.reserved_usd is 'The worst case in US dollars; null where the model has no price.';
comment on column atlas.spend.response_id is 'The provider''s id of the response.';
comment on column atlas.spend.input_tokens is 'Tokens sent.';
comment on column atlas.spend.cached_tokens is 'Those of the input that the provider had cached.';
comment on column atlas.spend.output_tokens is 'Reasoning tokens are among them.';
comment on column atlas.spend.reasoning_tokens is 'Those of the output that nobody sees.';
comment on column atlas.spend.tokens is 'What counts: input and output, or the reservation while usage is unknown.';
comment on column atlas.spend.usd is 'US dollars.';
comment on column atlas.spend.known is
  'reported by the provider; estimated; unknown: the whole reservation counts until it is corrected.';
comment on column atlas.spend.over_reservation is 'The provider used more than was reserved; it counts in full.';
comment on column atlas.spend.settled_at is 'When the usage was known, or given up.';
alter table atlas.spend enable row level security;
create policy "people see the spend of tasks they see" on atlas.spend for select to authenticated
  using (exists (select from atlas.task t where t.id = spend.task_id));
comment on policy "people see the spend of tasks they see" on atlas.spend is 'Row level security: people see the spend of tasks they see.';
grant select on atlas.spend to authenticated;
grant select on atlas.spend to service_role;

create function atlas.today() returns date
language sql stable set search_path = ''
as $$ select (now() at time zone 'UTC')::date $$;
comment on function atlas.today() is 'The budget''s day: UTC.';
grant execute on function atlas.today() to authenticated, service_role, atlas_worker;

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
  set plan_cache_mode = force_generic_plan set enable_seqscan = off
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
grant execute on function atlas.set_budget(text, jsonb, text) to service_role, atlas_worker;

create function atlas.get_budgets() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(to_jsonb(b) || coalesce(to_jsonb(d) - 'scope', jsonb_build_object('day', atlas.today(),
      'reserved_tokens', 0, 'settled_tokens', 0, 'overrun_tokens', 0, 'reserved_usd', 0, 'settled_usd', 0))
    order by b.scope), '[]')
  from atlas.budget b left join atlas.budget_day d on d.scope = b.scope and d.day = atlas.today()
$$;
comment on function atlas.get_budgets() is 'All limits with what today holds.';
grant execute on function atlas.get_budgets() to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
