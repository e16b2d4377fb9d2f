-- The id of a task that was trimmed is not given to another.
--
-- locks: none

create or replace function atlas.queue_messages() returns trigger
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  ids uuid[];
  details jsonb[];
begin
  with queued as (
    insert into atlas.task (id, kind, title, in_id, message_task_id, sender, sender_key, project_id, parent_id,
      priority, run_after, wait_reason)
    select case when n.data ->> 'msg_type' = 'chat' then n.task_id else atlas.new_id() end,
      n.data ->> 'msg_type',
      case when n.data ->> 'msg_type' = 'control' then atlas.control_command(n.data) ->> 'command'
           else left(split_part(btrim(n.data ->> 'content', E' \t\r\n#'), E'\n', 1), 120) end,
      n.id, n.task_id, n.sender,
      coalesce(n.sender::text, nullif('key:' || (n.data #>> '{metadata,sender_key}'), 'key:'), 'service'),
      case when n.sender is null and n.data #>> '{metadata,project}' is null
           then '00000000-0000-0000-0000-000000000001'
           else atlas.project_of(n.sender, n.data #>> '{metadata,project}') end,
      (n.data #>> '{metadata,parent_id}')::uuid,
      coalesce((n.data #>> '{metadata,priority}')::smallint, 0),
      greatest(now(), (n.data #>> '{metadata,run_after}')::timestamptz),
      case when (n.data #>> '{metadata,run_after}')::timestamptz > now() then 'scheduled' end
    from new_rows n
    where n.data ->> 'role' = 'architect' and n.data ->> 'msg_type' in ('chat', 'control')
    order by n.id
    returning id, in_id, sender_key
  )
  select array_agg(q.id), array_agg(jsonb_build_object('sender_key', q.sender_key, 'message_sha256', atlas.message_sha256(n.data)))
    into ids, details from queued q join new_rows n on n.id = q.in_id;
  if ids is null then
    return null;
  end if;
  -- its chain has ended, and its events have gone: another question under its id could not be told from it
  if exists (select from atlas.audit a where a.task_id = any (ids)) then
    raise exception using errcode = 'AT005', message = format('task %s was trimmed', (select a.task_id from atlas.audit a where a.task_id = any (ids) limit 1)),
      hint = 'ask with an id of its own, such as atlas.new_id()';
  end if;
  perform atlas.append_audits('submit_task', ids, details);
  -- commands are rare, and a worker whose slots are all busy still has some for them
  perform atlas.wake_workers(exists (select from new_rows n where n.data ->> 'msg_type' = 'control'), cardinality(ids));
  return null;
end
$$;
comment on function atlas.queue_messages() is 'Queues new messages for the architect and wakes idle workers, once a statement.';

-- 2: workers call atlas.trim_history and atlas.attempt_spend. Those of 0.4 speak 1, and go on.
create or replace function atlas.protocols() returns int4range
language sql immutable parallel safe set search_path = ''
as $$ select int4range(1, 2, '[]') $$;
comment on function atlas.protocols() is
  'Versions of the protocol that these functions serve: that of this release, and that of the release before it.';

revoke execute on all functions in schema atlas, rag from public;
