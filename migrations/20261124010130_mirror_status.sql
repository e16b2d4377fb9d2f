-- What is seen of the mirror, what running tasks say of themselves outside, and what is forgotten in time.

create view atlas.outbox_status with (security_invoker = true) as
select d.name as destination, d.kind, d.enabled, d.failures, d.open_until, d.last_error, d.last_sent_at,
  count(o.id) filter (where o.state = 'pending') as pending, count(o.id) filter (where o.state = 'dead') as dead,
  min(o.created_at) filter (where o.state = 'pending') as oldest
from atlas.destination d left join atlas.outbox o on o.destination_id = d.id and o.state in ('pending', 'dead')
group by d.id
union all
select null, 'kept', false, 0, null, null, null, count(*), 0, min(o.created_at)
from atlas.outbox o where o.destination_id is null and o.state = 'pending' having count(*) > 0;
comment on view atlas.outbox_status is 'Each destination with its breaker and its backlog, and what is kept for want of one.';
comment on column atlas.outbox_status.destination is 'Its name; null for rows that are kept.';
comment on column atlas.outbox_status.kind is 'pubsub, webhook, or kept.';
comment on column atlas.outbox_status.enabled is 'False: nothing is sent there.';
comment on column atlas.outbox_status.failures is 'Failures in a row; three open the breaker.';
comment on column atlas.outbox_status.open_until is 'Until then nothing is sent there.';
comment on column atlas.outbox_status.last_error is 'What its last failure said.';
comment on column atlas.outbox_status.last_sent_at is 'When something last arrived there.';
comment on column atlas.outbox_status.pending is 'Rows that have yet to leave.';
comment on column atlas.outbox_status.dead is 'Rows that were rejected three times: `atlas dlq retry|skip --kind outbox`.';
comment on column atlas.outbox_status.oldest is 'When the oldest pending row was written.';

create or replace function atlas.queue_metrics() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    -- each count by the partial index of its kind
    'queued', (select count(*) from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat')
      + (select count(*) from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'control'),
    'waiting', (select count(*) from atlas.task t where t.state = 'queued' and t.wait_reason is not null),
    'running', (select count(*) from atlas.task t where t.state = 'running'),
    'dead_lettered', (select count(*) from atlas.task t where t.state = 'dead_lettered'),
    'outbox_dead', (select count(*) from atlas.outbox o where o.state = 'dead'),
    'outbox', (select coalesce(jsonb_agg(jsonb_build_object('destination', s.destination, 'pending', s.pending,
        'open', coalesce(s.open_until > now(), false),
        'oldest_seconds', coalesce(extract(epoch from now() - s.oldest), 0))), '[]')
      from atlas.outbox_status s where s.enabled or s.destination is null),
    'oldest_seconds', coalesce((select extract(epoch from now() - min(greatest(t.queued_at, t.run_after)))
      from atlas.task t where t.state = 'queued' and t.wait_reason is null and t.kind = 'chat'), 0),
    'paused', (select c.paused_at is not null from atlas.control c),
    'cache_flushed_at', (select c.cache_flushed_at from atlas.control c),
    'workers', (select count(*) from atlas.worker w where w.state <> 'stopped'
      and w.seen_at > now() - interval '2 minutes'),
    'budgets', atlas.get_budgets())
$$;

-- Signs of life of running tasks that somebody outside waits for.
alter table atlas.attempt add column progress_sent_at timestamptz;
comment on column atlas.attempt.progress_sent_at is 'When a sign of progress was last sent.';
create function atlas.report_progress(p_every interval) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  item record;
  n integer := 0;
begin
  if not exists (select from atlas.destination d where d.enabled and d.filter -> 'kind' ? 'progress') then
    return 0;
  end if;
  for item in
    update atlas.attempt a set progress_sent_at = now()
    where a.id in (
      select r.id from atlas.attempt r join atlas.task t on t.id = r.task_id and t.kind = 'chat'
      join public.architect_in i on i.id = t.in_id
      where r.state = 'running' and i.data #>> '{metadata,reply_to}' is not null
        and coalesce(r.progress_sent_at, r.started_at) < now() - p_every
      order by r.id for no key update of r skip locked)
    returning a.*
  loop
    n := n + atlas.emit('progress', jsonb_build_object('task_id', item.task_id, 'role', 'architect', 'msg_type', 'spec', 'content', '',
      'metadata', jsonb_build_object('tokens', 0, 'model', item.model, 'parent_id', null, 'status', 'in_progress', 'schema_ver', 2,
        'kind', 'progress', 'progress', jsonb_build_object('attempt', item.number,
          'seconds', extract(epoch from now() - item.started_at)::integer,
          'characters', (select coalesce(max(p."offset" + length(p.text)), 0) from atlas.reply_part p
                         where p.attempt_id = item.id and p.generation = item.generation)))), item.task_id);
  end loop;
  return n;
end
$$;
comment on function atlas.report_progress(interval) is
  'Emits how far running tasks with a reply_to have come, each at most once in so long; says how many.';

-- On Supabase realtime.messages is partitioned by day, and old partitions are dropped. On another Postgres it is a plain table
-- (atlas/local/supabase.sql) that nobody empties.
create function atlas.trim_messages(p_keep interval default interval '1 day') returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer := 0;
begin
  if (select c.relkind from pg_class c where c.oid = to_regclass('realtime.messages')) = 'r'
     and has_table_privilege('realtime.messages', 'delete') then
    delete from realtime.messages m where m.inserted_at < now() at time zone 'UTC' - p_keep;
    get diagnostics n = row_count;
  end if;
  return n;
end
$$;
comment on function atlas.trim_messages(interval) is
  'Forgets Realtime messages that are older than that, where the table is a plain one; says how many.';

grant execute on function atlas.trim_messages(interval), atlas.report_progress(interval) to service_role, atlas_worker;
grant select on atlas.outbox_status to service_role;

revoke execute on all functions in schema atlas, rag from public;
