-- The router's memory: what came in from outside, who wrote it, what was posted there, and what people are told.
--
-- Edge functions (functions/) carry messages in and replies out. They keep nothing themselves: each step is one function here.

create table atlas.inbound (
  source text not null check (source in ('github', 'slack', 'pubsub')),
  event_id text not null check (event_id <> '' and length(event_id) <= 200),
  task_id uuid,
  received_at timestamptz not null default now(),
  primary key (source, event_id)
);
create index inbound_received on atlas.inbound (received_at);
comment on table atlas.inbound is 'Deliveries from outside that were taken in: the same one again is no second message.';
comment on column atlas.inbound.source is 'github, slack or pubsub.';
comment on column atlas.inbound.event_id is 'The sender''s id of the delivery.';
comment on column atlas.inbound.task_id is 'What it became; null where it became nothing.';
comment on column atlas.inbound.received_at is 'When it came first.';
alter table atlas.inbound enable row level security;
grant select on atlas.inbound to service_role;

-- Both are looked up by an index, whose entries are short.
alter table public.architect_in add constraint addresses_are_short check (
  coalesce(length(data #>> '{metadata,reply_to}'), 0) <= 300 and coalesce(length(data #>> '{metadata,sender_key}'), 0) <= 300);

-- A question finds the conversation that it belongs to by its address.
create index architect_in_reply_to on public.architect_in ((data #>> '{metadata,reply_to}'))
  where data #>> '{metadata,reply_to}' is not null;

create function atlas.last_task_at(p_reply_to text) returns uuid
language sql stable security definer set search_path = ''
as $$
  select t.id from public.architect_in i join atlas.task t on t.in_id = i.id
  where i.data #>> '{metadata,reply_to}' = p_reply_to and t.kind = 'chat' and t.state = 'completed'
  order by t.queued_at desc, t.in_id desc limit 1
$$;
comment on function atlas.last_task_at(text) is 'The latest answered question of an address, such as github:owner/repo#7.';

-- A message from outside, once. The writer is a user where atlas.identity knows them, else a sender of their own.
create function atlas.accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text default null,
  p_external_id text default null) returns table (task_id uuid, state text, created boolean)
language plpgsql security definer set search_path = ''
as $$
declare
  message jsonb := p_message;
  writer uuid;
  parent uuid;
begin
  insert into atlas.inbound (source, event_id, task_id) values (p_source, p_event_id, atlas.as_uuid(p_message ->> 'task_id'))
  on conflict do nothing;
  if not found then
    return query select i.task_id, coalesce(t.state, 'queued'), false
      from atlas.inbound i left join atlas.task t on t.id = i.task_id
      where (i.source, i.event_id) = (p_source, p_event_id);
    return;
  end if;
  if p_external_id is not null then
    select i.user_id into writer from atlas.identity i where (i.provider, i.external_id) = (p_provider, p_external_id);
    if writer is null then
      message := jsonb_set(message, '{metadata,sender_key}', to_jsonb(p_provider || ':' || p_external_id));
    end if;
  end if;
  if message #>> '{metadata,reply_to}' is not null and message #>> '{metadata,parent_id}' is null
     and message ->> 'msg_type' = 'chat' then
    parent := atlas.last_task_at(message #>> '{metadata,reply_to}');
    if parent is not null then
      message := jsonb_set(message, '{metadata,parent_id}', to_jsonb(parent));
    end if;
  end if;
  return query select s.task_id, s.state, s.created from atlas.submit_task(message, writer) s;
end
$$;
comment on function atlas.accept_message(text, text, jsonb, text, text) is
  'Takes a message from outside in, once a delivery: {task_id, state, created}. Raises AT001 for what breaks the contract.';

create function atlas.reject_message(p_source text, p_event_id text, p_payload jsonb, p_reason text) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  insert into atlas.inbound (source, event_id) values (p_source, p_event_id) on conflict do nothing;
  if found then
    insert into atlas.rejected_message (source, payload, reason) values (p_source, p_payload, left(p_reason, 2000));
  end if;
  return found;
end
$$;
comment on function atlas.reject_message(text, text, jsonb, text) is
  'Keeps a message that broke the contract, once a delivery, so that its sender need not send it again.';

-- What was posted outside. A row is written before the post is made: one that is still `posting` when it is looked at again is
-- uncertain, and is looked up at its place before it is made again.
create table atlas.post (
  task_id uuid not null,
  part text not null check (part ~ '^(reply:\d+|thread|issue:\d+|pull_request|notice:[0-9a-f-]{36})$'),
  event_id uuid not null,
  address text not null,
  state text not null default 'posting' check (state in ('posting', 'posted')),
  external_id text,
  url text,
  lease_expires_at timestamptz not null,
  created_at timestamptz not null default now(),
  primary key (task_id, part),
  check ((state = 'posted') = (external_id is not null))
);
comment on table atlas.post is 'What was posted outside for a task: comments, messages, issues, a pull request.';
comment on column atlas.post.task_id is 'The task it is about; of a notice that is about none, its event.';
comment on column atlas.post.created_at is 'When it was first asked for.';
comment on column atlas.post.part is 'reply:<n> (0 is the progress comment, and then the reply), thread, issue:<n>, pull_request, notice:<event>.';
comment on column atlas.post.event_id is 'The event that asked for it first; the post carries it.';
comment on column atlas.post.address is 'Where: github:owner/repo#7, or slack:team:channel:thread.';
comment on column atlas.post.state is 'posting: about to be made, or uncertain; posted.';
comment on column atlas.post.external_id is 'Its id there.';
comment on column atlas.post.url is 'Where people see it.';
comment on column atlas.post.lease_expires_at is 'Until then another call may still be making it.';
alter table atlas.post enable row level security;
create policy "people see the posts of tasks they see" on atlas.post for select to authenticated
  using (exists (select from atlas.task t where t.id = post.task_id));
grant select on atlas.post to authenticated, service_role;

create function atlas.begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval)
returns table (verdict text, external_id text, url text, since timestamptz)
language plpgsql security definer set search_path = ''
as $$
declare
  was atlas.post;
begin
  insert into atlas.post (task_id, part, event_id, address, lease_expires_at)
  values (p_task_id, p_part, p_event_id, p_address, now() + p_lease) on conflict do nothing;
  if found then
    return query select 'create', null::text, null::text, now();
    return;
  end if;
  select p.* into was from atlas.post p where (p.task_id, p.part) = (p_task_id, p_part) for no key update;
  if was.state = 'posted' then
    return query select 'posted', was.external_id, was.url, was.created_at;
  elsif was.lease_expires_at > now() then
    return query select 'busy', null::text, null::text, was.created_at;
  else
    update atlas.post p set lease_expires_at = now() + p_lease where (p.task_id, p.part) = (p_task_id, p_part);
    return query select 'look_up', null::text, null::text, was.created_at;
  end if;
end
$$;
comment on function atlas.begin_post(uuid, text, uuid, text, interval) is
  'Before a post is made. create: make it; look_up: an earlier call may have made it, look there first; posted: it is there; busy:
another call is making it.';

create function atlas.finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text default null) returns void
language sql security definer set search_path = ''
as $$
  update atlas.post p set state = 'posted', external_id = p_external_id, url = coalesce(p_url, p.url)
  where (p.task_id, p.part) = (p_task_id, p_part)
$$;
comment on function atlas.finish_post(uuid, text, text, text) is 'After a post was made or found: where it is.';

create function atlas.drop_post(p_task_id uuid, p_part text) returns void
language sql security definer set search_path = ''
as $$
  delete from atlas.post p where (p.task_id, p.part) = (p_task_id, p_part)
$$;
comment on function atlas.drop_post(uuid, text) is 'A post was refused for certain, or is gone: the next call makes it anew.';

-- What a router needs to know of a task to answer its writer.
create function atlas.get_delivery(p_task_id uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object('task_id', t.id, 'state', t.state, 'title', t.title, 'reply_to', i.data #>> '{metadata,reply_to}',
    'queued_at', t.queued_at, 'spec', case when t.state = 'completed' then o.data end,
    'final', case when t.finished_at is not null then o.data end)
  from atlas.task t join public.architect_in i on i.id = t.in_id left join public.architect_out o on o.id = t.out_id
  where t.id = p_task_id and t.kind = 'chat'
$$;
comment on function atlas.get_delivery(uuid) is 'State, address and reply of a task, for the function that delivers it.';

-- A spec leaves as a pull request or as issues when somebody asks for it, by the outbox like everything else.
create function atlas.request_export(p_task_id uuid, p_what text, p_repository text default null, p_reply_to text default null,
  p_event_id uuid default gen_random_uuid()) returns uuid
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
                     else format('%L is no repository', repository) end,
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
create index task_completed on atlas.task (finished_at) where state = 'completed';

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
      from (select s.since, (select count(*) from atlas.task t where t.state = 'dead_lettered' and t.finished_at > s.since)
              + (select count(*) from atlas.outbox o where o.state = 'dead' and o.run_after > s.since) as n
            from (select greatest(hour, (select l.raised_at from last l where l.cause = 'dead_letters')) as since) s) t
      where t.n > 0
      union all
      select 'completed:' || p.name, s.since, format('%s specs completed in project %s since %s UTC, the latest: %s', count(*), p.name,
        to_char(s.since at time zone 'UTC', 'HH24:MI'), (array_agg(t.title order by t.finished_at desc))[1])
      from atlas.project p
      cross join lateral (select greatest(hour, (select l.raised_at from last l where l.cause = 'completed:' || p.name)) as since) s
      join atlas.task t on t.project_id = p.id and t.kind = 'chat' and t.state = 'completed' and t.finished_at > s.since
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

-- What came in long ago is known by its task; deliveries are repeated within days.
create function atlas.trim_inbound(p_keep interval default interval '30 days') returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  delete from atlas.inbound i where i.received_at < now() - p_keep;
  get diagnostics n = row_count;
  delete from atlas.notification p where p.raised_at < now() - p_keep;
  return n;
end
$$;
comment on function atlas.trim_inbound(interval) is 'Forgets deliveries and notifications that are older than that; says how many deliveries.';

grant execute on function atlas.last_task_at(text), atlas.accept_message(text, text, jsonb, text, text),
  atlas.reject_message(text, text, jsonb, text), atlas.begin_post(uuid, text, uuid, text, interval),
  atlas.finish_post(uuid, text, text, text), atlas.drop_post(uuid, text), atlas.get_delivery(uuid),
  atlas.request_export(uuid, text, text, text, uuid) to service_role;
grant execute on function atlas.raise_notifications(), atlas.trim_inbound(interval) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
