-- What operators do with the queue as a whole, and with the texts of a task.

create function atlas.pause(p_reason text default null) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update atlas.control set paused_at = coalesce(paused_at, now()), paused_by = atlas.actor(), reason = p_reason;
  perform atlas.append_audit(null, 'pause', jsonb_build_object('reason', p_reason));
end
$$;
comment on function atlas.pause(text) is 'Stops claims of questions; running ones finish, control messages go on.';
grant execute on function atlas.pause(text) to service_role, atlas_worker;

create function atlas.resume() returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update atlas.control set paused_at = null, paused_by = null, reason = null;
  perform atlas.append_audit(null, 'resume', '{}');
  perform atlas.wake_workers();
end
$$;
comment on function atlas.resume() is 'Lets workers claim questions again.';
grant execute on function atlas.resume() to service_role, atlas_worker;

create function atlas.flush_cache() returns void
language plpgsql security definer set search_path = ''
as $$
begin
  delete from rag.cache;
  update atlas.control set cache_flushed_at = clock_timestamp();
  perform atlas.append_audit(null, 'flush_cache', '{}');
end
$$;
comment on function atlas.flush_cache() is 'Makes every worker drop what it cached of the team''s knowledge.';
grant execute on function atlas.flush_cache() to service_role, atlas_worker;

-- Removes what people wrote; states, spend and the audit (which holds hashes only) stay.
create function atlas.erase(p_task_id uuid) returns void
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
  delete from atlas.reply_part p where p.task_id = p_task_id;
  update public.architect_in i set data = i.data || '{"content": "[erased]"}' where i.id = task.in_id;
  update public.architect_out o set data = jsonb_set(o.data || '{"content": "[erased]"}', '{metadata}',
    (o.data -> 'metadata') - 'sources' - 'error' - 'warnings') where o.task_id = task.message_task_id;
  update atlas.attempt a set error_message = case when a.error_message is not null then '[erased]' end, late_text = null
  where a.task_id = p_task_id and (a.error_message is not null or a.late_text is not null);
  update atlas.task t set title = '[erased]', error_message = case when t.error_message is not null then '[erased]' end
  where t.id = p_task_id;
  perform atlas.append_audit(p_task_id, 'erase', '{}');
end
$$;
comment on function atlas.erase(uuid) is 'Removes the texts of an ended task for good: question, reply, parts, title.';
grant execute on function atlas.erase(uuid) to service_role;

revoke execute on all functions in schema atlas, rag from public;
