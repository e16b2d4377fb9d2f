-- Budgets that are nearly spent, and spent: told once a period and limit, by the outbox, with who spends most.

create table atlas.budget_event (
  scope text not null references atlas.budget (scope) on delete cascade,
  period text not null check (period in ('day', 'month')),
  starts date not null,
  unit text not null check (unit in ('tokens', 'usd')),
  level smallint not null check (level in (80, 100)),
  most numeric not null check (most >= 0),
  at timestamptz not null default now(),
  primary key (scope, period, starts, unit, level, most)
);
comment on table atlas.budget_event is 'Which budgets were told of, so that each is told of once a period; a new limit is told of anew.';
comment on column atlas.budget_event.scope is 'The budget.';
comment on column atlas.budget_event.period is 'day or month.';
comment on column atlas.budget_event.starts is 'The first UTC day of the period.';
comment on column atlas.budget_event.unit is 'tokens or usd.';
comment on column atlas.budget_event.level is '80: budget.warning. 100: budget.spent.';
comment on column atlas.budget_event.most is 'The limit.';
comment on column atlas.budget_event.at is 'When it was told.';
alter table atlas.budget_event enable row level security;
grant select on atlas.budget_event to service_role;

create function atlas.announce_budget(p_scope text, p_period text, p_unit text, p_level integer, p_most numeric, p_settled numeric)
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
        select t.sender_key, sum(s.tokens) as tokens, sum(s.usd) as usd,
          case p_unit when 'usd' then sum(s.usd) else sum(s.tokens) end as amount
        from atlas.spend s join atlas.task t on t.id = s.task_id
        where s.day >= v_starts and p_scope = any (s.scopes) and s.state = 'settled'
        group by t.sender_key order by 4 desc nulls last, 1 limit 5) x)));
end
$$;
comment on function atlas.announce_budget(text, text, text, integer, numeric, numeric) is
  'Tells of a budget once: at 80 %, and when it is spent. Internal.';

-- Called by what settles: most scopes have no limit, and cost one index lookup.
create function atlas.announce_budgets(p_scopes text[]) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  perform atlas.announce_budget(b.scope, l.period, l.unit, v.level, l.most, l.settled)
  from atlas.budget_now b
  cross join lateral (values ('day', 'tokens', b.daily::numeric, b.settled_tokens::numeric), ('day', 'usd', b.usd_daily, b.settled_usd),
    ('month', 'tokens', b.monthly, b.month_settled_tokens), ('month', 'usd', b.usd_monthly, b.month_settled_usd))
    as l (period, unit, most, settled)
  cross join (values (80), (100)) as v (level)
  where b.scope = any (p_scopes) and num_nonnulls(b.daily, b.usd_daily, b.monthly, b.usd_monthly) > 0
    and l.settled > 0 and l.settled * 100 >= l.most * v.level
    and not exists (select from atlas.budget_event e where e.scope = b.scope and e.period = l.period and e.unit = l.unit
      and e.level = v.level and e.most = l.most
      and e.starts = case l.period when 'month' then date_trunc('month', atlas.today())::date else atlas.today() end)
  order by b.scope, l.period, l.unit, v.level;
end
$$;
comment on function atlas.announce_budgets(text[]) is 'Tells of those budgets of a list that are spent to 80 or 100 %. Internal.';

revoke execute on all functions in schema atlas, rag from public;
