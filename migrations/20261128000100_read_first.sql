-- Read first: what is decided already, and what is proposed just now, is looked up before a model is called. Accepted decisions are
-- documents of their project too, so that searches find them and models are given them as sources.
--
-- locks: atlas.decision AccessExclusiveLock, atlas.decision is rewritten, while few decisions are there
-- locks: atlas.task ShareRowExclusiveLock, atlas.project ShareRowExclusiveLock, public.architect_out ShareRowExclusiveLock: changes of the catalog alone

create table atlas.open_draft (
  task_id uuid primary key references atlas.task (id) on delete cascade,
  project_id uuid not null references atlas.project (id) on delete cascade,
  title text not null,
  words text[] not null,
  made_at timestamptz not null default now()
);
create index open_draft_project on atlas.open_draft (project_id, made_at);
comment on table atlas.open_draft is 'Records that nobody has decided on yet, by the words of their question and title.';
comment on column atlas.open_draft.task_id is 'The task whose reply it is.';
comment on column atlas.open_draft.project_id is 'Its project.';
comment on column atlas.open_draft.title is 'Its title.';
comment on column atlas.open_draft.words is 'The words of its question and title, as searches reduce them, in their order.';
comment on column atlas.open_draft.made_at is 'When it was completed.';
alter table atlas.open_draft enable row level security;
create policy "drafts follow their task" on atlas.open_draft for select to authenticated
  using (exists (select from atlas.task t where t.id = task_id));
comment on policy "drafts follow their task" on atlas.open_draft is 'Row level security: drafts follow their task.';
grant select on atlas.open_draft to authenticated, service_role;

create function atlas.words_of(p_text text) returns text[]
language sql immutable parallel safe set search_path = ''
as $$
  select coalesce(array_agg(u.lexeme order by u.positions[1]), '{}') from unnest(rag.terms_of('english', left(p_text, 4000))) u
$$;
comment on function atlas.words_of(text) is 'The words of a text that say something, each once, in their order. Internal.';

create function atlas.record_words(p_title text, p_question text, p_constraints text[]) returns text[]
language sql immutable parallel safe set search_path = ''
as $$ select atlas.words_of(p_title || ' ' || p_question || ' ' || array_to_string(p_constraints, ' ')) $$;
comment on function atlas.record_words(text, text, text[]) is 'The words by which a decision is found. Internal.';

-- made once: a question is compared with all decisions of its project
-- squawk-ignore adding-field-with-default
alter table atlas.decision add column words text[] not null generated always as (atlas.record_words(title, question, constraints)) stored;
-- squawk-ignore adding-field-with-default
alter table atlas.decision add column asked text[] not null generated always as (atlas.words_of(question)) stored;
comment on column atlas.decision.words is 'The words of its title, question and constraints, as searches reduce them.';
comment on column atlas.decision.asked is 'The words of its question.';

create function atlas.note_drafts() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  insert into atlas.open_draft (task_id, project_id, title, words)
  select t.id, t.project_id, coalesce(left((regexp_match(n.data ->> 'content', '(?n)^# +(.*\S)'))[1], 500), t.title),
    atlas.words_of(t.title || ' ' || coalesce((regexp_match(n.data ->> 'content', '(?n)^# +(.*\S)'))[1], ''))
  from new_rows n join atlas.task t on t.id = n.task_id and t.kind = 'chat'
  where n.data #>> '{metadata,kind}' = 'adr' and n.data #>> '{metadata,status}' = 'completed' and n.data -> 'metadata' -> 'truncated' is null
    and n.data -> 'metadata' -> 'replays' is null
  on conflict do nothing;
  -- a revision takes the place of what it revises
  delete from atlas.open_draft d using new_rows n
  where d.task_id = atlas.as_uuid(n.data #>> '{metadata,revises}') and exists (select from atlas.open_draft o where o.task_id = n.task_id);
  return null;
end
$$;
comment on function atlas.note_drafts() is 'Notes records that somebody has to decide on.';

create trigger note_drafts after insert on public.architect_out
  referencing new table as new_rows for each statement execute function atlas.note_drafts();
comment on trigger note_drafts on public.architect_out is 'Notes records that somebody has to decide on.';

create function atlas.drop_draft() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  delete from atlas.open_draft d where d.task_id = new.id;
  return null;
end
$$;
comment on function atlas.drop_draft() is 'Drops the draft of a task that was erased or trimmed.';

create trigger drop_draft after update of erased_at on atlas.task
  for each row when (new.erased_at is not null) execute function atlas.drop_draft();
comment on trigger drop_draft on atlas.task is 'Drops the draft of a task that was erased or trimmed.';

-- The parts of a record that others should find: what was asked and decided, and what it binds; no work items, no list of sources.
create function atlas.decision_chunks(p_decision atlas.decision) returns jsonb
language sql stable set search_path = ''
as $$
  with part as (
    select p.place, p.text, coalesce((regexp_match(p.text, '^## +([^\n]*\S)'))[1], '') as section,
      (1 + coalesce(sum(length(p.text) - length(replace(p.text, E'\n', '')) + 1) over (order by p.place rows between unbounded preceding and 1 preceding), 0))::integer as line,
      length(p.text) - length(replace(p.text, E'\n', '')) as more
    from regexp_split_to_table(p_decision.content, '\n(?=## )') with ordinality as p (text, place)
  ),
  kept as (
    select row_number() over (order by p.place) - 1 as seq, p.line, p.line + p.more as last,
      format('ADR-%s %s%s', p_decision.number, p_decision.title, case when p.section <> '' then ' > ' || p.section else '' end) as heading,
      left(btrim(case when p.place = 1 then p_decision.question || E'\n\n' else '' end || p.text, E'\n '), 3000) as text
    from part p where p.section not in ('Work items', 'Sources', 'Open questions')
  )
  select coalesce(jsonb_agg(jsonb_build_object('seq', k.seq, 'heading', k.heading, 'text', k.text, 'tokens', length(k.text) / 4 + 1,
    'start_line', k.line, 'end_line', k.last) order by k.seq), '[]')
  from kept k where k.text <> ''
$$;
comment on function atlas.decision_chunks(atlas.decision) is 'The parts of a decision by which searches find it. Internal.';

create function atlas.index_decision(p_decision atlas.decision) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_source constant text := 'decision:ADR-' || p_decision.number;
begin
  -- replies draw only on decisions that hold
  if p_decision.status = 'accepted' then
    perform rag.put_document(p_decision.project_id, v_source, left(p_decision.title, 200), 'markdown',
      sha256(convert_to(p_decision.content, 'UTF8')), atlas.decision_chunks(p_decision));
  else
    perform rag.drop_documents(p_decision.project_id, array[v_source]);
  end if;
end
$$;
comment on function atlas.index_decision(atlas.decision) is 'Lets searches find a decision while it holds. Internal.';

create function atlas.read_first(p_task uuid) returns jsonb
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
declare
  v_project uuid;
  v_sender uuid;
  v_key text;
  v_asked text[];
  found jsonb;
begin
  select t.project_id, t.sender, t.sender_key, atlas.words_of(i.data ->> 'content') into v_project, v_sender, v_key, v_asked
  from atlas.task t join public.architect_in i on i.id = t.in_id where t.id = p_task;
  if cardinality(v_asked) is null or cardinality(v_asked) = 0 then
    return jsonb_build_object('words', '[]'::jsonb, 'found', '[]'::jsonb);
  end if;
  -- somebody who may not read the project gets no word of it
  if not (v_project = any (rag.projects_of(p_task))) then
    return jsonb_build_object('words', v_asked, 'found', '[]'::jsonb);
  end if;
  select coalesce(jsonb_agg(x.item order by x.share desc, x.rank, x.at desc), '[]') into found from (
    (select jsonb_build_object('number', d.number, 'title', d.title, 'status', d.status, 'superseded_by', d.superseded_by,
        'decided_at', d.decided_at, 'question', d.question, 'words', d.asked, 'share', d.share, 'content', case when d.asked <@ v_asked and v_asked <@ d.asked then d.content end) as item,
      d.share, case d.status when 'accepted' then 0 when 'rejected' then 1 else 2 end as rank, d.decided_at as at
    from (
      select o.*, (select count(*) from unnest(v_asked) w where w = any (o.words)) / cardinality(v_asked)::real as share
      from atlas.decision o where o.project_id = v_project and o.words && v_asked and o.content <> '[erased]') d
    order by d.share desc, rank, d.decided_at desc limit 5)
    union all
    (select jsonb_build_object('task_id', d.task_id, 'title', d.title, 'words', d.words, 'share', d.share, 'asked_by', t.sender_key), d.share, 3, d.made_at
    from (
      select o.*, (select count(*) from unnest(v_asked) w where w = any (o.words)) / cardinality(v_asked)::real as share
      from (select * from atlas.open_draft o where o.project_id = v_project and o.made_at > now() - interval '30 days' and o.task_id <> p_task
        order by o.made_at desc limit 50) o
      where o.words && v_asked) d
    join atlas.task t on t.id = d.task_id
    where v_sender is not null or t.sender_key = v_key
    order by d.share desc, d.made_at desc limit 3)) x;
  return jsonb_build_object('words', v_asked, 'found', found);
end
$$;
comment on function atlas.read_first(uuid) is
  'What is decided, or proposed just now, that a task''s question speaks of: {"words", "found": [{"number" or "task_id", "title", "words", "share", …}]}, by the
share of its words. Of what its sender may read.';
grant execute on function atlas.read_first(uuid) to service_role, atlas_worker;

create function atlas.get_reply(p_task_id uuid, p_for uuid) returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object('question', i.data -> 'content', 'content', o.data -> 'content', 'metadata', o.data -> 'metadata')
  from atlas.task f
  join atlas.task t on t.id = p_task_id and t.kind = 'chat' and t.state = 'completed' and t.project_id = f.project_id and t.erased_at is null
  join public.architect_in i on i.id = t.in_id
  join public.architect_out o on o.id = t.out_id
  where f.id = p_for and (f.sender is null or t.sender = f.sender
    or exists (select from atlas.member m where m.user_id = f.sender and m.project_id = t.project_id))
$$;
comment on function atlas.get_reply(uuid, uuid) is
  'A reply of the same project with its question and metadata, for a task whose sender may read it; null where there is none.';
grant execute on function atlas.get_reply(uuid, uuid) to service_role, atlas_worker;

create function atlas.import_decisions(p_project uuid, p_records jsonb) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  record jsonb;
  old atlas.decision;
  made atlas.decision;
  v_number integer;
  v_added integer := 0;
begin
  perform atlas.require_decider(p_project, 'import');
  if jsonb_typeof(p_records) is distinct from 'array' or jsonb_array_length(p_records) > 2000 then
    perform atlas.refuse('records', 'must be a list of at most 2,000', 'import fewer files at once', 'AT001', 'import');
  end if;
  perform 1 from atlas.project p where p.id = p_project for no key update;
  perform rag.lock_terms(rag.scope_of(p_project));
  for record in select r from jsonb_array_elements(p_records) r loop
    if coalesce(record ->> 'number', '') !~ '^\d{1,9}$' or coalesce(record ->> 'superseded_by', '0') !~ '^\d{1,9}$'
       or record ->> 'decided_at' is not null and atlas.as_timestamp(record ->> 'decided_at') is null then
      perform atlas.refuse('records', format('has an invalid number, superseded_by or decided_at (%s)', coalesce(record ->> 'file', record ->> 'number', '?')),
        'see docs/schemas/decision.json', 'AT001', 'import');
    end if;
    if (record ->> 'status' = 'superseded') <> (record ->> 'superseded_by' is not null) or record ->> 'superseded_by' = record ->> 'number' then
      perform atlas.refuse('records', format('has a status that does not agree with its superseded_by (%s)',
        coalesce(record ->> 'file', record ->> 'number')), 'status superseded needs the number of another record, and no other status has one', 'AT001', 'import');
    end if;
    if record ->> 'file' !~ '^[A-Za-z0-9][^/\\]{0,195}\.md$' or exists (
      select from unnest(atlas.texts_of(record -> 'paths')) g (path) where g.path !~ '^[^`\s<>:\\]{1,200}$' or g.path ~ '(^[/~]|(^|/)\.\.(/|$))') then
      perform atlas.refuse('records', format('has a file that is not a plain .md name, or paths that leave the repository (%s)',
        left(coalesce(record ->> 'file', record ->> 'number'), 100)), 'see docs/schemas/decision.json', 'AT001', 'import');
    end if;
    v_number := (record ->> 'number')::integer;
    if coalesce(record ->> 'title', '') = '' or coalesce(record ->> 'content', '') = '' or v_number is null
       or record ->> 'status' is null or record ->> 'status' not in ('proposed', 'accepted', 'rejected', 'deprecated', 'superseded') then
      perform atlas.refuse('records', format('lacks a title, content or known status (%s)', coalesce(record ->> 'file', record ->> 'number', '?')),
        'see docs/schemas/decision.json', 'AT001', 'import');
    end if;
    select d.* into old from atlas.decision d where d.project_id = p_project and d.number = v_number;
    if found and old.content = record ->> 'content' and old.status = record ->> 'status' and old.superseded_by is not distinct from (record ->> 'superseded_by')::integer then
      continue;
    end if;
    if found and old.content = record ->> 'content' and old.status = 'superseded' and record ->> 'status' = 'accepted' then
      -- the file does not know yet: an export tells it
      continue;
    end if;
    if found and (old.task_id is not null or old.file is distinct from record ->> 'file') then
      raise exception using errcode = 'AT005', message = format('import: ADR-%s is another record already: %s', v_number, old.title),
        hint = 'give the file another number, or supersede the decision that is there';
    end if;
    -- a file that was imported before, and has changed since, is what counts
    delete from atlas.decision d where d.project_id = p_project and d.number = v_number;
    insert into atlas.decision (project_id, number, title, content, constraints, paths, checks, sources, file, status, superseded_by, superseded_at, asked_by,
      decided_by, decided_at)
    values (p_project, v_number, left(record ->> 'title', 500), record ->> 'content', atlas.texts_of(record -> 'constraints'), atlas.texts_of(record -> 'paths'),
      atlas.texts_of(record -> 'checks'), atlas.texts_of(record -> 'sources'), left(record ->> 'file', 200), record ->> 'status', (record ->> 'superseded_by')::integer,
      case when record ->> 'superseded_by' is not null then now() end, atlas.actor(), coalesce(left(record ->> 'owner', 200), atlas.actor()),
      coalesce((record ->> 'decided_at')::timestamptz, now()))
    returning * into made;
    perform atlas.index_decision(made);
    v_added := v_added + 1;
  end loop;
  select d.* into old from atlas.decision d where d.project_id = p_project and d.superseded_by is not null
    and not exists (select from atlas.decision o where o.project_id = p_project and o.number = d.superseded_by) limit 1;
  if found then
    raise exception using errcode = 'AT004', message = format('import: ADR-%s is superseded by ADR-%s, which is not there', old.number, old.superseded_by),
      hint = 'import that one too, or correct the status of the first';
  end if;
  if exists (
    with recursive chain as (
      select d.number as start, d.superseded_by as at, 1 as far from atlas.decision d where d.project_id = p_project and d.superseded_by is not null
      union all
      select c.start, d.superseded_by, c.far + 1 from chain c join atlas.decision d on d.project_id = p_project and d.number = c.at
      where d.superseded_by is not null and c.at <> c.start and c.far < 2000)
    select from chain c where c.at = c.start) then
    raise exception using errcode = 'AT005', message = 'import: these records supersede each other in a circle',
      hint = 'exactly one of them can be the newest: correct their files';
  end if;
  if v_added > 0 then
    perform atlas.append_audit(null, 'import_decisions', jsonb_build_object('project_id', p_project, 'records', v_added));
  end if;
  return jsonb_build_object('added', v_added, 'unchanged', jsonb_array_length(p_records) - v_added);
end
$$;
comment on function atlas.import_decisions(uuid, jsonb) is
  'Takes records that were decided elsewhere, with their numbers and statuses: [{"number", "title", "content", "status", "superseded_by", "decided_at", "file",
"constraints", "paths", "checks", "sources", "owner"}]. All or none; the same again changes nothing, a changed file replaces what it was. For deciders and admins; sends no event.';
grant execute on function atlas.import_decisions(uuid, jsonb) to authenticated, service_role;

revoke execute on all functions in schema atlas, rag from public;
