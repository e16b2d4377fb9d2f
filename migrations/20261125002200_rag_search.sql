-- Hybrid search: words by BM25 and meaning by vectors, fused by their scores, limited to what the caller may read.
--
-- rag.hits does the work on ids, as the owner, with the projects that may be read as an argument; rag.search shows rows under the
-- caller's own row level security. Few rows are joined to large tables: by their keys, whatever the planner thinks of how many a
-- function gives. What joins short lists to each other turns hash joins on: otherwise the caller's settings apply.

create type rag.weighed_term as (id integer, gain real, base real, slope real, weight real, share real, leads boolean);
comment on type rag.weighed_term is
  'A term of a question. A passage that has it scores gain / (base + slope * its length); share: what its word is of the question.';

create function rag.scopes_of(p_projects uuid[]) returns uuid[]
language sql immutable parallel safe set search_path = ''
as $$ select array_append(p_projects, rag.scope_of(null)) $$;
comment on function rag.scopes_of(uuid[]) is 'The scopes that are searched: these projects, and what all share. Internal.';

create function rag.rarest_weight(p_projects uuid[]) returns double precision
language sql stable security definer set search_path = ''
as $$
  select ln(1 + 2 * greatest(sum(c.passages), 1))::double precision from rag.corpus c where c.scope = any (rag.scopes_of(p_projects))
$$;
comment on function rag.rarest_weight(uuid[]) is 'What a word weighs that stands in one passage alone of these projects and shared documents. Internal.';

create function rag.weigh_terms(p_query text, p_projects uuid[]) returns setof rag.weighed_term
language plpgsql stable security definer rows 50 set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_hashjoin = on set enable_seqscan = off set jit = off
as $$
declare
  scopes constant uuid[] := rag.scopes_of(p_projects);
begin
  -- Each word is looked for in every indexed language; rarity is measured across all of them. A stop word in any language is ignored
  -- in all, simple has none of its own; a language with less than a fiftieth of the passages decides for itself alone. The 64 words that
  -- weigh most are scored. Those that weigh most lead: they select some eight thousand candidates, which all of the words score.
  return query
  with size as materialized (
    select greatest(sum(c.passages), 1) as passages, greatest(sum(c.words)::real / greatest(sum(c.passages), 1), 1) as mean
    from rag.corpus c where c.scope = any (scopes)
  ),
  language as materialized (
    select c.language as name, c.language = 'english' or sum(c.passages) * 50 > size.passages as counts
    from (select o.language, o.passages from rag.corpus o where o.scope = any (scopes) and o.passages > 0 union all select 'english', 0) c
    cross join size group by c.language, size.passages
  ),
  word as materialized (
    select u.lexeme, u.positions[1] as place, cardinality(u.positions) as times from unnest(rag.terms_of('simple', p_query)) u
  ),
  said as materialized (
    select l.name as language, l.counts, u.lexeme, place
    from language l cross join lateral unnest(rag.terms_of(l.name, p_query)) u cross join lateral unnest(u.positions) place
  ),
  heard as materialized (
    select s.place from said s group by s.place
    having count(*) filter (where s.counts) = (select count(*) from language l where l.counts)
  ),
  form as materialized (
    select w.lexeme as word, w.times, s.language, s.lexeme, k.passages
    from word w join heard h on h.place = w.place join said s on s.place = w.place
    cross join lateral (
      select coalesce(sum(t.passages), 0) as passages from rag.term t
      where t.scope = any (scopes) and t.language = s.language and t.lexeme = s.lexeme) k
  ),
  rare as materialized (
    select f.*, sum(f.passages) over (partition by f.word) as having_it from form f
  ),
  weighed as materialized (
    select r.*, (r.times * ln(1 + (greatest(size.passages - r.having_it, 0) + 0.5) / (r.having_it + 0.5)))::real as weight
    from rare r cross join size
  ),
  ranked as materialized (
    select w.*, (w.weight / sum(w.weight) over (partition by w.language))::real as share,
      dense_rank() over (order by w.weight desc, w.word) as place
    from weighed w
  ),
  reached as (
    select r.weight, r.share, t.id, t.occurrences, t.passages,
      sum(t.passages) over (order by r.weight desc, t.occurrences desc, r.word, t.id) as so_far
    from ranked r cross join lateral (
      select t.* from rag.term t where t.scope = any (scopes) and t.language = r.language and t.lexeme = r.lexeme offset 0) t
    where r.place <= 64
  )
  select r.id, (r.weight * (g.k1 + 1) * r.occurrences)::real, (r.occurrences + g.k1 * (1 - g.b))::real, (g.k1 * g.b / size.mean)::real,
    r.weight, r.share, r.so_far - r.passages < 200 or r.so_far <= 8000
  from reached r cross join size cross join rag.ranking g;
end
$$;
comment on function rag.weigh_terms(text, uuid[]) is
  'The terms of a question in these projects and shared documents, with what BM25 gives for them. Internal.';

create function rag.score_words(p_terms rag.weighed_term[], p_passages bigint[]) returns table (passage_id bigint, score real, share real)
language plpgsql stable security definer rows 100 set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off set enable_hashjoin = on
as $$
begin
  -- terms belong to a scope: of a passage that several projects show, those of the caller's count
  return query
  select s.passage_id, max(s.score), max(s.share) from (
    select t.passage_id, t.id, sum(x.gain / (x.base + x.slope * t.length))::real as score,
      sum(x.share * least(1, x.gain / (x.base + x.slope * t.length) / x.weight))::real as share
    from rag.passage_terms t cross join lateral unnest(t.terms) u (id) join unnest(p_terms) x on x.id = u.id
    where t.passage_id = any (p_passages)
    group by t.passage_id, t.id) s
  group by s.passage_id;
end
$$;
comment on function rag.score_words(rag.weighed_term[], bigint[]) is
  'BM25 of passages, and what share of the question they hold: 1 where each of its words stands in a passage of usual length. Internal.';

create function rag.few_passages(p_projects uuid[], p_prefix text, p_kind text) returns bigint[]
language plpgsql stable security definer set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
  wide boolean;
  few bigint[];
  may text := '(d.project_id is null or d.project_id = any ($1))';
begin
  if p_prefix <> '' then
    may := may || ' and d.source ^@ $2';
  end if;
  if p_kind <> '' then
    may := may || ' and d.kind = $3';
  end if;
  execute format('select coalesce(sum(x.chunks), 0) > 2000 or count(*) = 1000 from (select d.chunks from rag.document d where %s limit 1000) x', may)
    into wide using p_projects, p_prefix, p_kind;
  if not wide then
    execute format('select coalesce(array_agg(distinct c.passage_id), ''{}'') from rag.document d join rag.chunk c on c.document_id = d.id where %s', may)
      into few using p_projects, p_prefix, p_kind;
  end if;
  return few;
end
$$;
comment on function rag.few_passages(uuid[], text, text) is
  'The passages that may be read where they are few, so that all of them are compared and nothing is missed; null: they are many. Internal.';

create function rag.find_words(p_terms rag.weighed_term[], p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text)
returns table (passage_id bigint, score real)
language plpgsql stable security definer rows 100 set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
  if p_few is not null and (coalesce(p_prefix, '') <> '' or coalesce(p_kind, '') <> '') then
    return query select s.passage_id, s.score from rag.score_words(p_terms, p_few) s order by 2 desc, 1 limit p_many;
  else
    -- terms belong to a scope: what they find may be read. Of what a filter leaves, nothing is cut off before it
    return query
    select g.passage_id, max(g.score) from (select f.passage_id, f.score from (
      select t.id, t.passage_id, sum(x.gain / (x.base + x.slope * t.length))::real as score
      from unnest(p_terms) x cross join lateral (
        select p.id, p.passage_id, p.length from rag.passage_terms p where p.terms @> array[x.id] limit 8000) t
      where x.leads group by 1, 2 order by 3 desc, 1
      limit case when coalesce(p_prefix, '') = '' and coalesce(p_kind, '') = '' then 2 * p_many end) f
    where coalesce(p_prefix, '') = '' and coalesce(p_kind, '') = '' or exists (
      select from rag.chunk c cross join lateral (select d.* from rag.document d where d.id = c.document_id offset 0) d
      where c.passage_id = f.passage_id and (d.project_id is null or d.project_id = any (p_projects))
        and (coalesce(p_prefix, '') = '' or d.source ^@ p_prefix) and (coalesce(p_kind, '') = '' or d.kind = p_kind) offset 0)
    limit 2 * p_many) g
    group by 1 order by 2 desc, 1 limit p_many;
  end if;
end
$$;
comment on function rag.find_words(rag.weighed_term[], integer, bigint[], uuid[], text, text) is
  'The passages that may be read and that score best by the leading words of a question. Internal.';

create type rag.neighbour as (passage_id bigint, similarity real);
comment on type rag.neighbour is 'A passage and its cosine to a question.';

create function rag.find_vectors(p_index rag.embedding_index, p_vector text, p_many integer, p_few bigint[], p_projects uuid[], p_prefix text, p_kind text)
returns setof rag.neighbour
language plpgsql stable security definer rows 100 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
declare
  near constant text := format('e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $1::extensions.halfvec(%1$s)', p_index.dimensions);
  may text := '(d.project_id is null or d.project_id = any ($3))';
begin
  if p_few is not null then
    return query execute format('select n.passage_id, (1 - n.distance)::real from (select e.passage_id, %s as distance from unnest($2) r (id) '
      'join rag.embedding e on e.passage_id = r.id and e.index_id = %s offset 0) n order by n.distance limit %s', near, p_index.id, p_many)
      using p_vector, p_few;
    return;
  end if;
  if p_prefix <> '' then
    may := may || ' and d.source ^@ $4';
  end if;
  if p_kind <> '' then
    may := may || ' and d.kind = $5';
  end if;
  -- A filter leaves few of the nearest: the index goes on until there are enough (pgvector 0.8 and newer). Set here and not at the
  -- function, which only a superuser could do before pgvector is loaded.
  perform set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', '100', true),
    set_config('hnsw.max_scan_tuples', '40000', true);
  return query execute format(
    'select e.passage_id, (1 - (%1$s))::real from rag.embedding e where e.index_id = %2$s and (select true from rag.chunk c '
    'join rag.document d on d.id = c.document_id where c.passage_id = e.passage_id and %3$s limit 1) order by %1$s limit %4$s',
    near, p_index.id, may, p_many)
    using p_vector, p_few, p_projects, p_prefix, p_kind;
end
$$;
comment on function rag.find_vectors(rag.embedding_index, text, integer, bigint[], uuid[], text, text) is
  'The passages that may be read and whose vectors are nearest to a question''s. Internal.';

create function rag.score_vectors(p_index rag.embedding_index, p_vector text, p_passages bigint[]) returns setof rag.neighbour
language plpgsql stable security definer rows 100 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
begin
  if p_vector is null then
    return;
  end if;
  return query execute format('select e.passage_id, (1 - (e.embedding::extensions.halfvec(%1$s) operator(extensions.<=>) $1::extensions.halfvec(%1$s)))::real '
    'from unnest($2) r (id) join rag.embedding e on e.passage_id = r.id and e.index_id = %2$s', p_index.dimensions, p_index.id)
    using p_vector, p_passages;
end
$$;
comment on function rag.score_vectors(rag.embedding_index, text, bigint[]) is 'Cosines of passages to a question; those without a vector have none. Internal.';

create function rag.find(p_query text, p_vector text, p_index integer, p_many integer, p_projects uuid[], p_prefix text, p_kind text)
returns table (passage_id bigint, words real, share real, cosine real)
language plpgsql stable security definer rows 100 set search_path = ''
  set plan_cache_mode = force_generic_plan set jit = off set enable_hashjoin = on
as $$
declare
  target rag.embedding_index;
  terms constant rag.weighed_term[] := array(select t from rag.weigh_terms(p_query, p_projects) t);
  -- words find what may be read by themselves; a filter may leave few, and vectors are exact among few
  few constant bigint[] := case when p_vector is not null or coalesce(p_prefix, '') <> '' or coalesce(p_kind, '') <> ''
    then rag.few_passages(p_projects, p_prefix, p_kind) end;
  found bigint[];
begin
  if p_vector is not null then
    select s.* into target from rag.embedding_index s where s.id = p_index and s.state = 'serving';
    if target.id is null then
      raise exception using errcode = 'AT005', message = format('search: embedding index %s does not serve', coalesce(p_index::text, 'null')),
        hint = 'embed the question with the embedder that rag.embedding_indexes() shows as serving';
    end if;
  end if;
  found := array(select w.passage_id from rag.find_words(terms, p_many, few, p_projects, p_prefix, p_kind) w);
  if p_vector is not null then
    found := array(select unnest(found) union
      select v.passage_id from rag.find_vectors(target, p_vector, p_many, few, p_projects, p_prefix, p_kind) v);
  end if;
  -- what one way found is measured by the other too
  return query
  select f.id, coalesce(w.score, 0), coalesce(w.share, 0), v.similarity
  from unnest(found) f (id)
  left join rag.score_words(terms, found) w on w.passage_id = f.id
  left join rag.score_vectors(target, p_vector, found) v on v.passage_id = f.id;
end
$$;
comment on function rag.find(text, text, integer, integer, uuid[], text, text) is
  'What both ways find in projects that may be read and in shared documents: BM25, the share of the question''s words, the cosine. Internal.';
grant execute on function rag.find(text, text, integer, integer, uuid[], text, text) to service_role;

create type rag.hit as (chunk_id bigint, similarity real, similarity_kind text, score real);
comment on type rag.hit is
  'A chunk that was found: its cosine to the question, or the share of the question''s words that it holds where it has no vector; and its score.';

create function rag.hits(p_query text, p_vector text, p_index integer, p_top_k integer, p_projects uuid[], p_collapse boolean,
  p_threshold real, p_prefix text, p_kind text)
returns setof rag.hit
language plpgsql stable security definer rows 20 set search_path = ''
  set plan_cache_mode = force_generic_plan set enable_seqscan = off set jit = off set enable_hashjoin = on
as $$
begin
  if p_top_k is null or p_top_k < 1 then
    return;
  end if;
  return query
  with fused as materialized (
    select f.passage_id, coalesce(f.cosine, f.share) as similarity, case when f.cosine is null then 'words' else 'cosine' end as kind,
      case when p_vector is null then f.words
        -- the longer the question, the more its words count: half where its best passage scores as one word that is found nowhere else
        else (1 - r.vector_weight) * f.words / (max(f.words) over () + rarest)
          + r.vector_weight * coalesce(f.cosine / nullif(max(f.cosine) over (), 0), 0) end as score,
      -- a threshold that is given is for cosines where there are vectors
      coalesce(case when f.cosine is not null or p_vector is null then p_threshold end, case when f.cosine is null then r.words_threshold end, -1) as least
    -- each way finds more than is asked for: the threshold and the collapse leave some out
    from rag.find(p_query, p_vector, p_index, greatest(4 * p_top_k, 100), p_projects, p_prefix, p_kind) f cross join rag.ranking r
    cross join rag.rarest_weight(p_projects) rarest
  ),
  placed as (
    select c.id, f.similarity, f.kind, f.score, d.source, c.seq, row_number() over (partition by d.id order by f.score desc, c.seq) as place
    from fused f cross join lateral (select c.* from rag.chunk c where c.passage_id = f.passage_id offset 0) c
    cross join lateral (select d.* from rag.document d where d.id = c.document_id offset 0) d
    where f.similarity >= f.least and (d.project_id is null or d.project_id = any (p_projects))
      and (coalesce(p_prefix, '') = '' or d.source ^@ p_prefix) and (coalesce(p_kind, '') = '' or d.kind = p_kind)
  )
  select l.id, l.similarity, l.kind, l.score::real from placed l where not coalesce(p_collapse, true) or l.place = 1
  order by l.score desc, l.source, l.seq limit p_top_k;
end
$$;
comment on function rag.hits(text, text, integer, integer, uuid[], boolean, real, text, text) is
  'Chunks by words and vectors, of projects that may be read and of shared documents. Internal.';

create function rag.set_ranking(p_k1 real default null, p_b real default null, p_words_threshold real default null, p_vector_weight real default null)
returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update rag.ranking r set k1 = coalesce(p_k1, r.k1), b = coalesce(p_b, r.b), words_threshold = coalesce(p_words_threshold, r.words_threshold),
    vector_weight = coalesce(p_vector_weight, r.vector_weight);
  -- what was found with another ranking is stale
  perform rag.advance_epochs();
end
$$;
comment on function rag.set_ranking(real, real, real, real) is 'Changes how search ranks; what is null stays.';
grant execute on function rag.set_ranking(real, real, real, real) to service_role;

create function rag.candidates(p_query text, p_vector text, p_index integer, p_top_k integer, p_project uuid, p_collapse boolean,
  p_threshold real, p_prefix text, p_kind text)
returns table (chunk_id bigint, similarity real, similarity_kind text, score real)
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
  end_line integer, text text, tokens integer, sha256 bytea, similarity real, similarity_kind text, score real)
language sql stable rows 20 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select c.id, d.source, d.title, d.kind, d.commit, p.heading, c.start_line, c.end_line, p.text, p.tokens, p.sha256,
    h.similarity, h.similarity_kind, h.score
  from rag.candidates(p_query, p_vector, p_index, p_top_k, p_project, p_collapse, p_threshold, p_prefix, p_kind)
    with ordinality as h (chunk_id, similarity, similarity_kind, score, place)
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
  end_line integer, text text, tokens integer, sha256 bytea, similarity real, similarity_kind text, score real)
language sql stable security definer rows 20 set search_path = ''
  set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
  select c.id, d.source, d.title, d.kind, d.commit, p.heading, c.start_line, c.end_line, p.text, p.tokens, p.sha256,
    h.similarity, h.similarity_kind, h.score
  from rag.hits(left(p_query, 8000), p_vector, p_index, least(p_top_k, 200), rag.projects_of(p_task), p_collapse, p_threshold,
    null, null) with ordinality as h (chunk_id, similarity, similarity_kind, score, place)
  join rag.chunk c on c.id = h.chunk_id
  join rag.document d on d.id = c.document_id
  join rag.passage p on p.id = c.passage_id
  order by h.place
$$;
comment on function rag.search_task(uuid, text, integer, boolean, text, integer, real) is
  'Chunks for a task''s question, of what its owner may read, best first.';
grant execute on function rag.search_task(uuid, text, integer, boolean, text, integer, real) to service_role, atlas_rag, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
