-- The audit of a restored copy goes on. Seals cover transactions by their numbers, and a copy in another server counts from its own: there
-- a base is added, so that what is written next comes after what was copied.
--
-- locks: none

create function atlas.xact_base() returns bigint
language sql stable parallel safe set search_path = ''
as $$ select 0::bigint $$;
comment on function atlas.xact_base() is
  'What is added to the numbers of this server''s transactions in the audit; atlas.continue_audit() replaces it in a restored copy. Internal.';
comment on column atlas.audit.xact is 'The transaction that wrote it, plus atlas.xact_base(); seals cover all below a snapshot.';

create function atlas.ended_xacts() returns xid8
language sql stable set search_path = ''
as $$ select (pg_snapshot_xmin(pg_current_snapshot())::text::bigint + atlas.xact_base())::text::xid8 $$;
comment on function atlas.ended_xacts() is 'All transactions of the audit below this one are over.';
grant execute on function atlas.ended_xacts() to service_role;

create function atlas.continue_audit() returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_last bigint;
  v_next bigint;
  v_base bigint;
  v_copied bigint;
begin
  select greatest((select max(a.xact::text::bigint) from (select x.xact from atlas.audit x order by x.xact desc limit 1) a),
    (select c.upto::text::bigint from atlas.audit_checkpoint c order by c.id desc limit 1)) into v_last;
  -- read after what it is compared with: a server's own numbers never pass those of its transactions, this one's included
  v_next := greatest(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, coalesce(pg_current_xact_id_if_assigned()::text::bigint, 0) + 1);
  if v_last is null or v_last < v_next + atlas.xact_base() then
    return false;
  end if;
  lock table atlas.audit in access exclusive mode;
  -- what was written here before anybody noticed is counted again, after all that was copied
  select max(a.id) into v_copied from atlas.audit a where a.xact::text::bigint >= v_next + atlas.xact_base();
  select v_last + 1 - least(pg_snapshot_xmin(pg_current_snapshot())::text::bigint, min(a.xact::text::bigint) - atlas.xact_base())
  into v_base from atlas.audit a where a.id > v_copied;
  alter table atlas.audit disable trigger append_only;
  update atlas.audit a set xact = (a.xact::text::bigint - atlas.xact_base() + v_base)::text::xid8 where a.id > v_copied;
  alter table atlas.audit enable trigger append_only;
  execute format($q$create or replace function atlas.xact_base() returns bigint language sql stable parallel safe set search_path = ''
    as $f$ select %s::bigint $f$ $q$, v_base);
  -- as a constant: plans that write the audit are made anew, and nothing is looked up for a row
  execute format('alter table atlas.audit alter column xact set default ((pg_current_xact_id()::text::bigint + %s)::text::xid8)', v_base);
  perform atlas.append_audit(null, 'continue_audit');
  return true;
end
$$;
comment on function atlas.continue_audit() is
  'In a copy that was restored in another server: lets the audit go on after what was copied. Says whether it had to; else it changes nothing.';
grant execute on function atlas.continue_audit() to service_role;

create or replace function atlas.audit_digest() returns table (upto xid8, rows bigint, digest bytea, prev_mac bytea)
language plpgsql security definer set search_path = ''
as $$
declare
  last record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('atlas.audit_checkpoint', 0)) then
    return;
  end if;
  if atlas.continue_audit() then
    return;
  end if;
  select c.upto, c.mac into last from atlas.audit_checkpoint c order by c.id desc limit 1;
  upto := atlas.ended_xacts();
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

create function atlas.cancel_copy(p_task uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task for no key update;
  if task.finished_at is null then
    perform atlas.end_task(task, 'cancelled', 'cancelled', 'its original went on elsewhere', '{}');
  end if;
  -- receivers know the task from the original, whose word counts
  update atlas.outbox o set state = 'skipped'
  where o.state = 'pending' and o.out_id = (select t.out_id from atlas.task t where t.id = p_task);
end
$$;
comment on function atlas.cancel_copy(uuid) is
  'Cancels a task of a restored copy that its original continued: nothing is sent of it, and nobody is asked to stop.';
grant execute on function atlas.cancel_copy(uuid) to service_role;

revoke execute on all functions in schema atlas, rag from public;
