-- The outbox: what must reach Pub/Sub and webhooks. Rows are written by the transaction that wrote architect_out;
-- a relay claims them with a lease, sends, and settles. At least once, in order per task, event_id to dedupe on.

create table atlas.destination (
  id uuid primary key default gen_random_uuid(),
  name text not null unique,
  kind text not null check (kind in ('pubsub', 'webhook')),
  target text not null check (target <> ''),
  secret_name text,
  filter jsonb not null default '{}' check (jsonb_typeof(filter) = 'object'),
  enabled boolean not null default true,
  created_at timestamptz not null default now()
);
comment on table atlas.destination is 'Where replies go: a Pub/Sub topic or a signed webhook.';
comment on column atlas.destination.secret_name is 'Name of the signing secret in the mirror''s environment; never the secret.';
comment on column atlas.destination.filter is 'Which messages: msg_type, status, sender, kind; empty means all.';

create table atlas.outbox (
  id bigint generated always as identity primary key,
  event_id uuid not null unique default gen_random_uuid(),
  event_kind text not null default 'message' check (event_kind in ('message', 'audit_seal')),
  task_id uuid,
  out_id bigint references public.architect_out (id),
  payload jsonb,
  state text not null default 'pending' check (state in ('pending', 'sent', 'dead')),
  rejections integer not null default 0 check (rejections >= 0),
  lease_id uuid,
  lease_expires_at timestamptz,
  run_after timestamptz not null default now(),
  created_at timestamptz not null default now(),
  sent_at timestamptz,
  last_error text,
  check ((out_id is null) <> (payload is null)),
  check ((state = 'sent') = (sent_at is not null)),
  check ((lease_id is null) = (lease_expires_at is null))
);
create index outbox_pending on atlas.outbox (id) where state = 'pending';
create index outbox_task on atlas.outbox (task_id, id) where state <> 'sent';
comment on table atlas.outbox is 'What must leave: one row a message of architect_out, in the same transaction.';
comment on column atlas.outbox.event_id is 'Consumers dedupe on it; a message sent again keeps it.';
comment on column atlas.outbox.rejections is 'Times its receiver refused it; three make it dead.';

create table atlas.rejected_message (
  id bigint generated always as identity primary key,
  source text not null,
  payload jsonb,
  reason text not null,
  created_at timestamptz not null default now()
);
comment on table atlas.rejected_message is 'Messages from outside that broke the contract: acked, and kept here.';

alter table atlas.destination enable row level security;
alter table atlas.outbox enable row level security;
alter table atlas.rejected_message enable row level security;
grant select, insert, update, delete on atlas.destination to service_role;
grant select on atlas.outbox to service_role;
grant select, insert, delete on atlas.rejected_message to service_role;

create function atlas.fill_outbox() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  -- answers to commands and escalations wait for nothing, not even for a dead row of their task
  insert into atlas.outbox (task_id, out_id)
  select case when n.data ->> 'msg_type' <> 'control' then n.task_id end, n.id from new_rows n order by n.id;
  return null;
end
$$;
comment on function atlas.fill_outbox() is 'Every row of architect_out leaves by the outbox.';
create trigger fill_outbox after insert on public.architect_out
  referencing new table as new_rows for each statement execute function atlas.fill_outbox();

create function atlas.claim_outbox(p_lease_id uuid, p_limit integer, p_lease interval)
returns table (id bigint, event_id uuid, event_kind text, task_id uuid, payload jsonb, rejections integer)
language sql security definer set search_path = ''
as $$
  with due as materialized (
    select o.id from atlas.outbox o
    where o.state = 'pending' and o.run_after <= now() and coalesce(o.lease_expires_at, '-infinity') <= now()
      -- in order per task: nothing unsent before it, unless this same claim may take that too
      and (select true from atlas.outbox e where e.task_id = o.task_id and e.id < o.id and e.state <> 'sent'
             and (e.state = 'dead' or e.run_after > now() or coalesce(e.lease_expires_at, '-infinity') > now())
           limit 1) is null
    order by o.id limit p_limit
  ),
  held as materialized (
    select o.id, o.task_id from atlas.outbox o
    where o.id = any (array(select due.id from due)) and o.state = 'pending'
      and coalesce(o.lease_expires_at, '-infinity') <= now()
    order by o.id for no key update skip locked
  ),
  -- a row that another relay holds keeps back the later rows of its task
  ready as materialized (
    select h.id from held h
    where (select true from atlas.outbox e where e.task_id = h.task_id and e.id < h.id and e.state <> 'sent'
             and e.id <> all (array(select held.id from held)) limit 1) is null
  ),
  claimed as (
    update atlas.outbox o set lease_id = p_lease_id, lease_expires_at = now() + p_lease
    where o.id = any (array(select ready.id from ready))
    returning o.id, o.event_id, o.event_kind, o.task_id, o.payload, o.rejections, o.out_id
  )
  select c.id, c.event_id, c.event_kind, c.task_id, coalesce(c.payload, m.data), c.rejections
  from claimed c left join public.architect_out m on m.id = c.out_id
  order by c.id
$$;
comment on function atlas.claim_outbox(uuid, integer, interval) is
  'Leases pending rows to a relay, in order per task; a dead or held row keeps back the later ones of its task.';

create function atlas.settle_outbox(p_lease_id uuid, p_sent bigint[], p_rejected jsonb default '[]',
  p_released bigint[] default '{}') returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  settled integer;
  n integer;
  escalated boolean;
  item record;
begin
  update atlas.outbox o set state = 'sent', sent_at = now(), lease_id = null, lease_expires_at = null, last_error = null
  where o.id = any (p_sent) and o.lease_id = p_lease_id and o.state = 'pending';
  get diagnostics settled = row_count;
  update atlas.outbox o set lease_id = null, lease_expires_at = null
  where o.id = any (p_released) and o.lease_id = p_lease_id and o.state = 'pending';
  for item in
    select r.id, r.error from jsonb_to_recordset(p_rejected) as r (id bigint, error text) order by r.id
  loop
    update atlas.outbox o set rejections = o.rejections + 1, last_error = item.error, lease_id = null,
      lease_expires_at = null, state = case when o.rejections >= 2 then 'dead' else 'pending' end,
      run_after = now() + random() * 2 ^ o.rejections * interval '1 second'
    where o.id = item.id and o.lease_id = p_lease_id and o.state = 'pending';
    get diagnostics n = row_count;
    settled := settled + n;
    -- the third rejection makes it dead and says so once; an escalation never escalates
    if n > 0 then
      select o.state = 'dead' and o.out_id is not null
          and coalesce(atlas.control_command(m.data) ->> 'command', '') <> 'escalate'
        into escalated
        from atlas.outbox o left join public.architect_out m on m.id = o.out_id where o.id = item.id;
      if escalated then
        perform atlas.escalate(coalesce(o.task_id, m.task_id), 'outbox_dead', item.error)
        from atlas.outbox o left join public.architect_out m on m.id = o.out_id where o.id = item.id;
      end if;
    end if;
  end loop;
  return settled;
end
$$;
comment on function atlas.settle_outbox(uuid, bigint[], jsonb, bigint[]) is
  'Marks leased rows sent, counts a rejection ([{"id","error"}]; the third makes a row dead), or hands them back.';

create function atlas.retry_outbox(p_ids bigint[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  update atlas.outbox set state = 'pending', rejections = 0, run_after = now() where id = any (p_ids) and state = 'dead';
  get diagnostics n = row_count;
  perform atlas.append_audit(null, 'retry_outbox', jsonb_build_object('ids', p_ids));
  return n;
end
$$;
comment on function atlas.retry_outbox(bigint[]) is 'Takes dead rows of the outbox up again; says how many.';

grant execute on function atlas.claim_outbox(uuid, integer, interval),
  atlas.settle_outbox(uuid, bigint[], jsonb, bigint[]) to service_role, atlas_worker;
grant execute on function atlas.retry_outbox(bigint[]) to service_role;

revoke execute on all functions in schema atlas, rag from public;
