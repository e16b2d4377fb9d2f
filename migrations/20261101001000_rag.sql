-- What the team already knows: documents and their chunks, full-text search.

create table rag.document (
  id uuid primary key default gen_random_uuid(),
  project_id uuid references atlas.project (id) on delete cascade,
  source text not null check (source <> ''),
  title text not null,
  kind text not null check (kind in ('markdown', 'code', 'text')),
  content_sha256 bytea not null,
  indexed_at timestamptz not null default now(),
  unique nulls not distinct (project_id, source)
);
comment on table rag.document is 'One row a file. project_id null: shared by all projects.';
comment on column rag.document.source is 'Its path, as sources in a reply name it.';
comment on column rag.document.content_sha256 is 'An unchanged file is not indexed again.';

create table rag.chunk (
  id bigint generated always as identity primary key,
  document_id uuid not null references rag.document (id) on delete cascade,
  seq integer not null check (seq >= 0),
  heading text not null,
  start_line integer not null check (start_line > 0),
  end_line integer not null,
  text text not null check (text <> ''),
  tokens integer not null check (tokens >= 0),
  tsv tsvector not null generated always as (
    setweight(to_tsvector('english', heading), 'A') || setweight(to_tsvector('english', text), 'B')) stored,
  unique (document_id, seq),
  check (end_line >= start_line)
);
create index chunk_tsv on rag.chunk using gin (tsv);
comment on table rag.chunk is 'A part of a document, at most 800 tokens: a section, a definition, a paragraph.';
comment on column rag.chunk.heading is 'Where it stands: the heading path, or the symbol.';

create table rag.embed_job (
  id uuid primary key default gen_random_uuid(),
  project_id uuid references atlas.project (id) on delete cascade,
  state text not null default 'queued' check (state in ('queued', 'running', 'completed', 'failed')),
  total integer not null default 0 check (total >= 0),
  done integer not null default 0 check (done >= 0 and done <= total),
  errors jsonb not null default '[]' check (jsonb_typeof(errors) = 'array'),
  lease_expires_at timestamptz,
  created_at timestamptz not null default now()
);
comment on table rag.embed_job is 'A batch of documents to index in the background.';

alter table rag.document enable row level security;
alter table rag.chunk enable row level security;
alter table rag.embed_job enable row level security;
grant select, insert, update, delete on rag.document, rag.chunk, rag.embed_job to service_role;

create function rag.known_documents(p_project uuid, p_sources text[]) returns table (source text, content_sha256 bytea)
language sql stable security definer set search_path = ''
as $$
  select d.source, d.content_sha256 from rag.document d
  where d.project_id is not distinct from p_project and d.source = any (p_sources)
$$;
comment on function rag.known_documents(uuid, text[]) is 'Hashes of what is indexed, so that unchanged files cost nothing.';

create function rag.put_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea,
  p_chunks jsonb) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  doc uuid;
  n integer;
begin
  insert into rag.document as d (project_id, source, title, kind, content_sha256)
  values (p_project, p_source, p_title, p_kind, p_sha256)
  on conflict (project_id, source) do update set title = excluded.title, kind = excluded.kind,
    content_sha256 = excluded.content_sha256, indexed_at = now()
  returning d.id into doc;
  delete from rag.chunk c where c.document_id = doc;
  insert into rag.chunk (document_id, seq, heading, start_line, end_line, text, tokens)
  select doc, c.seq, c.heading, c.start_line, c.end_line, c.text, c.tokens
  from jsonb_to_recordset(p_chunks) as c (seq integer, heading text, start_line integer, end_line integer, text text,
    tokens integer);
  get diagnostics n = row_count;
  return n;
end
$$;
comment on function rag.put_document(uuid, text, text, text, bytea, jsonb) is
  'Indexes a document anew in one transaction; says how many chunks it has.';

create function rag.drop_documents(p_project uuid, p_under text, p_keep text[]) returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  delete from rag.document d where d.project_id is not distinct from p_project
    and (p_under = '' or d.source = p_under or starts_with(d.source, p_under || '/')) and d.source <> all (p_keep);
  get diagnostics n = row_count;
  return n;
end
$$;
comment on function rag.drop_documents(uuid, text, text[]) is 'Drops documents under a path that are no longer there.';

create function rag.search(p_query text, p_top_k integer, p_project uuid, p_collapse boolean default true)
returns table (chunk_id bigint, source text, title text, heading text, start_line integer, end_line integer,
  text text, tokens integer, score real)
language sql stable security definer set search_path = ''
as $$
  -- any of the words may match; the ranking prefers chunks that hold more of them, close together
  with query as (
    select nullif(replace(plainto_tsquery('english', p_query)::text, ' & ', ' | '), '')::tsquery as q
  ),
  hit as (
    select c.*, d.source, d.title,
      (ts_rank_cd(c.tsv, query.q, 1) + ts_rank(c.tsv, query.q, 1))::real as score,
      row_number() over (partition by c.document_id
        order by ts_rank_cd(c.tsv, query.q, 1) + ts_rank(c.tsv, query.q, 1) desc, c.seq) as place
    from query join rag.chunk c on c.tsv @@ query.q
    join rag.document d on d.id = c.document_id
    where d.project_id is null or d.project_id = p_project
  )
  select h.id, h.source, h.title, h.heading, h.start_line, h.end_line, h.text, h.tokens, h.score
  from hit h where not p_collapse or h.place = 1
  order by h.score desc, h.source, h.seq limit p_top_k
$$;
comment on function rag.search(text, integer, uuid, boolean) is
  'Chunks that a project may read, best first, at most one a file where p_collapse is true.';

grant execute on function rag.known_documents(uuid, text[]), rag.put_document(uuid, text, text, text, bytea, jsonb),
  rag.drop_documents(uuid, text, text[]) to service_role;
grant execute on function rag.search(text, integer, uuid, boolean) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
