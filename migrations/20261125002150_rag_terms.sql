-- The words of passages, for BM25: how often each word occurs in which passage, in how many passages it occurs, and how long they
-- are. Kept by the triggers of rag.chunk, exact at every commit: a passage counts while a document shows it.
--
-- All of it is counted by scope: a project, or what all share (zeros). So a search reads, and ranks by, what its caller may read and
-- nothing else; how rare a word is elsewhere shows nowhere.
--
-- A term is a word together with how often it occurs in a passage. Passages hold the numbers of their terms; one GIN index over
-- these finds the passages of a term, compressed, and the rows that it points to are narrow. docs/decisions/0023.

create table rag.term (
  id integer generated always as identity primary key,
  scope uuid not null,
  language text not null,
  lexeme text not null,
  occurrences smallint not null check (occurrences between 1 and 10),
  passages integer not null check (passages > 0),
  unique (scope, language, lexeme, occurrences)
);
comment on table rag.term is 'A word and how often it occurs in a passage, and how many passages have it just so often.';
comment on column rag.term.id is 'Its number, as rag.passage_terms holds it.';
comment on column rag.term.scope is 'The project whose documents show the passages; zeros: shared documents.';
comment on column rag.term.language is 'The text search configuration that made the word.';
comment on column rag.term.lexeme is 'The word, as the configuration reduces it.';
comment on column rag.term.occurrences is 'How often it occurs in a passage; 10: ten times or more.';
comment on column rag.term.passages is 'In how many passages it occurs so often.';
alter table rag.term enable row level security;
grant select, insert, update, delete on rag.term to service_role;

create table rag.passage_terms (
  id bigint generated always as identity primary key,
  passage_id bigint not null references rag.passage (id),
  scope uuid not null,
  language text not null,
  length integer not null check (length >= 0),
  terms integer[] not null,
  unique (passage_id, scope, language)
);
-- without a list of what is pending: each of a question's terms would read all of it
create index passage_terms_terms on rag.passage_terms using gin (terms) with (fastupdate = off);
comment on table rag.passage_terms is 'The terms of passages that a document shows, by scope and language.';
comment on column rag.passage_terms.id is 'Its number.';
comment on column rag.passage_terms.scope is 'The project whose documents show it; zeros: shared documents.';
comment on column rag.passage_terms.passage_id is 'The passage.';
comment on column rag.passage_terms.language is 'The text search configuration of the document.';
comment on column rag.passage_terms.length is 'Its length in words.';
comment on column rag.passage_terms.terms is 'The numbers of its terms.';
alter table rag.passage_terms enable row level security;
grant select, insert, update, delete on rag.passage_terms to service_role;

create table rag.corpus (
  scope uuid not null,
  language text not null,
  passages bigint not null check (passages >= 0),
  words bigint not null check (words >= 0),
  primary key (scope, language)
);
comment on table rag.corpus is 'How many passages are indexed in a scope and language, and how long they are together.';
comment on column rag.corpus.scope is 'The project whose documents show the passages; zeros: shared documents.';
comment on column rag.corpus.language is 'The text search configuration.';
comment on column rag.corpus.passages is 'How many passages.';
comment on column rag.corpus.words is 'Their length in words.';
alter table rag.corpus enable row level security;
grant select, insert, update, delete on rag.corpus to service_role;

create table rag.ranking (
  only_row boolean primary key default true check (only_row),
  k1 real not null default 1.2 check (k1 between 0 and 10),
  b real not null default 0.75 check (b between 0 and 1),
  words_threshold real not null default 0.05 check (words_threshold between 0 and 1),
  vector_weight real not null default 0.5 check (vector_weight between 0 and 1)
);
insert into rag.ranking default values;
comment on table rag.ranking is 'How search ranks; one row. `atlas rag calibrate --save` measures the last two on the index.';
comment on column rag.ranking.only_row is 'There is one row.';
comment on column rag.ranking.k1 is 'BM25: how soon further occurrences of a word stop counting.';
comment on column rag.ranking.b is 'BM25: how much the length of a passage counts, 0 to 1.';
comment on column rag.ranking.words_threshold is 'Without vectors: passages that match less than this share of the question are dropped.';
comment on column rag.ranking.vector_weight is 'What the vectors count in the fusion, 0 to 1; the rest is the words''.';
alter table rag.ranking enable row level security;
grant select, insert, update, delete on rag.ranking to service_role;

-- An identifier is found by itself, however it is spelled, and by its parts: ClaimedTask and claimed_task find each other, and
-- "claimed task" finds both. All punctuation separates words: the parser of Postgres would take asyncio.sleep for a host, and
-- docs/a.md for a file, each as one word.
create function rag.terms_of(p_language text, p_text text) returns tsvector
language sql immutable parallel safe set search_path = ''
as $$
  select to_tsvector(p_language::regconfig, translate(
    regexp_replace(regexp_replace(p_text, '([a-z0-9])([A-Z])', '\1 \2', 'g'), '([A-Z])([A-Z][a-z])', '\1 \2', 'g')
      || coalesce((select string_agg(' ' || replace(m[1], '_', ''), '') from regexp_matches(p_text, '\m(\w*[a-z0-9][A-Z]\w*|\w+_\w+)\M', 'g') m), ''),
    '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32)))
$$;
comment on function rag.terms_of(text, text) is 'The words of a text in a language, with the parts of identifiers.';
grant execute on function rag.terms_of(text, text) to service_role;

create function rag.scope_of(p_project uuid) returns uuid
language sql immutable parallel safe set search_path = ''
as $$ select coalesce(p_project, '00000000-0000-0000-0000-000000000000') $$;
comment on function rag.scope_of(uuid) is 'The scope of a document: its project, or zeros where all share it.';

-- One at a time in a scope until the commit, so that indexers cannot deadlock on the counts of common words.
create function rag.lock_terms(p_scope uuid) returns void
language sql security definer set search_path = ''
as $$ select pg_advisory_xact_lock(hashtext('rag.term'), hashtext(p_scope::text)) $$;
comment on function rag.lock_terms(uuid) is 'Waits for others who index in this scope. Internal.';

create function rag.add_terms() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform rag.lock_terms(s.scope) from (
    select distinct rag.scope_of(d.project_id) as scope from born b join rag.document d on d.id = b.document_id order by 1) s;
  with fresh as materialized (
    select p.id as passage_id, n.scope, n.language, u.lexeme, least(cardinality(u.positions), 10)::smallint as occurrences,
      cardinality(u.positions) as times
    from (
      select distinct b.passage_id, rag.scope_of(d.project_id) as scope, d.language
      from born b join rag.document d on d.id = b.document_id
      where not exists (select from rag.passage_terms t
        where t.passage_id = b.passage_id and t.scope = rag.scope_of(d.project_id) and t.language = d.language)) n
    join rag.passage p on p.id = n.passage_id
    left join lateral unnest(rag.terms_of(n.language, p.heading || E'\n\n' || p.text)) u on true
  ),
  counted as materialized (
    select f.scope, f.language, f.lexeme, f.occurrences, count(*)::integer as passages
    from fresh f where f.lexeme is not null group by 1, 2, 3, 4
  ),
  grown as (
    update rag.term t set passages = t.passages + c.passages from counted c
    where t.scope = c.scope and t.language = c.language and t.lexeme = c.lexeme and t.occurrences = c.occurrences
    returning t.id, t.scope, t.language, t.lexeme, t.occurrences
  ),
  made as (
    insert into rag.term (scope, language, lexeme, occurrences, passages)
    select c.scope, c.language, c.lexeme, c.occurrences, c.passages from counted c
    where not exists (select from rag.term t
      where t.scope = c.scope and t.language = c.language and t.lexeme = c.lexeme and t.occurrences = c.occurrences)
    returning id, scope, language, lexeme, occurrences
  ),
  kept as (
    insert into rag.passage_terms (passage_id, scope, language, length, terms)
    select f.passage_id, f.scope, f.language, coalesce(sum(f.times), 0),
      coalesce(array_agg(k.id order by k.id) filter (where k.id is not null), '{}')
    from fresh f left join (select * from grown union all select * from made) k using (scope, language, lexeme, occurrences)
    group by 1, 2, 3
    returning scope, language, length
  )
  insert into rag.corpus as c (scope, language, passages, words)
  select k.scope, k.language, count(*), sum(k.length) from kept k group by 1, 2
  on conflict (scope, language) do update set passages = c.passages + excluded.passages, words = c.words + excluded.words;
  return null;
end
$$;
comment on function rag.add_terms() is 'Counts the words of passages that a document shows now.';

create trigger add_terms after insert on rag.chunk
  referencing new table as born for each statement execute function rag.add_terms();
comment on trigger add_terms on rag.chunk is 'Counts the words of passages that a document shows now.';

create function rag.remove_terms() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform rag.lock_terms(s.scope) from (
    select distinct t.scope from rag.passage_terms t where t.passage_id in (select g.passage_id from gone g) order by 1) s;
  with lost as (
    delete from rag.passage_terms t
    where t.passage_id in (select g.passage_id from gone g) and not exists (
      select from rag.chunk c join rag.document d on d.id = c.document_id
      where c.passage_id = t.passage_id and rag.scope_of(d.project_id) = t.scope and d.language = t.language)
    returning t.scope, t.language, t.length, t.terms
  ),
  counted as materialized (
    select u.id, count(*)::integer as passages from lost l cross join lateral unnest(l.terms) u (id) group by 1
  ),
  rarer as (
    update rag.term t set passages = t.passages - c.passages from counted c where t.id = c.id and t.passages > c.passages
  ),
  last as (
    delete from rag.term t using counted c where t.id = c.id and t.passages <= c.passages
  )
  update rag.corpus c set passages = c.passages - s.passages, words = c.words - s.words
  from (select l.scope, l.language, count(*) as passages, sum(l.length) as words from lost l group by 1, 2) s
  where c.scope = s.scope and c.language = s.language;
  return null;
end
$$;
comment on function rag.remove_terms() is 'No longer counts the words of passages that no document shows any more.';

create trigger remove_terms after delete on rag.chunk
  referencing old table as gone for each statement execute function rag.remove_terms();
comment on trigger remove_terms on rag.chunk is 'No longer counts the words of passages that no document shows any more.';

revoke execute on all functions in schema atlas, rag from public;
