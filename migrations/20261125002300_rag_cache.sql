-- What retrieval found, kept for all workers: one row a question, settings and visibility, fresh while the index has not changed.
-- It keeps passages by reference: what was removed since, or may not be read any more, is not shown from here either.

create table rag.cache (
  key bytea primary key check (length(key) = 32),
  epoch text not null,
  hits jsonb not null check (jsonb_typeof(hits) = 'array'),
  created_at timestamptz not null default now()
);
create index cache_created on rag.cache (created_at);
comment on table rag.cache is 'What retrieval found: fresh while the index is as it was, and a help while the RAG service is away.';
comment on column rag.cache.key is 'SHA-256 of the question, the settings of the search, and whose documents may be read.';
comment on column rag.cache.epoch is 'The state of the index then.';
comment on column rag.cache.hits is 'Documents and passages, best first, with similarity and score.';
comment on column rag.cache.created_at is 'When it was found.';
alter table rag.cache enable row level security;
grant select, insert, update, delete on rag.cache to service_role;

create function rag.cache_key(p_query text, p_settings text, p_projects uuid[]) returns bytea
language sql immutable set search_path = ''
as $$ select sha256(convert_to(jsonb_build_array(p_query, p_settings, to_jsonb(p_projects))::text, 'UTF8')) $$;
comment on function rag.cache_key(text, text, uuid[]) is 'The key of a search in the cache. Internal.';

create function rag.index_epoch(p_projects uuid[]) returns text
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return (select coalesce(string_agg(coalesce(e.project_id::text, '') || ':' || e.number, ',' order by e.project_id nulls first), '')
    from rag.epoch e where e.project_id is null or e.project_id = any (p_projects));
end
$$;
comment on function rag.index_epoch(uuid[]) is 'The state of the index as far as some projects see it; empty: nothing was ever indexed.';

create function rag.recall(p_tasks uuid[], p_queries text[], p_settings text)
returns table (epoch text, found_at text, hits jsonb)
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return query
  with asked as materialized (
    select q.n, q.query, rag.projects_of(q.task) as projects
    from unnest(p_tasks, p_queries) with ordinality as q (task, query, n)
  ),
  -- once for all that read the same
  states as materialized (
    select p.projects, rag.index_epoch(p.projects) as epoch from (select distinct a.projects from asked a) p
  )
  select e.epoch, c.epoch, case when c.key is not null then (
      select coalesce(jsonb_agg(jsonb_build_object('chunk_id', k.id, 'source', d.source, 'title', d.title, 'kind', d.kind,
        'commit', d.commit, 'heading', p.heading, 'start_line', k.start_line, 'end_line', k.end_line, 'text', p.text,
        'tokens', p.tokens, 'sha256', encode(p.sha256, 'hex'), 'similarity', h.hit -> 'similarity',
        'similarity_kind', h.hit -> 'similarity_kind', 'score', h.hit -> 'score')
        order by h.place), '[]')
      from jsonb_array_elements(c.hits) with ordinality as h (hit, place)
      cross join lateral (select x.* from rag.document x where x.id = (h.hit ->> 'document')::uuid limit 1) d
      cross join lateral (select k.* from rag.chunk k
        where k.document_id = d.id and k.passage_id = (h.hit ->> 'passage')::bigint order by k.seq limit 1) k
      cross join lateral (select x.* from rag.passage x where x.id = k.passage_id limit 1) p
      where d.project_id is null or d.project_id = any (a.projects)) end
  from asked a
  join states e on e.projects = a.projects
  left join lateral (select x.* from rag.cache x where x.key = rag.cache_key(a.query, p_settings, a.projects) limit 1) c on true
  order by a.n;
end
$$;
comment on function rag.recall(uuid[], text[], text) is
  'The state of the index for each of some tasks, and what was found for its question before: fresh where found_at is that state.';
grant execute on function rag.recall(uuid[], text[], text) to service_role, atlas_worker;

create function rag.remember(p_task uuid, p_query text, p_settings text, p_epoch text, p_chunks jsonb) returns void
language plpgsql security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  delete from rag.cache c where c.key in (
    select o.key from rag.cache o where o.created_at < now() - interval '7 days' order by o.created_at limit 20
    for update skip locked);
  insert into rag.cache as c (key, epoch, hits)
  select rag.cache_key(p_query, p_settings, allowed.projects), p_epoch, coalesce(found.hits, '[]')
  from (select rag.projects_of(p_task) as projects) allowed
  cross join lateral (
    select jsonb_agg(jsonb_build_object('document', k.document_id, 'passage', k.passage_id, 'similarity', i.item -> 'similarity',
      'similarity_kind', i.item -> 'similarity_kind', 'score', i.item -> 'score') order by i.place) as hits
    from jsonb_array_elements(p_chunks) with ordinality as i (item, place)
    join rag.chunk k on k.id = (i.item ->> 'chunk_id')::bigint) found
  -- what was found while the index changed belongs to the state before
  where p_epoch = rag.index_epoch(allowed.projects)
  on conflict (key) do update set epoch = excluded.epoch, hits = excluded.hits, created_at = now();
end
$$;
comment on function rag.remember(uuid, text, text, text, jsonb) is 'Keeps what was found for a task''s question.';
grant execute on function rag.remember(uuid, text, text, text, jsonb) to service_role, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
