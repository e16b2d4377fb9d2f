-- The audit: append-only; the rows of a task are chained by hash; checkpoints seal what is committed for good.
--
-- A database's owner could rewrite all that is inside it. So each checkpoint carries an HMAC whose key stays outside
-- Postgres, names the one before it, and leaves by the outbox.

create table atlas.audit (
  id bigint generated always as identity primary key,
  xact xid8 not null default pg_current_xact_id(),
  task_id uuid,
  seq integer not null check (seq > 0),
  event text not null check (event <> ''),
  actor text not null,
  at timestamptz not null default now(),
  detail jsonb not null default '{}',
  prev_hash bytea,
  hash bytea not null,
  unique (task_id, seq)
);
create index audit_xact on atlas.audit (xact);
comment on table atlas.audit is 'Who did what when. Append-only; rows of a task are chained by hash. Never the text itself.';
comment on column atlas.audit.id is 'Its id.';
comment on column atlas.audit.xact is 'The transaction that wrote it; seals cover all below a snapshot.';
comment on column atlas.audit.task_id is 'The task it belongs to.';
comment on column atlas.audit.seq is 'Its place in the chain of its task, from 1.';
comment on column atlas.audit.event is 'The function that did it, such as complete_task.';
comment on column atlas.audit.actor is 'The role, and the user where there is one.';
comment on column atlas.audit.at is 'When it happened.';
comment on column atlas.audit.detail is 'What the event says of itself.';
comment on column atlas.audit.prev_hash is 'The hash of the row before it in the chain.';
comment on column atlas.audit.hash is 'sha256 over the row and the hash of the row before it (atlas.audit_hash).';
alter table atlas.audit enable row level security;
create policy "people see the audit of tasks they see" on atlas.audit for select to authenticated
  using (exists (select from atlas.task t where t.id = audit.task_id));
comment on policy "people see the audit of tasks they see" on atlas.audit is 'Row level security: people see the audit of tasks they see.';
grant select on atlas.audit to authenticated;
grant select on atlas.audit to service_role;

create table atlas.audit_checkpoint (
  id bigint generated always as identity primary key,
  upto xid8 not null unique,
  rows bigint not null check (rows >= 0),
  digest bytea not null,
  prev_mac bytea unique nulls not distinct,
  mac bytea not null check (length(mac) = 32),
  next_check bytea not null check (length(next_check) = 32),
  at timestamptz not null default now()
);
comment on table atlas.audit_checkpoint is 'Seals the audit rows of all transactions below upto, with an HMAC.';
comment on column atlas.audit_checkpoint.id is 'Its id.';
comment on column atlas.audit_checkpoint.upto is 'All transactions below this one are sealed.';
comment on column atlas.audit_checkpoint.rows is 'How many rows it seals.';
comment on column atlas.audit_checkpoint.digest is 'sha256 over the hashes of the rows since the seal before, by id.';
comment on column atlas.audit_checkpoint.prev_mac is 'The seal before; two seals cannot follow the same one.';
comment on column atlas.audit_checkpoint.mac is 'HMAC-SHA256, key outside Postgres, over upto, rows, digest and prev_mac.';
comment on column atlas.audit_checkpoint.next_check is 'sha256 of what the next sealer has to show: only who holds the key of this seal can make it.';
comment on column atlas.audit_checkpoint.at is 'When it was sealed.';
alter table atlas.audit_checkpoint enable row level security;
grant select on atlas.audit_checkpoint to service_role;

create function atlas.refuse_change() returns trigger
language plpgsql set search_path = ''
as $$
begin
  raise exception using errcode = 'AT006', message = format('%I.%I is append-only', tg_table_schema, tg_table_name),
    hint = 'write what happened as a new row';
end
$$;
comment on function atlas.refuse_change() is 'Keeps a table append-only, for its owner too.';

create trigger append_only before update or delete or truncate on atlas.audit
  for each statement execute function atlas.refuse_change();
comment on trigger append_only on atlas.audit is 'Keeps a table append-only, for its owner too.';

create trigger append_only before update or delete or truncate on atlas.audit_checkpoint
  for each statement execute function atlas.refuse_change();
comment on trigger append_only on atlas.audit_checkpoint is 'Keeps a table append-only, for its owner too.';

create function atlas.audit_hash(prev_hash bytea, task_id uuid, seq integer, event text, actor text, at timestamptz,
  detail jsonb) returns bytea
language plpgsql immutable set search_path = ''
as $$
begin
  return sha256(convert_to(concat_ws('|', coalesce(encode(prev_hash, 'hex'), '-'), coalesce(task_id::text, '-'), seq,
    event, actor, extract(epoch from at), detail::text), 'UTF8'));
end
$$;
comment on function atlas.audit_hash(bytea, uuid, integer, text, text, timestamptz, jsonb) is 'The hash of an audit row.';
grant execute on function atlas.audit_hash(bytea, uuid, integer, text, text, timestamptz, jsonb) to service_role;

-- One row of one event for each of many tasks. Callers hold the tasks' row locks, so that a chain has one writer at a time.
create function atlas.append_audits(p_event text, p_tasks uuid[], p_details jsonb[]) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_at constant timestamptz := clock_timestamp();
  v_actor constant text := atlas.actor();
begin
  insert into atlas.audit (task_id, seq, event, actor, at, detail, prev_hash, hash)
  select i.task, coalesce(l.seq, 0) + 1, p_event, v_actor, v_at, i.detail, l.hash,
    atlas.audit_hash(l.hash, i.task, coalesce(l.seq, 0) + 1, p_event, v_actor, v_at, i.detail)
  from unnest(p_tasks, p_details) as i (task, detail)
  left join lateral (
    select a.seq, a.hash from atlas.audit a where a.task_id = i.task order by a.seq desc limit 1) l on true;
end
$$;
comment on function atlas.append_audits(text, uuid[], jsonb[]) is
  'Appends a row of one event to the chain of each task; a null task belongs to no chain. Internal.';

create function atlas.append_audit(p_task uuid, p_event text, p_detail jsonb default '{}') returns void
language sql security definer set search_path = ''
as $$ select atlas.append_audits(p_event, array[p_task], array[p_detail]) $$;
comment on function atlas.append_audit(uuid, text, jsonb) is 'Appends one row to a task''s chain, or to none. Internal.';

-- What the next seal covers. The caller computes the HMAC over it and hands it to seal_audit in one transaction.
create function atlas.audit_digest() returns table (upto xid8, rows bigint, digest bytea, prev_mac bytea)
language plpgsql security definer set search_path = ''
as $$
declare
  last record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('atlas.audit_checkpoint', 0)) then
    return;
  end if;
  select c.upto, c.mac into last from atlas.audit_checkpoint c order by c.id desc limit 1;
  upto := pg_snapshot_xmin(pg_current_snapshot());
  prev_mac := last.mac;
  select count(*), sha256(coalesce(string_agg(a.hash, ''::bytea order by a.id), ''::bytea)) into rows, digest
  from atlas.audit a
  where a.xact < audit_digest.upto and (last.upto is null or a.xact >= last.upto);
  if rows > 0 then
    return next;
  end if;
end
$$;
comment on function atlas.audit_digest() is 'What is new since the last seal; no row when nothing is, or another seals.';
grant execute on function atlas.audit_digest() to service_role, atlas_worker;

-- Postgres cannot check a MAC without its key. It can check that a seal comes from whoever made the one before: each leaves the
-- hash of a secret that its key alone makes, and the next one shows the secret.
create function atlas.seal_audit(p_upto xid8, p_rows bigint, p_digest bytea, p_prev_mac bytea, p_mac bytea, p_proof bytea,
  p_next_check bytea)
returns void
language plpgsql security definer set search_path = ''
as $$
begin
  -- what is sealed must be what is there: a caller's word is not enough
  if not exists (select from atlas.audit_digest() d where (d.upto, d.rows, d.digest) = (p_upto, p_rows, p_digest)
                 and d.prev_mac is not distinct from p_prev_mac) then
    raise exception using errcode = 'AT005', message = 'seal_audit: this is not what audit_digest() says now',
      hint = 'take the digest and seal it in one transaction, repeatable read';
  end if;
  if exists (select from (select c.* from atlas.audit_checkpoint c order by c.id desc limit 1) last
             where last.next_check is distinct from sha256(p_proof)
               and not exists (select from atlas.audit a where a.xact >= last.upto and a.event = 'renew_audit_key')) then
    raise exception using errcode = 'AT006', message = 'seal_audit: the seal before was made with another key',
      hint = 'set the ATLAS_AUDIT_KEY that made it, or as an operator `select atlas.renew_audit_key()`';
  end if;
  insert into atlas.audit_checkpoint (upto, rows, digest, prev_mac, mac, next_check)
  values (p_upto, p_rows, p_digest, p_prev_mac, p_mac, p_next_check);
  perform atlas.emit('audit_seal', jsonb_build_object('upto', p_upto::text, 'rows', p_rows,
    'digest', encode(p_digest, 'hex'), 'mac', encode(p_mac, 'hex'), 'prev_mac', encode(p_prev_mac, 'hex')));
end
$$;
comment on function atlas.seal_audit(xid8, bigint, bytea, bytea, bytea, bytea, bytea) is
  'Stores a seal, and sends it out by the outbox. p_proof: what the seal before left the hash of; p_next_check: the next one''s.';
grant execute on function atlas.seal_audit(xid8, bigint, bytea, bytea, bytea, bytea, bytea) to service_role, atlas_worker;

create function atlas.renew_audit_key() returns void
language sql security definer set search_path = ''
as $$ select atlas.append_audit(null, 'renew_audit_key') $$;
comment on function atlas.renew_audit_key() is 'The next seal may be made with another key: for operators, when the key is renewed or lost.';
grant execute on function atlas.renew_audit_key() to service_role;

create function atlas.message_sha256(p_data jsonb) returns text
language plpgsql immutable parallel safe set search_path = ''
as $$
begin
  return encode(sha256(convert_to(p_data::text, 'UTF8')), 'hex');
end
$$;
comment on function atlas.message_sha256(jsonb) is 'The SHA-256 of a whole message, as Postgres writes it, in hexadecimal. Internal.';

create function atlas.verify_audit() returns table (problem text, task_id uuid, audit_id bigint)
language sql stable security definer set search_path = ''
as $$
  select 'hash does not fit the row', a.task_id, a.id from atlas.audit a
  where a.hash <> atlas.audit_hash(a.prev_hash, a.task_id, a.seq, a.event, a.actor, a.at, a.detail)
  union all
  select 'chain is broken before this row', c.task_id, c.id
  from (select a.*, lag(a.hash) over w as earlier, lag(a.seq) over w as earlier_seq from atlas.audit a
        where a.task_id is not null window w as (partition by a.task_id order by a.seq)) c
  where c.prev_hash is distinct from c.earlier or c.seq <> coalesce(c.earlier_seq, 0) + 1
  union all
  select 'seal ' || s.id || ' does not fit its rows', null, null
  from (select c.id, c.digest, c.rows, c.upto, lag(c.upto) over (order by c.id) as since from atlas.audit_checkpoint c) s
  cross join lateral (
    select count(*) as rows, sha256(coalesce(string_agg(a.hash, ''::bytea order by a.id), ''::bytea)) as digest
    from atlas.audit a where a.xact < s.upto and (s.since is null or a.xact >= s.since)) n
  where n.rows <> s.rows or n.digest <> s.digest
  union all
  -- what people read against what was completed: who owns the database can change the one without the other
  select 'the reply is not the one that was completed', t.id, a.id
  from atlas.task t
  join lateral (select x.id, x.detail from atlas.audit x where x.task_id = t.id and x.event = 'complete_task'
                order by x.seq desc limit 1) a on a.detail ? 'message_sha256'
  left join public.architect_out o on o.id = t.out_id
  where t.state = 'completed' and t.title <> '[erased]' and (o.task_id is distinct from t.message_task_id
    or a.detail ->> 'message_sha256' is distinct from atlas.message_sha256(o.data))
  union all
  select 'the message is not the one that was submitted', t.id, a.id
  from atlas.task t
  join atlas.audit a on a.task_id = t.id and a.seq = 1 and a.event = 'submit_task' and a.detail ? 'message_sha256'
  left join public.architect_in i on i.id = t.in_id
  where t.title <> '[erased]' and a.detail ->> 'message_sha256' is distinct from atlas.message_sha256(i.data)
$$;
comment on function atlas.verify_audit() is
  'Every broken hash, chain or seal, and every message that is not the one that was submitted, or completed. The HMACs are checked where the key is.';
grant execute on function atlas.verify_audit() to service_role;

-- One worker of the fleet checks the newest rows at a time; the others read what it found. All of it: atlas.verify_audit().
create function atlas.watch_audit(p_every interval default interval '15 minutes', p_rows integer default 100000) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  update atlas.control c set audit_checked_at = now()
  where c.audit_checked_at is null or c.audit_checked_at < now() - p_every;
  if found then
    update atlas.control set audit_broken = (
      select count(*) from (select a.* from atlas.audit a order by a.id desc limit least(p_rows, 1000000)) n
      left join lateral (
        select a.hash from atlas.audit a where a.task_id = n.task_id and a.seq = n.seq - 1 limit 1) earlier on true
      where n.hash <> atlas.audit_hash(n.prev_hash, n.task_id, n.seq, n.event, n.actor, n.at, n.detail)
        or (n.task_id is not null and (n.prev_hash is distinct from earlier.hash or (n.seq > 1 and earlier.hash is null))));
  end if;
  return (select c.audit_broken from atlas.control c);
end
$$;
comment on function atlas.watch_audit(interval, integer) is
  'Checks the newest rows of the audit, unless a worker has done so lately; says how many do not fit the one before, or their hash.';
grant execute on function atlas.watch_audit(interval, integer) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
