-- Hybrid search: full text and vectors, fused by reciprocal rank, limited to what the caller may read.
--
-- rag.hits does the work on ids, as the owner, with the projects that may be read as an argument: an operator that is not
-- leakproof (@@) cannot use its index under row level security. rag.search shows rows under the caller's own row level security.
-- Few rows are joined to large tables: by their keys, whatever the planner thinks of how many a function gives.

create function rag.words(p_query text) returns tsquery
language plpgsql stable security definer set search_path = ''
as $$
declare
  found tsquery;
begin
  -- Any of the words may match, the rarer first: together they may be expected in some two thousand passages, and at most 24 are
  -- looked for. What stands in every other passage orders nothing, and would have all of them ranked.
  with lexeme as (
    select l.lexeme from unnest(to_tsvector('english', p_query)) l
  ),
  common as (
    select c.elem as lexeme, c.freq
    from pg_catalog.pg_stats s,
      lateral unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs[1:cardinality(s.most_common_elems::text::text[])])
        as c (elem, freq)
    where s.schemaname = 'rag' and s.tablename = 'passage' and s.attname = 'tsv'
  ),
  size as (
    select greatest(c.reltuples, 0) as passages from pg_catalog.pg_class c where c.oid = 'rag.passage'::regclass
  ),
  rare as (
    select l.lexeme, coalesce(c.freq, 0) as freq,
      sum(coalesce(c.freq, 0) * size.passages) over w as expected, row_number() over w as place
    from lexeme l cross join size left join common c using (lexeme)
    window w as (order by coalesce(c.freq, 0), l.lexeme)
  )
  select string_agg('''' || replace(replace(r.lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery into found
  from rare r where r.place = 1 or (r.place <= 24 and r.expected <= 2000);
  return found;
end
$$;
comment on function rag.words(text) is 'The words of a question that tell passages apart, as a query; null where there are none.';

create type rag.hit as (chunk_id bigint, similarity real, score real);
comment on type rag.hit is 'A chunk that was found: its cosine to the question (null: no vector), and its score by rank.';

create function rag.hits(p_query text, p_vector text, p_index integer, p_top_k integer, p_projects uuid[], p_collapse boolean,
  p_threshold real, p_prefix text, p_kind text)
returns setof rag.hit
language plpgsql stable security definer rows 20 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
  target rag.embedding_index;
  words constant tsquery := rag.words(p_query);
  -- each way finds more than is asked for: the fusion, the threshold and the collapse leave some out
  many constant integer := greatest(4 * p_top_k, 60);
  wide boolean;
  may text := '(d.project_id is null or d.project_id = any ($3))';
  near text;
begin
  if p_top_k is null or p_top_k < 1 then
    return;
  end if;
  if p_prefix <> '' then
    may := may || ' and d.source ^@ $4';
  end if;
  if p_kind <> '' then
    may := may || ' and d.kind = $5';
  end if;
  if p_vector is not null then
    select s.* into target from rag.embedding_index s where s.id = p_index and s.state = 'serving';
    if target.id is null then
      raise exception using errcode = 'AT005', message = format('search: embedding index %s does not serve', coalesce(p_index::text, 'null')),
        hint = 'embed the question with the embedder that rag.embedding_indexes() shows as serving';
    end if;
    -- few passages: all of them are compared, and nothing is missed. Many: the index, which goes on until enough may be read
    execute format('select coalesce(sum(x.chunks), 0) > 5000 or count(*) = 2000 from '
      '(select d.chunks from rag.document d where %s limit 2000) x', may)
      into wide using words, p_vector, p_projects, p_prefix, p_kind;
    -- A filter leaves few of the nearest: the index goes on until there are enough (pgvector 0.8 and newer). Set here and not at the
    -- function, which only a superuser could do before pgvector is loaded.
    perform set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', '100', true),
      set_config('hnsw.max_scan_tuples', '40000', true);
    near := format(case when wide then
      'select e.passage_id, e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $2::extensions.halfvec(%1$s) as distance '
      'from rag.embedding e where e.index_id = %2$s and (select true from rag.chunk c join rag.document d on d.id = c.document_id '
      'where c.passage_id = e.passage_id and %3$s limit 1) '
      'order by e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $2::extensions.halfvec(%1$s) limit %4$s'
      else
      'select n.* from (select e.passage_id, '
      'e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $2::extensions.halfvec(%1$s) as distance from '
      '(select distinct c.passage_id from rag.document d join rag.chunk c on c.document_id = d.id where %3$s offset 0) r '
      'join rag.embedding e on e.passage_id = r.passage_id and e.index_id = %2$s offset 0) n order by n.distance limit %4$s' end,
      target.dimensions, target.id, may, many);
  else
    near := 'select null::bigint as passage_id, null::float8 as distance where false';
  end if;
  return query execute format(
    'with vector_way as materialized (%1$s), '
    'text_way as materialized ( '
    '  select p.id as passage_id, ts_rank(p.tsv, $1) as rank from rag.passage p '
    '  where p.tsv @@ $1 and (select true from rag.chunk c join rag.document d on d.id = c.document_id '
    '    where c.passage_id = p.id and %2$s limit 1) '
    '  order by 2 desc, 1 limit %3$s), '
    'fused as ( '
    '  select w.passage_id, sum(1.0 / (20 + w.place)) as score, min(w.distance) as distance from ( '
    '    select v.passage_id, row_number() over (order by v.distance, v.passage_id) as place, v.distance from vector_way v '
    '    union all '
    '    select t.passage_id, row_number() over (order by t.rank desc, t.passage_id), null from text_way t) w '
    '  group by w.passage_id), '
    'measured as materialized ( '
    '  select f.passage_id, f.score, (1 - coalesce(f.distance, %4$s))::real as similarity from fused f), '
    'placed as ( '
    '  select c.id, m.similarity, m.score, d.source, c.seq, '
    '    row_number() over (partition by d.id order by m.score desc, c.seq) as place '
    '  from measured m join rag.chunk c on c.passage_id = m.passage_id join rag.document d on d.id = c.document_id '
    '  where %2$s and ($6 is null or m.similarity is null or m.similarity >= $6)) '
    'select l.id, l.similarity, l.score::real from placed l where not $7 or l.place = 1 '
    'order by l.score desc, l.source, l.seq limit $8',
    near, may, many,
    -- what only its words found is measured too
    case when target.id is null then 'null' else format(
      '(select e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $2::extensions.halfvec(%1$s) from rag.embedding e '
      'where e.index_id = %2$s and e.passage_id = f.passage_id)', target.dimensions, target.id) end)
    using words, p_vector, p_projects, p_prefix, p_kind, p_threshold, coalesce(p_collapse, true), p_top_k;
end
$$;
comment on function rag.hits(text, text, integer, integer, uuid[], boolean, real, text, text) is
  'Chunks by reciprocal rank over full text and vectors, of projects that may be read and of shared documents. Internal.';

create function rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean,
  p_threshold real, p_prefix text, p_kind text)
returns table (chunk_id bigint, similarity real, score real)
language sql stable security definer rows 20 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select h.* from rag.hits(left(p_query, 8000), p_vector, p_index, least(p_top_k, 200),
    case when atlas.is_service() or atlas.caller_role() = 'atlas_rag' then array[p_project]
         else array(select m from atlas.my_projects() m where p_project is null or m = p_project) end,
    p_collapse, p_threshold, p_prefix, p_kind) h
$$;
comment on function rag.candidates(text, text, integer, integer, uuid, boolean, real, text, text) is
  'Ids of the chunks that the caller may read, best first. Use rag.search, which shows them.';
grant execute on function rag.candidates(text, text, integer, integer, uuid, boolean, real, text, text) to authenticated, service_role, atlas_rag;

create function rag.search(p_query text, p_top_k integer default 15, p_project uuid default null, p_collapse boolean default true,
  p_vector text default null, p_index integer default null, p_threshold real default null, p_prefix text default null,
  p_kind text default null)
returns table (chunk_id bigint, source text, title text, kind text, commit text, heading text, start_line integer,
  end_line integer, text text, tokens integer, sha256 bytea, similarity real, score real)
language sql stable rows 20 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select c.id, d.source, d.title, d.kind, d.commit, p.heading, c.start_line, c.end_line, p.text, p.tokens, p.sha256,
    h.similarity, h.score
  from rag.candidates(p_query, p_vector, p_index, p_top_k, p_project, p_collapse, p_threshold, p_prefix, p_kind)
    with ordinality as h (chunk_id, similarity, score, place)
  join rag.chunk c on c.id = h.chunk_id
  join rag.document d on d.id = c.document_id
  join rag.passage p on p.id = c.passage_id
  order by h.place
$$;
comment on function rag.search(text, integer, uuid, boolean, text, integer, real, text, text) is
  'Chunks that the caller may read, best first: words alone, or with p_vector (of embedding index p_index) words and meaning.';
grant execute on function rag.search(text, integer, uuid, boolean, text, integer, real, text, text) to authenticated, service_role, atlas_rag;

-- What the owner of a task may read: its project while the owner is a member, and what is shared. The service role's tasks have
-- their project.
create function rag.projects_of(p_task uuid) returns uuid[]
language plpgsql stable security definer set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off
as $$
begin
  return coalesce((
    select array[t.project_id] from atlas.task t
    where t.id = p_task and (t.sender is null
      or exists (select from atlas.member m where m.user_id = t.sender and m.project_id = t.project_id))), '{}');
end
$$;
comment on function rag.projects_of(uuid) is 'Whose documents retrieval for a task may read besides the shared ones. Internal.';

create function rag.search_task(p_task uuid, p_query text, p_top_k integer, p_collapse boolean, p_vector text default null,
  p_index integer default null, p_threshold real default null)
returns table (chunk_id bigint, source text, title text, kind text, commit text, heading text, start_line integer,
  end_line integer, text text, tokens integer, sha256 bytea, similarity real, score real)
language sql stable security definer rows 20 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select c.id, d.source, d.title, d.kind, d.commit, p.heading, c.start_line, c.end_line, p.text, p.tokens, p.sha256,
    h.similarity, h.score
  from rag.hits(left(p_query, 8000), p_vector, p_index, least(p_top_k, 200), rag.projects_of(p_task), p_collapse, p_threshold,
    null, null) with ordinality as h (chunk_id, similarity, score, place)
  join rag.chunk c on c.id = h.chunk_id
  join rag.document d on d.id = c.document_id
  join rag.passage p on p.id = c.passage_id
  order by h.place
$$;
comment on function rag.search_task(uuid, text, integer, boolean, text, integer, real) is
  'Chunks for a task''s question, of what its owner may read, best first.';
grant execute on function rag.search_task(uuid, text, integer, boolean, text, integer, real) to service_role, atlas_rag, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
