-- The router's memory: what came in from outside, who wrote it, and what was posted there.
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
comment on table atlas.inbound is 'Deliveries from outside that were taken in: the same one again makes no second message.';
comment on column atlas.inbound.source is 'github, slack or pubsub.';
comment on column atlas.inbound.event_id is 'The sender''s id of the delivery.';
comment on column atlas.inbound.task_id is 'What it became; null where it became nothing.';
comment on column atlas.inbound.received_at is 'When it came first.';
alter table atlas.inbound enable row level security;
grant select on atlas.inbound to service_role;

create table atlas.rejected_message (
  id bigint generated always as identity primary key,
  source text not null,
  payload jsonb,
  reason text not null,
  created_at timestamptz not null default now()
);
comment on table atlas.rejected_message is 'Messages from outside that broke the contract: acked, and kept here.';
comment on column atlas.rejected_message.id is 'Its id.';
comment on column atlas.rejected_message.source is 'Where it came from.';
comment on column atlas.rejected_message.payload is 'The message as it came.';
comment on column atlas.rejected_message.reason is 'Why it was refused.';
comment on column atlas.rejected_message.created_at is 'When the row was written.';
alter table atlas.rejected_message enable row level security;
grant select, insert, delete on atlas.rejected_message to service_role;

create function atlas.last_task_at(p_reply_to text) returns uuid
language sql stable security definer set search_path = ''
as $$
  select t.id from public.architect_in i join atlas.task t on t.in_id = i.id
  where i.data #>> '{metadata,reply_to}' = p_reply_to and t.kind = 'chat' and t.state = 'completed'
  order by t.queued_at desc, t.in_id desc limit 1
$$;
comment on function atlas.last_task_at(text) is 'The latest answered question of an address, such as github:owner/repo#7.';
grant execute on function atlas.last_task_at(text) to service_role;

-- Ids of what comes from outside are derived from its name there, which is public: without the key nobody can tell them beforehand.
create table atlas.id_key (
  singleton boolean primary key default true check (singleton),
  key bytea not null default sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')) check (length(key) = 32)
);
insert into atlas.id_key default values;
comment on table atlas.id_key is 'The secret that ids of messages from outside are derived with. Nobody reads it but atlas.derive_id.';
comment on column atlas.id_key.singleton is 'There is one row.';
comment on column atlas.id_key.key is 'Random, made by the migration; a new one makes a repeated message a new task.';
alter table atlas.id_key enable row level security;

create function atlas.derive_id(p_name text, p_count integer default 0) returns uuid
language sql stable security definer set search_path = ''
as $$
  -- HMAC as RFC 2104 writes it: pgcrypto has it too, and is not everywhere
  with padded as (
    select decode(string_agg(lpad(to_hex(b.byte # 54), 2, '0'), '' order by b.i), 'hex') as inner_key,
      decode(string_agg(lpad(to_hex(b.byte # 92), 2, '0'), '' order by b.i), 'hex') as outer_key
    from (select i, case when i < 32 then get_byte(k.key, i) else 0 end as byte from atlas.id_key k, generate_series(0, 63) i) b
  ), hashed as (
    select substr(sha256(p.outer_key || sha256(p.inner_key || convert_to(p_count || ':' || p_name, 'UTF8'))), 1, 16) as mac from padded p
  )
  select encode(set_byte(set_byte(h.mac, 6, (get_byte(h.mac, 6) & 15) | 128), 8, (get_byte(h.mac, 8) & 63) | 128), 'hex')::uuid
  from hashed h
$$;
comment on function atlas.derive_id(text, integer) is
  'The same UUID (version 8) for the same name, by HMAC-SHA256 with the key of this database; p_count where the first is taken.';
grant execute on function atlas.derive_id(text, integer) to service_role;

-- A message from outside, once. The writer is a user where atlas.identity knows them, else a sender of their own.
create function atlas.accept_message(p_source text, p_event_id text, p_message jsonb, p_provider text default null,
  p_external_id text default null, p_name text default null) returns table (task_id uuid, state text, created boolean)
language plpgsql security definer set search_path = ''
as $$
declare
  message jsonb := p_message;
  writer uuid;
  parent uuid;
  counted integer := 0;
begin
  if p_external_id is not null then
    select i.user_id into writer from atlas.identity i where (i.provider, i.external_id) = (p_provider, p_external_id);
    if writer is null then
      message := jsonb_set(message, '{metadata,sender_key}', to_jsonb(p_provider || ':' || p_external_id));
    end if;
  end if;
  if p_name is not null then
    -- somebody else's message under this id is not this one, however its sender came by the id
    while exists (select from public.architect_in i
        where i.task_id = atlas.derive_id(p_name, counted) and i.data ->> 'msg_type' = 'chat'
          and i.data #>> '{metadata,sender_key}' is distinct from p_provider || ':' || p_external_id
          and (i.sender is null or i.sender is distinct from writer)) loop
      counted := counted + 1;
    end loop;
    message := jsonb_set(message, '{task_id}', to_jsonb(atlas.derive_id(p_name, counted)));
  end if;
  insert into atlas.inbound (source, event_id, task_id) values (p_source, p_event_id, atlas.as_uuid(message ->> 'task_id'))
  on conflict do nothing;
  if not found then
    return query select i.task_id, coalesce(t.state, 'queued'), false
      from atlas.inbound i left join atlas.task t on t.id = i.task_id
      where (i.source, i.event_id) = (p_source, p_event_id);
    return;
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
comment on function atlas.accept_message(text, text, jsonb, text, text, text) is
  'Takes a message from outside in, once a delivery: {task_id, state, created}. p_name: its name there, from which its task_id is
derived (derive_id); null where it brings its own. Raises AT001 for what breaks the contract.';
grant execute on function atlas.accept_message(text, text, jsonb, text, text, text) to service_role;

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
grant execute on function atlas.reject_message(text, text, jsonb, text) to service_role;

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
comment on column atlas.post.part is
  'reply:<n> (0 is the progress comment, and then the reply), thread, issue:<n>, pull_request, notice:<event>.';
comment on column atlas.post.event_id is 'The event that asked for it first; the post carries it.';
comment on column atlas.post.address is 'Where: github:owner/repo#7, or slack:team:channel:thread.';
comment on column atlas.post.state is 'posting: about to be made, or uncertain; posted.';
comment on column atlas.post.external_id is 'Its id there.';
comment on column atlas.post.url is 'Where people see it.';
comment on column atlas.post.lease_expires_at is 'Until then another call may still be making it.';
comment on column atlas.post.created_at is 'When it was first asked for.';
alter table atlas.post enable row level security;
create policy "people see the posts of tasks they see" on atlas.post for select to authenticated
  using (exists (select from atlas.task t where t.id = post.task_id));
comment on policy "people see the posts of tasks they see" on atlas.post is 'Row level security: people see the posts of tasks they see.';
grant select on atlas.post to authenticated, service_role;

create function atlas.begin_post(p_task_id uuid, p_part text, p_event_id uuid, p_address text, p_lease interval)
returns table (verdict text, external_id text, url text, since timestamptz)
language plpgsql security definer set search_path = ''
as $$
declare
  was atlas.post;
begin
  insert into atlas.post (task_id, part, event_id, address, lease_expires_at)
  values (p_task_id, p_part, p_event_id, p_address, now() + atlas.bounded(p_lease, '0', '1 hour')) on conflict do nothing;
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
    update atlas.post p set lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour') where (p.task_id, p.part) = (p_task_id, p_part);
    return query select 'look_up', null::text, null::text, was.created_at;
  end if;
end
$$;
comment on function atlas.begin_post(uuid, text, uuid, text, interval) is
  'Before a post is made. create: make it; look_up: an earlier call may have made it, look there first; posted: it is there; busy:
another call is making it.';
grant execute on function atlas.begin_post(uuid, text, uuid, text, interval) to service_role;

create function atlas.extend_post(p_task_id uuid, p_part text, p_lease interval) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  update atlas.post p set lease_expires_at = now() + atlas.bounded(p_lease, '0', '1 hour')
  where (p.task_id, p.part) = (p_task_id, p_part) and p.state = 'posting' and p.lease_expires_at > now();
  return found;
end
$$;
comment on function atlas.extend_post(uuid, text, interval) is
  'Extends the lease of a post that is about to be made; false where it ran out, and another call may be making it.';
grant execute on function atlas.extend_post(uuid, text, interval) to service_role;

create function atlas.finish_post(p_task_id uuid, p_part text, p_external_id text, p_url text default null) returns void
language sql security definer set search_path = ''
as $$
  update atlas.post p set state = 'posted', external_id = p_external_id, url = coalesce(p_url, p.url)
  where (p.task_id, p.part) = (p_task_id, p_part)
$$;
comment on function atlas.finish_post(uuid, text, text, text) is 'After a post was made or found: where it is.';
grant execute on function atlas.finish_post(uuid, text, text, text) to service_role;

create function atlas.drop_post(p_task_id uuid, p_part text) returns void
language sql security definer set search_path = ''
as $$
  delete from atlas.post p where (p.task_id, p.part) = (p_task_id, p_part)
$$;
comment on function atlas.drop_post(uuid, text) is 'A post was refused for certain, or is gone: the next call makes it anew.';
grant execute on function atlas.drop_post(uuid, text) to service_role;

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
grant execute on function atlas.get_delivery(uuid) to service_role;

revoke execute on all functions in schema atlas, rag from public;
