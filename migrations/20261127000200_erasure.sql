-- Erasing: what people wrote goes, everywhere; ids, states, amounts and hashes stay, and the audit verifies after it.
--
-- locks: none

-- those that 0.4 erased
update atlas.task t set erased_at = now()
where t.title = '[erased]' and exists (select from atlas.audit a where a.task_id = t.id and a.event = 'erase');

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

-- Names of fields stay where Atlas gives them their meaning, and goes on to use them; any other may hold anything.
create function atlas.without_texts(p_data jsonb) returns jsonb
language sql immutable parallel safe set search_path = ''
as $$
  select jsonb_strip_nulls(jsonb_build_object('task_id', p_data -> 'task_id', 'role', p_data -> 'role', 'msg_type', p_data -> 'msg_type',
    'content', '[erased]', 'metadata', (
      select coalesce(jsonb_object_agg(m.key, m.value), '{}')
      from jsonb_each(case jsonb_typeof(p_data -> 'metadata') when 'object' then p_data -> 'metadata' else '{}' end) m
      where m.key in ('status', 'schema_ver', 'parent_id', 'priority', 'run_after', 'completion_window', 'project', 'reply_to', 'sender_key')
        or (p_data ->> 'msg_type' = 'spec' and m.key in ('tokens', 'model', 'usage', 'kind', 'truncated', 'chunk', 'traceparent')))))
$$;
comment on function atlas.without_texts(jsonb) is 'A message without what people or models wrote in it. Internal.';

create function atlas.erase_texts(p_tasks uuid[]) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  -- a command is answered under the id of the question that it names, whose messages are another task's
  v_chats constant uuid[] := array(select t.id from atlas.task t where t.id = any (p_tasks) and t.kind = 'chat');
  v_out constant bigint[] := array(
    select t.out_id from atlas.task t where t.id = any (p_tasks) and t.out_id is not null
    union select o.id from public.architect_out o where o.task_id = any (v_chats) and o.data ->> 'msg_type' = 'spec');
begin
  delete from atlas.reply_part p where p.task_id = any (p_tasks);
  update public.architect_in i set data = atlas.without_texts(i.data)
  from atlas.task t where t.id = any (p_tasks) and i.id = t.in_id;
  update public.architect_out o set data = atlas.without_texts(o.data) where o.id = any (v_out);
  -- an export of what is gone would fail where it arrives
  update atlas.outbox o set payload = jsonb_strip_nulls(jsonb_build_object('task_id', o.task_id, 'erased', true)), last_error = null,
    state = case when o.state in ('pending', 'dead') then 'skipped' else o.state end, lease_owner = null, lease_expires_at = null
  where o.task_id = any (v_chats) and o.payload is not null;
  update atlas.outbox o set last_error = null where o.out_id = any (v_out) and o.last_error is not null;
  update atlas.attempt a set error_message = case when a.error_message is not null then '[erased]' end, late_text = null
  where a.task_id = any (p_tasks) and (a.error_message is not null or a.late_text is not null);
  update atlas.task t set title = '[erased]', erased_at = now(),
    error_message = case when t.error_message is not null then '[erased]' end
  where t.id = any (p_tasks);
  delete from rag.cache c where c.task_id = any (p_tasks);
  delete from rag.citation c where c.task_id = any (p_tasks);
  delete from atlas.rejected_message r where atlas.as_uuid(r.payload ->> 'task_id') = any (v_chats);
  -- Supabase's own table is partitioned, owned by its Realtime, and emptied within three days
  if (select c.relkind from pg_class c where c.oid = to_regclass('realtime.messages')) = 'r'
     and has_table_privilege('realtime.messages', 'delete') then
    delete from realtime.messages m where m.topic = any (array(select 'task:' || x from unnest(p_tasks) x));
  end if;
  perform atlas.append_audits('erase', p_tasks, array_fill(jsonb '{}', array[cardinality(p_tasks)]));
end
$$;
comment on function atlas.erase_texts(uuid[]) is
  'Removes the texts of ended tasks: messages, parts, errors, cached searches, events. Internal: the caller holds the tasks.';

create or replace function atlas.erase(p_task_id uuid) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  task atlas.task;
begin
  select t.* into task from atlas.task t where t.id = p_task_id for no key update;
  if not found then
    -- a decision outlasts its task
    if atlas.erase_decisions(array[p_task_id]) > 0 then
      return;
    end if;
    raise exception using errcode = 'AT004', message = format('no task %s', p_task_id), hint = 'see atlas.task_history';
  end if;
  if task.finished_at is null then
    raise exception using errcode = 'AT005', message = format('task %s is %s', p_task_id, task.state),
      hint = 'cancel it first, or wait for its end';
  end if;
  perform atlas.erase_texts(array[p_task_id]);
  perform atlas.erase_decisions(array[p_task_id]);
end
$$;
comment on function atlas.erase(uuid) is 'Removes the texts of an ended task for good: question, reply, parts, title, caches, and the decision on it.';

-- From one place to the next, so that what is erased already is not read again at each batch.
create function atlas.erase_sender(p_sender_key text, p_after timestamptz default '-infinity', p_limit integer default 200)
returns table (erased integer, next timestamptz, unfinished integer)
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_limit constant integer := least(greatest(p_limit, 1), 1000);
  v_tasks uuid[];
begin
  select max(x.queued_at), array_agg(x.id) filter (where x.erased_at is null and x.finished_at is not null) into next, v_tasks
  from (
    select t.id, t.queued_at, t.erased_at, t.finished_at from atlas.task t
    where t.sender_key = p_sender_key and t.queued_at > p_after
    -- those that were asked in one statement have one time
    order by t.queued_at fetch first v_limit rows with ties) x;
  if v_tasks is not null then
    -- one that was queued again since keeps its text
    v_tasks := array(select t.id from atlas.task t where t.id = any (v_tasks) and t.finished_at is not null order by t.id for no key update);
    perform atlas.erase_texts(v_tasks);
    perform atlas.erase_decisions(v_tasks);
  end if;
  erased := coalesce(cardinality(v_tasks), 0);
  if next is null then
    erased := atlas.erase_others(p_sender_key, v_limit) + atlas.erase_decisions(array(
      select d.task_id from atlas.decision d where d.asked_by = p_sender_key and d.content <> '[erased]'));
    if erased = 0 and not exists (select from atlas.task t where t.sender_key = p_sender_key) and p_after = '-infinity'
       and not exists (select from atlas.decision d where d.asked_by = p_sender_key)
       and not exists (select from public.architect_in i where i.data ->> 'role' <> 'architect' and atlas.sender_of(i) = p_sender_key) then
      raise exception using errcode = 'AT004', message = format('nothing was sent by %L', p_sender_key),
        hint = 'see `atlas spend --by sender`';
    end if;
    select count(*) into unfinished from atlas.task t where t.sender_key = p_sender_key and t.finished_at is null;
  end if;
  return next;
end
$$;
comment on function atlas.erase_sender(text, timestamptz, integer) is
  'Removes the texts of a sender''s ended tasks, some at a time: how many it erased, and after which time to go on. Where next is null, the
tasks are done: then messages of other roles go, and unfinished says how many tasks have not ended.';
grant execute on function atlas.erase_sender(text, timestamptz, integer) to service_role;

create function atlas.sender_of(p_message public.architect_in) returns text
language sql stable parallel safe set search_path = ''
as $$ select coalesce(p_message.sender::text, 'key:' || (p_message.data #>> '{metadata,sender_key}'), 'service') $$;
comment on function atlas.sender_of(public.architect_in) is 'The sender''s key of a message. Internal.';

create function atlas.erase_others(p_sender_key text, p_limit integer) returns integer
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  n integer;
begin
  update public.architect_in i set data = atlas.without_texts(i.data)
  where i.id in (select o.id from public.architect_in o
    where o.data ->> 'role' <> 'architect' and o.data ->> 'content' is distinct from '[erased]' and atlas.sender_of(o) = p_sender_key
    order by o.id limit p_limit);
  get diagnostics n = row_count;
  -- what was never taken says itself who sent it
  delete from atlas.rejected_message r
  where p_sender_key in (r.payload #>> '{metadata,sender_key}', 'key:' || (r.payload #>> '{metadata,sender_key}'));
  return n;
end
$$;
comment on function atlas.erase_others(text, integer) is
  'Removes a sender''s messages of other roles, and those that broke the contract; says how many of the former. Internal.';

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
