-- What the team already knows: documents, their chunks, and the texts of chunks, once each by their hash. An unchanged text is
-- embedded once, a re-index swaps chunks and keeps texts, and a text that an audit refers to stays when its document goes.

create table rag.document (
  id uuid primary key default atlas.new_id(),
  project_id uuid references atlas.project (id) on delete cascade,
  source text not null check (source <> ''),
  repository text check (repository <> ''),
  title text not null,
  kind text not null check (kind in ('markdown', 'rst', 'text', 'code', 'html', 'pdf', 'notebook')),
  language text not null default 'english' check (language ~ '^[a-z]+$'),
  content_sha256 bytea not null,
  commit text check (commit ~ '^[0-9a-f]{7,64}$'),
  chunks integer not null default 0 check (chunks >= 0),
  indexed_at timestamptz not null default now(),
  unique nulls not distinct (project_id, source)
);
create index document_source on rag.document (source text_pattern_ops);
comment on table rag.document is 'One row a file. project_id null: shared by all projects.';
comment on column rag.document.id is 'Its id.';
comment on column rag.document.project_id is 'The project it belongs to.';
comment on column rag.document.source is 'Its path, as sources in a reply name it.';
comment on column rag.document.repository is 'What it was indexed with: a Git repository by its remote, or a folder; null: it was sent by itself.';
comment on column rag.document.title is 'The first line, for people who look at the table.';
comment on column rag.document.kind is 'How it was read.';
comment on column rag.document.language is 'The text search configuration of its words: its language; simple for code, and where it cannot be told.';
comment on column rag.document.content_sha256 is 'An unchanged file is not indexed again.';
comment on column rag.document.indexed_at is 'When it was last read.';
comment on column rag.document.commit is 'The commit at which it was read, where it came from a Git repository.';
comment on column rag.document.chunks is 'How many chunks it has.';
alter table rag.document enable row level security;
create policy "the knowledge service reads all of it" on rag.document for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on rag.document is 'Row level security: the knowledge service reads all of it.';
grant select on rag.document to atlas_rag;
create policy "people see documents of their projects, and shared ones" on rag.document for select to authenticated
  using (project_id is null or project_id in (select atlas.my_projects()));
comment on policy "people see documents of their projects, and shared ones" on rag.document is 'Row level security: people see documents of their projects, and shared ones.';
grant select, insert, update, delete on rag.document to service_role;
grant select on rag.document to authenticated;

create table rag.passage (
  id bigint generated always as identity primary key,
  sha256 bytea not null unique check (length(sha256) = 32),
  heading text not null,
  text text not null check (text <> ''),
  tokens integer not null check (tokens >= 0),
  seen_at timestamptz not null default now()
);
comment on table rag.passage is 'Texts of chunks, once each by their hash. Kept while a chunk or an audit refers to them.';
comment on column rag.passage.id is 'Its number.';
comment on column rag.passage.sha256 is 'SHA-256 of heading, an empty line and text.';
comment on column rag.passage.heading is 'Where it stands: the heading path, or the symbol.';
comment on column rag.passage.text is 'What it says.';
comment on column rag.passage.tokens is 'Its length in tokens of o200k_base.';
comment on column rag.passage.seen_at is 'When it was last indexed, or shown.';
alter table rag.passage enable row level security;
create policy "the knowledge service reads all of it" on rag.passage for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on rag.passage is 'Row level security: the knowledge service reads all of it.';
grant select on rag.passage to atlas_rag;
grant select on rag.passage to authenticated;
grant select, insert, update, delete on rag.passage to service_role;

create table rag.chunk (
  id bigint generated always as identity primary key,
  document_id uuid not null references rag.document (id) on delete cascade,
  seq integer not null check (seq >= 0),
  start_line integer not null check (start_line > 0),
  end_line integer not null,
  passage_id bigint not null references rag.passage (id),
  unique (document_id, seq),
  check (end_line >= start_line)
);
create index chunk_passage on rag.chunk (passage_id);
comment on table rag.chunk is 'A part of a document, at most 800 tokens: a section, a definition, a paragraph.';
comment on column rag.chunk.id is 'Its number.';
comment on column rag.chunk.document_id is 'The document it is of.';
comment on column rag.chunk.seq is 'Its place in the document, from 0.';
comment on column rag.chunk.start_line is 'Where it begins: a line, in a PDF a page, in a notebook a cell; from 1.';
comment on column rag.chunk.end_line is 'Where it ends, itself included.';
comment on column rag.chunk.passage_id is 'Its text.';
alter table rag.chunk enable row level security;
create policy "the knowledge service reads all of it" on rag.chunk for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on rag.chunk is 'Row level security: the knowledge service reads all of it.';
grant select on rag.chunk to atlas_rag;
create policy "chunks follow their document" on rag.chunk for select to authenticated
  using (exists (select from rag.document d where d.id = document_id));
comment on policy "chunks follow their document" on rag.chunk is 'Row level security: chunks follow their document.';
grant select, insert, update, delete on rag.chunk to service_role;
grant select on rag.chunk to authenticated;

create policy "passages follow their chunks" on rag.passage for select to authenticated
  using (exists (select from rag.chunk c where c.passage_id = passage.id));
comment on policy "passages follow their chunks" on rag.passage is 'Row level security: passages follow their chunks.';

create table rag.epoch (
  project_id uuid references atlas.project (id) on delete cascade,
  number bigint not null default 1 check (number > 0),
  unique nulls not distinct (project_id)
);
comment on table rag.epoch is 'Counts the changes of the index, a project (null: shared documents). What was cached before is stale.';
comment on column rag.epoch.project_id is 'Whose documents; null: the shared ones.';
comment on column rag.epoch.number is 'Goes up by one with every change.';
alter table rag.epoch enable row level security;
grant select, insert, update, delete on rag.epoch to service_role;

create table rag.citation (
  task_id uuid not null references atlas.task (id) on delete cascade,
  passage_id bigint not null references rag.passage (id),
  primary key (task_id, passage_id)
);
create index citation_passage on rag.citation (passage_id);
comment on table rag.citation is 'Which passages were in the prompt of which task: their texts stay while the audit refers to them.';
comment on column rag.citation.task_id is 'The task.';
comment on column rag.citation.passage_id is 'The passage.';
alter table rag.citation enable row level security;
grant select, insert, update, delete on rag.citation to service_role;

create function rag.passage_hash(p_heading text, p_text text) returns bytea
language sql immutable set search_path = ''
as $$ select sha256(convert_to(p_heading || E'\n\n' || p_text, 'UTF8')) $$;
comment on function rag.passage_hash(text, text) is 'The hash by which a passage is known.';
grant execute on function rag.passage_hash(text, text) to service_role;

create function rag.advance_epoch(p_project uuid) returns void
language sql security definer set search_path = ''
as $$
  insert into rag.epoch as e (project_id) values (p_project)
  on conflict (project_id) do update set number = e.number + 1
$$;
comment on function rag.advance_epoch(uuid) is 'Says that the index of a project changed. Internal.';

create function rag.advance_epochs() returns void
language sql security definer set search_path = ''
as $$ update rag.epoch set number = number + 1 $$;
comment on function rag.advance_epochs() is 'Makes all that is cached stale: searches have other settings now.';
grant execute on function rag.advance_epochs() to service_role, atlas_rag;

create function rag.put_passages(p_chunks jsonb) returns void
language sql security definer set search_path = ''
as $$
  insert into rag.passage as p (sha256, heading, text, tokens)
  select distinct on (1) rag.passage_hash(c.heading, c.text), c.heading, c.text, c.tokens
  from jsonb_to_recordset(p_chunks) as c (heading text, text text, tokens integer) order by 1
  -- a fresh mark, so that nobody collects a text that is about to be used again
  on conflict (sha256) do update set seen_at = now()
$$;
comment on function rag.put_passages(jsonb) is 'Stores texts that are not there yet. Internal.';

-- What is in a prompt now may be cited in a moment: a text is kept for a day after it was last shown.
create function rag.mark_passages() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  update rag.passage p set seen_at = now() where p.id in (
    -- in the order of rag.put_passages
    select o.id from rag.passage o where o.id in (select g.passage_id from gone g) order by o.sha256 for no key update);
  return null;
end
$$;
comment on function rag.mark_passages() is 'Marks the texts of chunks that went as used until now.';

create trigger mark_passages after delete on rag.chunk
  referencing old table as gone for each statement execute function rag.mark_passages();
comment on trigger mark_passages on rag.chunk is 'Marks the texts of chunks that went as used until now.';

create function rag.known_documents(p_project uuid, p_sources text[]) returns table (source text, content_sha256 bytea)
language sql stable security definer set search_path = ''
as $$
  select d.source, d.content_sha256 from rag.document d
  where d.project_id is not distinct from p_project and d.source = any (p_sources)
$$;
comment on function rag.known_documents(uuid, text[]) is 'Hashes of what is indexed, so that unchanged files cost nothing.';
grant execute on function rag.known_documents(uuid, text[]) to service_role, atlas_rag;

-- The language whose stop words make up most of a text. English comes first, since most of what is indexed is English, and a text
-- that is too short to tell is taken for it. Reference pages have few whole sentences: other languages need clearer evidence.
create function rag.language_of(p_kind text, p_text text) returns text
language plpgsql stable set search_path = ''
as $$
declare
  plain constant text := translate(left(p_text, 2000), '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32));
  words constant integer := coalesce((select sum(cardinality(w.positions)) from unnest(to_tsvector('simple', plain)) w), 0);
  stopped real;
  best real := 0.15;
  found text := case when words < 25 then 'english' else 'simple' end;
  candidate text;
begin
  if p_kind = 'code' or words = 0 then
    return 'simple';
  end if;
  foreach candidate in array array['english', 'german', 'french', 'spanish', 'portuguese', 'italian', 'dutch', 'russian', 'swedish', 'danish',
      'norwegian', 'finnish', 'hungarian', 'turkish'] loop
    stopped := 1 - coalesce((select sum(cardinality(w.positions)) from unnest(to_tsvector(candidate::regconfig, plain)) w), 0)::real / words;
    if stopped > best and stopped * words > 2.5 or candidate = 'english' and stopped > 0.05 then
      best := greatest(best, stopped);
      found := candidate;
    end if;
    exit when candidate = 'english' and stopped > 0.25;
  end loop;
  return found;
end
$$;
comment on function rag.language_of(text, text) is 'The text search configuration for a document: its language by its stop words; simple for code, and where it cannot be told.';

create function rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea,
  p_chunks jsonb, p_commit text default null, p_repository text default null) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  doc uuid;
  n integer;
begin
  -- before any other lock
  perform rag.lock_terms(rag.scope_of(p_project));
  perform rag.put_passages(p_chunks);
  insert into rag.document as d (project_id, source, repository, title, kind, language, content_sha256, commit, chunks)
  select p_project, p_source, p_repository, p_title, p_kind, rag.language_of(p_kind, string_agg(c.text, E'\n' order by c.seq)), p_sha256,
    p_commit, jsonb_array_length(p_chunks)
  from (select c.seq, c.text from jsonb_to_recordset(p_chunks) as c (seq integer, text text) order by c.seq limit 20) c
  on conflict (project_id, source) do update set repository = excluded.repository, title = excluded.title, kind = excluded.kind,
    language = excluded.language, commit = excluded.commit, content_sha256 = excluded.content_sha256, chunks = excluded.chunks, indexed_at = now()
  returning d.id into doc;
  delete from rag.chunk c where c.document_id = doc;
  insert into rag.chunk (document_id, seq, start_line, end_line, passage_id)
  select doc, c.seq, c.start_line, c.end_line, p.id
  from jsonb_to_recordset(p_chunks) as c (seq integer, heading text, start_line integer, end_line integer, text text)
  join rag.passage p on p.sha256 = rag.passage_hash(c.heading, c.text);
  get diagnostics n = row_count;
  perform rag.advance_epoch(p_project);
  return n;
end
$$;
comment on function rag.put_document(uuid, text, text, text, bytea, jsonb, text, text) is
  'Indexes a document anew in one transaction: readers see the old chunks or the new ones. Says how many it has.';
grant execute on function rag.put_document(uuid, text, text, text, bytea, jsonb, text, text) to service_role, atlas_rag;

-- What a run over a folder did not find there: documents under its name that are none of its files.
create function rag.stale_documents(p_project uuid, p_under text[], p_keep text[]) returns table (source text)
language sql stable security definer set search_path = ''
as $$
  select d.source from rag.document d
  where d.project_id is not distinct from p_project and d.source <> all (p_keep)
    and exists (select from unnest(p_under) u (name) where u.name <> '' and (d.source = u.name or starts_with(d.source, rtrim(u.name, '/') || '/')))
  order by d.source
$$;
comment on function rag.stale_documents(uuid, text[], text[]) is 'Documents under these folders that are none of those that are there.';
grant execute on function rag.stale_documents(uuid, text[], text[]) to service_role, atlas_rag;

create function rag.drop_documents(p_project uuid, p_sources text[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  perform rag.lock_terms(rag.scope_of(p_project));
  delete from rag.document d where d.project_id is not distinct from p_project and d.source = any (p_sources);
  get diagnostics n = row_count;
  if n > 0 then
    perform rag.advance_epoch(p_project);
  end if;
  return n;
end
$$;
comment on function rag.drop_documents(uuid, text[]) is 'Drops documents; says how many there were.';
grant execute on function rag.drop_documents(uuid, text[]) to service_role, atlas_rag;

create function rag.forget_repository(p_project uuid, p_name text) returns integer
language plpgsql security definer set search_path = ''
as $$
begin
  -- what was dropped on purpose does not come back at night
  delete from rag.embed_job j where j.repository = rtrim(p_name, '/') and j.state in ('completed', 'failed')
    and j.project_id is not distinct from p_project;
  return rag.drop_documents(p_project, array(select s.source from rag.stale_documents(p_project, array[p_name], '{}') s));
end
$$;
comment on function rag.forget_repository(uuid, text) is
  'Drops a repository, a folder or a document, and no longer indexes the repository anew at night; says how many documents.';
grant execute on function rag.forget_repository(uuid, text) to service_role, atlas_rag;

create function rag.collect_passages() returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  delete from rag.passage p where p.id in (
    select o.id from rag.passage o
    where o.seen_at < now() - interval '1 day'
      and not exists (select from rag.chunk c where c.passage_id = o.id)
      and not exists (select from rag.citation c where c.passage_id = o.id)
    order by o.id limit 10000 for update skip locked);
  get diagnostics n = row_count;
  return n;
end
$$;
comment on function rag.collect_passages() is
  'Removes texts that no document and no audit refers to any more, a day after they were last shown. Says how many.';
grant execute on function rag.collect_passages() to service_role, atlas_rag;

-- What was in a prompt is named in the reply's sources by its hash.
create function rag.cite_passages() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  tasks uuid[];
  details jsonb[];
begin
  with named as materialized (
    select n.task_id, s.source ->> 'sha256' as sha256
    from new_rows n cross join lateral jsonb_array_elements(
      case when jsonb_typeof(n.data #> '{metadata,sources}') = 'array' then n.data #> '{metadata,sources}' else '[]' end
    ) as s (source)
    where s.source ->> 'sha256' ~ '^[0-9a-f]{64}$'
  ),
  kept as (
    insert into rag.citation (task_id, passage_id)
    select t.id, p.id from named m
    join rag.passage p on p.sha256 = decode(m.sha256, 'hex')
    join atlas.task t on t.id = m.task_id and t.kind = 'chat'
    group by t.id, p.id
    on conflict do nothing
    returning task_id, passage_id
  ),
  per_task as (
    select k.task_id, jsonb_build_object('passages', jsonb_agg(encode(p.sha256, 'hex') order by p.id)) as detail
    from kept k join rag.passage p on p.id = k.passage_id group by k.task_id
  )
  select array_agg(p.task_id), array_agg(p.detail) into tasks, details from per_task p;
  if tasks is not null then
    perform atlas.append_audits('cite_passages', tasks, details);
  end if;
  return null;
end
$$;
comment on function rag.cite_passages() is 'Keeps the texts that a reply was written from, and names them in the audit.';

create trigger cite_passages after insert on public.architect_out
  referencing new table as new_rows for each statement execute function rag.cite_passages();
comment on trigger cite_passages on public.architect_out is 'Keeps the texts that a reply was written from, and names them in the audit.';

revoke execute on all functions in schema atlas, rag from public;
