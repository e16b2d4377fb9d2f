-- Texts of chunks move into rag.passage, once each by their hash: an unchanged text is embedded once, a re-index swaps chunks and
-- keeps texts, and a text that an audit refers to stays when its document goes.

create table rag.passage (
  id bigint generated always as identity primary key,
  sha256 bytea not null unique check (length(sha256) = 32),
  heading text not null,
  text text not null check (text <> ''),
  tokens integer not null check (tokens >= 0),
  tsv tsvector not null generated always as (
    setweight(to_tsvector('english', heading), 'A') || setweight(to_tsvector('english', text), 'B')) stored,
  seen_at timestamptz not null default now()
);
create index passage_tsv on rag.passage using gin (tsv);
comment on table rag.passage is 'Texts of chunks, once each by their hash. Kept while a chunk or an audit refers to them.';
comment on column rag.passage.id is 'Its number.';
comment on column rag.passage.sha256 is 'SHA-256 of heading, an empty line and text.';
comment on column rag.passage.heading is 'Where it stands: the heading path, or the symbol.';
comment on column rag.passage.text is 'What it says.';
comment on column rag.passage.tokens is 'Its length in tokens of o200k_base.';
comment on column rag.passage.tsv is 'Its words for full-text search; those of the heading weigh more.';
comment on column rag.passage.seen_at is 'When it was last indexed, or shown.';
alter table rag.passage enable row level security;

create function rag.passage_hash(p_heading text, p_text text) returns bytea
language sql immutable set search_path = ''
as $$ select sha256(convert_to(p_heading || E'\n\n' || p_text, 'UTF8')) $$;
comment on function rag.passage_hash(text, text) is 'The hash by which a passage is known.';

insert into rag.passage (sha256, heading, text, tokens)
  select distinct on (1) rag.passage_hash(c.heading, c.text), c.heading, c.text, c.tokens from rag.chunk c order by 1;
alter table rag.chunk add column passage_id bigint references rag.passage (id);
update rag.chunk c set passage_id = p.id from rag.passage p where p.sha256 = rag.passage_hash(c.heading, c.text);
alter table rag.chunk alter column passage_id set not null;
drop function rag.search(text, integer, uuid, boolean);
alter table rag.chunk drop column tsv, drop column heading, drop column text, drop column tokens;
create index chunk_passage on rag.chunk (passage_id);
comment on column rag.chunk.passage_id is 'Its text.';
comment on column rag.chunk.start_line is 'Where it begins: a line, in a PDF a page, in a notebook a cell; from 1.';
comment on column rag.chunk.end_line is 'Where it ends, itself included.';

alter table rag.document drop constraint document_kind_check;
alter table rag.document add constraint document_kind_check
  check (kind in ('markdown', 'rst', 'text', 'code', 'html', 'pdf', 'notebook'));
alter table rag.document add column commit text check (commit ~ '^[0-9a-f]{7,64}$');
alter table rag.document add column chunks integer not null default 0 check (chunks >= 0);
update rag.document d set chunks = (select count(*) from rag.chunk c where c.document_id = d.id);
create index document_source on rag.document (source text_pattern_ops);
comment on column rag.document.kind is 'How it was read.';
comment on column rag.document.commit is 'The commit at which it was read, where it came from a Git repository.';
comment on column rag.document.chunks is 'How many chunks it has.';

create table rag.epoch (
  project_id uuid references atlas.project (id) on delete cascade,
  number bigint not null default 1 check (number > 0),
  unique nulls not distinct (project_id)
);
comment on table rag.epoch is 'Counts the changes of the index, a project (null: shared documents). What was cached before is stale.';
comment on column rag.epoch.project_id is 'Whose documents; null: the shared ones.';
comment on column rag.epoch.number is 'Goes up by one with every change.';
alter table rag.epoch enable row level security;
insert into rag.epoch (project_id) select distinct d.project_id from rag.document d;

create function rag.advance_epoch(p_project uuid) returns void
language sql security definer set search_path = ''
as $$
  insert into rag.epoch as e (project_id) values (p_project)
  on conflict (project_id) do update set number = e.number + 1
$$;
comment on function rag.advance_epoch(uuid) is 'Says that the index of a project changed. Internal.';

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

-- People see documents of their projects and shared ones; all below a document follows it.
create policy "people see documents of their projects, and shared ones" on rag.document for select to authenticated
  using (project_id is null or project_id in (select atlas.my_projects()));
create policy "chunks follow their document" on rag.chunk for select to authenticated
  using (exists (select from rag.document d where d.id = document_id));
create policy "passages follow their chunks" on rag.passage for select to authenticated
  using (exists (select from rag.chunk c where c.passage_id = passage.id));
grant usage on schema rag to authenticated;
grant select on rag.document, rag.chunk, rag.passage to authenticated;
grant select, insert, update, delete on rag.passage, rag.epoch, rag.citation to service_role;

drop function rag.put_document(uuid, text, text, text, bytea, jsonb);
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

create function rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea,
  p_chunks jsonb, p_commit text default null) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  doc uuid;
  n integer;
begin
  perform rag.put_passages(p_chunks);
  insert into rag.document as d (project_id, source, title, kind, content_sha256, commit, chunks)
  values (p_project, p_source, p_title, p_kind, p_sha256, p_commit, jsonb_array_length(p_chunks))
  on conflict (project_id, source) do update set title = excluded.title, kind = excluded.kind, commit = excluded.commit,
    content_sha256 = excluded.content_sha256, chunks = excluded.chunks, indexed_at = now()
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
comment on function rag.put_document(uuid, text, text, text, bytea, jsonb, text) is
  'Indexes a document anew in one transaction: readers see the old chunks or the new ones. Says how many it has.';

create or replace function rag.drop_documents(p_project uuid, p_under text, p_keep text[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  delete from rag.document d where d.project_id is not distinct from p_project
    and (p_under = '' or d.source = p_under or starts_with(d.source, rtrim(p_under, '/') || '/')) and d.source <> all (p_keep);
  get diagnostics n = row_count;
  if n > 0 then
    perform rag.advance_epoch(p_project);
  end if;
  if p_keep = '{}' then
    -- a repository that was dropped on purpose does not come back at night
    delete from rag.embed_job j where j.repository = rtrim(p_under, '/') and j.state in ('completed', 'failed')
      and j.project_id is not distinct from p_project;
  end if;
  return n;
end
$$;

-- What is in a prompt now may be cited in a moment: a text is kept for a day after it was last shown.
create function rag.mark_passages() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  update rag.passage p set seen_at = now() where p.id in (
    select o.id from rag.passage o where o.id in (select g.passage_id from gone g) order by o.id for no key update);
  return null;
end
$$;
comment on function rag.mark_passages() is 'Marks the texts of chunks that went as used until now.';
create trigger mark_passages after delete on rag.chunk
  referencing old table as gone for each statement execute function rag.mark_passages();

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
    join atlas.task t on t.message_task_id = m.task_id and t.kind = 'chat'
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

grant execute on function rag.put_document(uuid, text, text, text, bytea, jsonb, text), rag.collect_passages() to service_role;
grant execute on function rag.passage_hash(text, text) to service_role;

revoke execute on all functions in schema atlas, rag from public;
