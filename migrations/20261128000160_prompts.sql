-- Prompts: what a model was asked, exactly, with the version of the prompts, the parameters and the texts of its sources; kept with the
-- attempt until the task is trimmed or erased. Texts that many prompts share are kept once; the audit holds the hash of each prompt.
--
-- locks: atlas.task ShareRowExclusiveLock, atlas.attempt ShareRowExclusiveLock: changes of the catalog alone

create table atlas.prompt_text (
  sha256 bytea primary key check (length(sha256) = 32),
  text text not null,
  seen_at timestamptz not null default now()
);
comment on table atlas.prompt_text is 'Instructions and passages of prompts, once each by their hash.';
comment on column atlas.prompt_text.sha256 is 'SHA-256 of the text in UTF-8.';
comment on column atlas.prompt_text.text is 'The text.';
comment on column atlas.prompt_text.seen_at is 'When a prompt last had it, give or take a day.';
alter table atlas.prompt_text enable row level security;
grant select on atlas.prompt_text to service_role;

create table atlas.prompt (
  attempt_id uuid not null references atlas.attempt (id) on delete cascade,
  call integer not null check (call >= 0),
  task_id uuid not null references atlas.task (id) on delete cascade,
  model text not null,
  version text not null,
  parameters jsonb not null,
  body jsonb not null,
  sources jsonb not null,
  texts bytea[] not null,
  sha256 bytea not null check (length(sha256) = 32),
  made_at timestamptz not null default now(),
  primary key (attempt_id, call)
);
create index prompt_task on atlas.prompt (task_id);
comment on table atlas.prompt is 'What a model was asked in each call. atlas.read_prompts puts the texts together.';
comment on column atlas.prompt.attempt_id is 'The attempt.';
comment on column atlas.prompt.call is 'The call of the attempt, from 0.';
comment on column atlas.prompt.task_id is 'The task.';
comment on column atlas.prompt.model is 'The model.';
comment on column atlas.prompt.version is 'The version of the prompts.';
comment on column atlas.prompt.parameters is 'Kind of reply, output limit, effort, service tier, JSON Schema.';
comment on column atlas.prompt.body is 'Instructions and turns, [[role, [piece]]]: a piece is text, or {"sha256"} of atlas.prompt_text.';
comment on column atlas.prompt.sources is 'What the sources are called in it, and where they stand.';
comment on column atlas.prompt.texts is 'The hashes of its shared texts.';
comment on column atlas.prompt.sha256 is 'The hash of the whole, as the audit has it.';
comment on column atlas.prompt.made_at is 'When it was sent.';
alter table atlas.prompt enable row level security;
grant select on atlas.prompt to service_role;

create function atlas.keep_prompts(p_items jsonb) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_tasks uuid[];
  v_details jsonb[];
begin
  insert into atlas.prompt_text as t (sha256, text)
  select distinct on (1) decode(s.key, 'hex'), s.value #>> '{}'
  from jsonb_array_elements(p_items) i cross join lateral jsonb_each(i -> 'texts') s order by 1
  on conflict (sha256) do update set seen_at = now() where t.seen_at < now() - interval '12 hours';
  with kept as (
    insert into atlas.prompt (attempt_id, call, task_id, model, version, parameters, body, sources, texts, sha256)
    select a.id, (i ->> 'call')::integer, a.task_id, i ->> 'model', i ->> 'version', i -> 'parameters', i -> 'body', i -> 'sources',
      array(select decode(k, 'hex') from jsonb_object_keys(i -> 'texts') k), decode(i ->> 'sha256', 'hex')
    from jsonb_array_elements(p_items) i join atlas.attempt a on a.id = (i ->> 'attempt_id')::uuid
    on conflict (attempt_id, call) do nothing
    returning task_id, call, sha256
  )
  select array_agg(k.task_id order by k.task_id, k.call),
    array_agg(jsonb_build_object('call', k.call, 'sha256', encode(k.sha256, 'hex')) order by k.task_id, k.call) into v_tasks, v_details from kept k;
  if v_tasks is not null then
    perform atlas.append_audits('keep_prompt', v_tasks, v_details);
  end if;
end
$$;
comment on function atlas.keep_prompts(jsonb) is
  'Keeps prompts before they are sent: [{"attempt_id", "call", "model", "version", "parameters", "body", "sources", "texts", "sha256"}].';
grant execute on function atlas.keep_prompts(jsonb) to service_role, atlas_worker;

create function atlas.prompt_turns(p_body jsonb) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_array(turn.one -> 0, (
      select string_agg(case jsonb_typeof(piece.one) when 'string' then piece.one #>> '{}'
        else coalesce((select t.text from atlas.prompt_text t where t.sha256 = decode(piece.one ->> 'sha256', 'hex')), '') end, '' order by piece.place)
      from jsonb_array_elements(turn.one -> 1) with ordinality as piece (one, place))) order by turn.place), '[]')
  from jsonb_array_elements(p_body) with ordinality as turn (one, place)
$$;
comment on function atlas.prompt_turns(jsonb) is 'The turns of a prompt with all their text: [[role, text]]. Internal.';

create function atlas.read_prompts(p_task uuid) returns table (attempt integer, call integer, model text, version text, parameters jsonb, turns jsonb,
  sources jsonb, sha256 text, made_at timestamptz)
language plpgsql stable security definer set search_path = ''
as $$
begin
  if not (atlas.is_service() or atlas.owns_task(p_task)) then
    raise exception using errcode = 'AT004', message = format('no task %s', p_task), hint = 'see `atlas tasks` or atlas.task_history for the ids';
  end if;
  return query
  select a.number, p.call, p.model, p.version, p.parameters, atlas.prompt_turns(p.body), p.sources, encode(p.sha256, 'hex'), p.made_at
  from atlas.prompt p join atlas.attempt a on a.id = p.attempt_id join atlas.task t on t.id = p.task_id
  where p.task_id = p_task
    -- passages are of the project: who has left it reads none
    and (p.sources = '[]' or atlas.is_service() or t.project_id in (select atlas.my_projects()))
  order by a.number, p.call;
end
$$;
comment on function atlas.read_prompts(uuid) is 'What models were asked for a task, whole: [[role, text]] beginning with the instructions. For who may read the task.';
grant execute on function atlas.read_prompts(uuid) to authenticated, service_role;

create function atlas.get_prompt(p_task uuid, p_for uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object('model', p.model, 'version', p.version, 'parameters', p.parameters, 'turns', atlas.prompt_turns(p.body), 'sources', (
    select coalesce(jsonb_agg(s.one || jsonb_build_object('text', t.text) order by s.place), '[]')
    from jsonb_array_elements(p.sources) with ordinality as s (one, place) left join atlas.prompt_text t on t.sha256 = decode(s.one ->> 'text_sha256', 'hex')))
  from atlas.prompt p join atlas.attempt a on a.id = p.attempt_id
  where p.task_id = p_task and atlas.get_reply(p_task, p_for) is not null
    and (p.sources = '[]' or (select t.project_id from atlas.task t where t.id = p_task) = any (rag.projects_of(p_for)))
  -- the first call of the last attempt: a repair or a continuation holds what was written
  order by a.number desc, p.call limit 1
$$;
comment on function atlas.get_prompt(uuid, uuid) is
  'What was asked for a reply, for a task whose sender may read that: it is asked again. Null where nothing is kept.';
grant execute on function atlas.get_prompt(uuid, uuid) to service_role, atlas_worker;

create function atlas.drop_prompts() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from atlas.prompt p where p.task_id = new.id;
  return null;
end
$$;
comment on function atlas.drop_prompts() is 'Drops the prompts of a task that was erased or trimmed.';

create trigger drop_prompts after update of erased_at on atlas.task
  for each row when (new.erased_at is not null) execute function atlas.drop_prompts();
comment on trigger drop_prompts on atlas.task is 'Drops the prompts of a task that was erased or trimmed.';

create function atlas.trim_prompt_texts() returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  if not pg_try_advisory_xact_lock(hashtext('atlas.prompt_text'), 0) then
    return 0;
  end if;
  delete from atlas.prompt_text t where t.seen_at < now() - interval '1 day' and t.sha256 in (
    select o.sha256 from atlas.prompt_text o
    where o.seen_at < now() - interval '1 day' and not exists (select from (select unnest(p.texts) as sha256 from atlas.prompt p) used where used.sha256 = o.sha256)
    limit 10000);
  get diagnostics n = row_count;
  return n;
end
$$;
comment on function atlas.trim_prompt_texts() is 'Removes shared texts that no prompt has any more, a day after one last did. Says how many.';
grant execute on function atlas.trim_prompt_texts() to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
