-- What leaves when somebody asks for it, or should know: exports of specs, and notifications.

-- A spec leaves as a pull request or as issues when somebody asks for it, by the outbox like everything else.
create function atlas.request_export(p_task_id uuid, p_what text, p_repository text default null, p_reply_to text default null,
  p_event_id uuid default atlas.new_id()) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
  d jsonb := atlas.get_delivery(p_task_id);
  repository text;
begin
  -- the same wish again, by another delivery of it
  if exists (select from atlas.outbox o where o.event_id = p_event_id) then
    return p_event_id;
  end if;
  if d is null then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id), hint = 'see `atlas tasks`';
  end if;
  if p_what not in ('pull_request', 'issues') then
    raise exception using errcode = 'AT005', message = format('request_export: %L is not known', p_what),
      hint = 'use pull_request or issues';
  end if;
  if d ->> 'state' <> 'completed' then
    raise exception using errcode = 'AT005', message = format('task %s is %s: there is no spec to export', p_task_id, d ->> 'state'),
      hint = 'wait for its reply, or ask again';
  end if;
  if p_what = 'issues' and coalesce((d #>> '{spec,metadata,truncated}')::boolean, false) then
    raise exception using errcode = 'AT005', message = format('the reply to task %s was cut by its budget', p_task_id),
      hint = 'ask again with a larger TOKEN_BUDGET_PER_RUN: work items of half a plan are not filed';
  end if;
  repository := coalesce(p_repository, substring(d ->> 'reply_to' from '^github:([^#]+)#'));
  if repository is null or repository !~ '^[A-Za-z0-9_-]+/[A-Za-z0-9._-]+$' or repository ~ '/\.\.?$' then
    raise exception using errcode = 'AT005',
      message = case when repository is null then format('task %s came from no repository', p_task_id)
                     else format('%L is not a repository', repository) end,
      hint = 'name it as owner/name';
  end if;
  if atlas.emit('export', jsonb_build_object('task_id', p_task_id, 'export', p_what, 'repository', repository,
      'reply_to', coalesce(p_reply_to, d ->> 'reply_to')), p_task_id, p_event_id) = 0 then
    raise exception using errcode = 'AT005', message = 'no destination takes exports',
      hint = 'add the function deliver as a webhook to atlas.destination, with "export" among the kinds of its filter';
  end if;
  perform atlas.append_audit(p_task_id, 'request_export', jsonb_build_object('what', p_what, 'repository', repository));
  return p_event_id;
end
$$;
comment on function atlas.request_export(uuid, text, text, text, uuid) is
  'Asks for a spec as a pull request, or for its work items as issues; answers the event that carries it out. The same p_event_id
again asks for nothing more.';
grant execute on function atlas.request_export(uuid, text, text, text, uuid) to service_role;

-- What people are told: at most one a cause an hour.
create table atlas.notification (
  cause text not null,
  raised_at timestamptz not null default now(),
  text text not null,
  primary key (cause, raised_at)
);
comment on table atlas.notification is 'What people were told: budgets at 80 and 100 %, dead letters, completions.';
comment on column atlas.notification.cause is 'What it is about, such as budget_80:global:tokens; at most one an hour each.';
comment on column atlas.notification.raised_at is 'When it was said.';
comment on column atlas.notification.text is 'The sentence.';
alter table atlas.notification enable row level security;
grant select on atlas.notification to service_role;

create function atlas.raise_notifications() returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  item record;
  n integer := 0;
  hour constant timestamptz := now() - interval '1 hour';
begin
  if not exists (select from atlas.destination d where d.enabled and d.filter -> 'kind' ? 'notification')
     or not pg_try_advisory_xact_lock(hashtextextended('atlas.raise_notifications', 0)) then
    return 0;
  end if;
  for item in
    with last as materialized (
      select distinct on (p.cause) p.cause, p.raised_at from atlas.notification p order by p.cause, p.raised_at desc
    ),
    due as (
      -- the higher mark silences the lower one; each is said once a day
      select format('budget_%s:%s:%s', u.mark, d.scope, u.unit) as cause, d.day::timestamp at time zone 'UTC' as since,
        format('%s %% of the %s budget of today is spent (%s of %s, %s)', u.mark,
          case u.unit when 'usd' then 'USD' else 'token' end, u.used, u.most, d.scope) as text
      from atlas.budget_day d join atlas.budget b on b.scope = d.scope
      cross join lateral (
        select v.unit, v.used, v.most, case when v.used >= v.most then 100 else 80 end as mark
        from (values ('tokens', d.settled_tokens::numeric, b.daily::numeric), ('usd', round(d.settled_usd, 4), b.usd_daily))
          as v (unit, used, most)
        where v.most > 0 and v.used >= 0.8 * v.most) u
      where d.day = atlas.today()
      union all
      select 'dead_letters', t.since, format('%s dead letters since %s UTC: see `atlas dlq list`', t.n,
        to_char(t.since at time zone 'UTC', 'HH24:MI'))
      from (select s.since, (select count(*) from atlas.task t where t.dead_letter and t.finished_at > s.since)
              + (select count(*) from atlas.outbox o where o.state = 'dead' and o.run_after > s.since) as n
            from (select greatest(hour, (select l.raised_at from last l where l.cause = 'dead_letters')) as since) s) t
      where t.n > 0
      union all
      -- no titles: who reads the channel need not be who may read the task
      select 'completed:' || p.name, s.since, format('%s specs completed in project %s since %s UTC: see `atlas tasks`', count(*), p.name,
        to_char(s.since at time zone 'UTC', 'HH24:MI'))
      from atlas.project p
      cross join lateral (select greatest(hour, (select l.raised_at from last l where l.cause = 'completed:' || p.name)) as since) s
      join public.architect_out o on o.project_id = p.id and o.created_at > hour and o.created_at > s.since
        and o.data ->> 'msg_type' = 'spec' and o.data #>> '{metadata,status}' = 'completed'
      group by p.name, s.since
    )
    select d.cause, d.text from due d left join last l on l.cause = d.cause
    where l.raised_at is null or (l.raised_at <= hour and (d.cause not like 'budget%' or l.raised_at < d.since))
  loop
    insert into atlas.notification (cause, text) values (item.cause, item.text);
    n := n + atlas.emit('notification', jsonb_build_object('kind', 'notification', 'cause', item.cause, 'text', item.text,
      'at', now()));
  end loop;
  return n;
end
$$;
comment on function atlas.raise_notifications() is
  'Says what people should know, at most once a cause an hour: budgets at 80 and 100 %, dead letters, completions.';
grant execute on function atlas.raise_notifications() to service_role, atlas_worker;

-- What came in long ago is known by its task; deliveries are repeated within days.
create function atlas.trim_inbound(p_keep interval default interval '30 days') returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  delete from atlas.inbound i where i.received_at < now() - atlas.bounded(p_keep, '7 days', '10 years');
  get diagnostics n = row_count;
  delete from atlas.notification p where p.raised_at < now() - atlas.bounded(p_keep, '7 days', '10 years');
  return n;
end
$$;
comment on function atlas.trim_inbound(interval) is 'Forgets deliveries and notifications that are older than that; says how many deliveries.';
grant execute on function atlas.trim_inbound(interval) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
