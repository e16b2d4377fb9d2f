-- Erasing: what people wrote goes, everywhere; ids, states, amounts and hashes stay, and the audit verifies after it.
--
-- locks: rag.cache AccessExclusiveLock, atlas.task ShareLock: an index is built over atlas.task, some 2 s a million tasks; until
-- locks: then questions wait

-- What was found for a question is kept under a hash of it; the task says whose it was.
alter table rag.cache add column task_id uuid;
comment on column rag.cache.task_id is 'The task whose search it was, the latest one.';
create index cache_task on rag.cache (task_id);

create index task_unerased on atlas.task (queued_at) where title <> '[erased]';

create or replace function rag.remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  delete from rag.cache c where c.key in (
    select o.key from rag.cache o where o.created_at < now() - interval '7 days' order by o.created_at limit 20
    for update skip locked);
  insert into rag.cache as c (key, epoch, hits, task_id)
  select rag.cache_key(p_query, p_settings, allowed.projects), p_epoch, coalesce(found.hits, '[]'), p_task
  from (select rag.projects_of(p_task) as projects) allowed
  cross join lateral (
    select jsonb_agg(jsonb_build_object('document', k.document_id, 'passage', k.passage_id, 'similarity', i.item -> 'similarity',
      'similarity_kind', i.item -> 'similarity_kind', 'score', i.item -> 'score') order by i.place) as hits
    from jsonb_array_elements(p_chunks) with ordinality as i (item, place)
    join rag.chunk k on k.id = (i.item ->> 'chunk_id')::bigint) found
  -- what was found while the index changed belongs to the state before
  where p_epoch = rag.index_epoch(allowed.projects)
  on conflict (key) do update set epoch = excluded.epoch, hits = excluded.hits, task_id = excluded.task_id, created_at = now();
end
$$;
comment on function rag.remember(uuid, text, text, text, jsonb) is 'Keeps what was found for a task''s question.';

create function atlas.erase_texts(p_tasks uuid[]) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_messages constant uuid[] := array(select t.message_task_id from atlas.task t where t.id = any (p_tasks));
begin
  delete from atlas.reply_part p where p.task_id = any (p_tasks);
  update public.architect_in i set data = jsonb_set(i.data || '{"content": "[erased]"}', '{metadata}', (
    select coalesce(jsonb_object_agg(m.key, m.value), '{}') from jsonb_each(i.data -> 'metadata') m where left(m.key, 2) <> 'x_'))
  from atlas.task t where t.id = any (p_tasks) and i.id = t.in_id;
  update public.architect_out o set data = jsonb_set(o.data || '{"content": "[erased]"}', '{metadata}',
    (o.data -> 'metadata') - 'sources' - 'error' - 'warnings') where o.task_id = any (v_messages);
  -- an export of what is gone would fail where it arrives
  update atlas.outbox o set payload = jsonb_strip_nulls(jsonb_build_object('task_id', o.task_id, 'erased', true)), last_error = null,
    state = 'skipped', lease_owner = null, lease_expires_at = null
  where o.task_id = any (v_messages) and o.payload is not null and o.state in ('pending', 'dead');
  update atlas.attempt a set error_message = case when a.error_message is not null then '[erased]' end, late_text = null
  where a.task_id = any (p_tasks) and (a.error_message is not null or a.late_text is not null);
  update atlas.task t set title = '[erased]', error_message = case when t.error_message is not null then '[erased]' end
  where t.id = any (p_tasks);
  delete from rag.cache c where c.task_id = any (p_tasks);
  delete from rag.citation c where c.task_id = any (p_tasks);
  delete from atlas.rejected_message r where atlas.as_uuid(r.payload ->> 'task_id') = any (v_messages);
  -- Supabase's own table is partitioned, owned by its Realtime, and emptied within three days
  if (select c.relkind from pg_class c where c.oid = to_regclass('realtime.messages')) = 'r'
     and has_table_privilege('realtime.messages', 'delete') then
    delete from realtime.messages m where m.topic = any (array(select 'task:' || x from unnest(p_tasks) x));
  end if;
  perform atlas.append_audits('erase', p_tasks, array_fill(jsonb '{}', array[cardinality(p_tasks)]));
end
$$;
comment on function atlas.erase_texts(uuid[]) is
  'Removes the texts of ended tasks: messages, parts, errors, cached searches, events that were not sent. Internal: the caller holds the tasks.';

create or replace function atlas.erase(p_task_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id), hint = 'see atlas.task_history';
  end if;
  if task.finished_at is null then
    raise exception using errcode = 'AT005', message = format('task %s is %s', p_task_id, task.state),
      hint = 'cancel it first, or wait for its end';
  end if;
  perform atlas.erase_texts(array[p_task_id]);
end
$$;
comment on function atlas.erase(uuid) is 'Removes the texts of an ended task for good: question, reply, parts, title, caches.';

create function atlas.erase_sender(p_sender_key text, p_limit integer default 200)
returns table (erased integer, left_over integer, unfinished integer)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set jit = off
as $$
declare
  v_tasks constant uuid[] := array(
    select t.id from atlas.task t where t.sender_key = p_sender_key and t.finished_at is not null and t.title <> '[erased]'
    order by t.id limit least(greatest(p_limit, 1), 1000) for no key update);
begin
  if cardinality(v_tasks) > 0 then
    perform atlas.erase_texts(v_tasks);
    erased := cardinality(v_tasks);
  else
    -- messages of other roles are nobody's task
    update public.architect_in i set data = jsonb_set(i.data || '{"content": "[erased]"}', '{metadata}',
      jsonb_strip_nulls(jsonb_build_object('sender_key', i.data #> '{metadata,sender_key}')))
    where coalesce(i.sender::text, 'key:' || (i.data #>> '{metadata,sender_key}')) = p_sender_key
      and i.data ->> 'content' <> '[erased]' and not exists (select from atlas.task t where t.id = i.task_id);
    get diagnostics erased = row_count;
  end if;
  if erased = 0 and not exists (select from atlas.task t where t.sender_key = p_sender_key)
     and not exists (select from public.architect_in i
                     where coalesce(i.sender::text, 'key:' || (i.data #>> '{metadata,sender_key}')) = p_sender_key) then
    raise exception using errcode = 'AT004', message = format('nothing was sent by %L', p_sender_key),
      hint = 'see `atlas spend --by sender`';
  end if;
  select count(*) filter (where t.finished_at is not null), count(*) filter (where t.finished_at is null) into left_over, unfinished
  from atlas.task t where t.sender_key = p_sender_key and t.title <> '[erased]';
  return next;
end
$$;
comment on function atlas.erase_sender(text, integer) is
  'Removes the texts of a sender''s ended tasks, some at a time, and then of their messages of other roles: how many it erased, how many
ended tasks are left, and how many have not ended.';
grant execute on function atlas.erase_sender(text, integer) to service_role;

-- A text that disappeared without an entry in the chain is a finding, and so is a task.
create or replace function atlas.verify_audit() returns table (problem text, task_id uuid, audit_id bigint)
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
  where t.state = 'completed' and (o.task_id is distinct from t.message_task_id
    or a.detail ->> 'message_sha256' is distinct from atlas.message_sha256(o.data))
    and not exists (select from atlas.audit x where x.task_id = t.id and x.event = 'erase')
  union all
  select 'the message is not the one that was submitted', t.id, a.id
  from atlas.task t
  join atlas.audit a on a.task_id = t.id and a.seq = 1 and a.event = 'submit_task' and a.detail ? 'message_sha256'
  left join public.architect_in i on i.id = t.in_id
  where a.detail ->> 'message_sha256' is distinct from atlas.message_sha256(i.data)
    and not exists (select from atlas.audit x where x.task_id = t.id and x.event = 'erase')
  union all
  select 'the task is gone, and no trim_task says so', a.task_id, a.id
  from atlas.audit a
  where a.seq = 1 and a.task_id is not null and a.event = 'submit_task' and not exists (select from atlas.task t where t.id = a.task_id)
    and not exists (select from atlas.audit x where x.task_id = a.task_id and x.event = 'trim_task')
$$;
comment on function atlas.verify_audit() is
  'Every broken hash, chain or seal, and every message that is not the one that was submitted, or completed. The HMACs are checked where the key is.';

revoke execute on all functions in schema atlas, rag from public;
