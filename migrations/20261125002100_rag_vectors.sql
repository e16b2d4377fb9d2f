-- Vectors: an embedding index is one embedder's model at one dimension, and vectors of two indexes are never compared. One serves;
-- another may be built beside it, and takes over when it is complete.

create table rag.embedding_index (
  id integer generated always as identity primary key,
  embedder text not null check (embedder ~ '^[a-z]+$'),
  model text not null check (model <> ''),
  dimensions integer not null check (dimensions between 1 and 4000),
  state text not null default 'building' check (state in ('building', 'serving', 'retired')),
  threshold real check (threshold between -1 and 1),
  usd_per_million numeric(12, 6) check (usd_per_million >= 0),
  lease_owner uuid,
  lease_expires_at timestamptz,
  created_at timestamptz not null default now(),
  unique (embedder, model, dimensions)
);
create unique index embedding_index_serving on rag.embedding_index (state) where state = 'serving';
create unique index embedding_index_building on rag.embedding_index (state) where state = 'building';
comment on table rag.embedding_index is 'One embedder''s model at one dimension. Vectors of two indexes are never compared.';
comment on column rag.embedding_index.id is 'Its number.';
comment on column rag.embedding_index.embedder is 'Who makes its vectors: openai, supabase, local.';
comment on column rag.embedding_index.model is 'Its model.';
comment on column rag.embedding_index.dimensions is 'Numbers of a vector; at most 4,000, which is what an HNSW index of halfvec takes.';
comment on column rag.embedding_index.state is 'serving: searched. building: filled in the background. retired: its vectors are gone.';
comment on column rag.embedding_index.threshold is
  'The relevancy threshold that `atlas rag calibrate --save` measured; it overrides the setting.';
comment on column rag.embedding_index.usd_per_million is 'US dollars per million tokens embedded; null: not known.';
comment on column rag.embedding_index.lease_owner is 'Who fills it now.';
comment on column rag.embedding_index.lease_expires_at is 'When somebody else may go on.';
comment on column rag.embedding_index.created_at is 'When it was first asked for.';
alter table rag.embedding_index enable row level security;
create policy "the knowledge service reads all of it" on rag.embedding_index for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on rag.embedding_index is 'Row level security: the knowledge service reads all of it.';
grant select on rag.embedding_index to atlas_rag;
create policy "everyone with a login sees the embedding indexes" on rag.embedding_index for select to authenticated using (true);
comment on policy "everyone with a login sees the embedding indexes" on rag.embedding_index is 'Row level security: everyone with a login sees the embedding indexes.';
grant select on rag.embedding_index to authenticated;
grant select, insert, update, delete on rag.embedding_index to service_role;

create table rag.embedding (
  index_id integer not null references rag.embedding_index (id) on delete cascade,
  passage_id bigint not null references rag.passage (id) on delete cascade,
  embedding extensions.halfvec not null,
  primary key (index_id, passage_id)
);
create index embedding_passage on rag.embedding (passage_id);
comment on table rag.embedding is 'Vectors of passages. Each embedding index has an HNSW index of its own.';
comment on column rag.embedding.index_id is 'In which embedding index.';
comment on column rag.embedding.passage_id is 'Of which passage.';
comment on column rag.embedding.embedding is 'The vector, in half precision.';
alter table rag.embedding enable row level security;
create policy "the knowledge service reads all of it" on rag.embedding for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on rag.embedding is 'Row level security: the knowledge service reads all of it.';
grant select on rag.embedding to atlas_rag;
create policy "vectors follow their passages" on rag.embedding for select to authenticated
  using (exists (select from rag.chunk c where c.passage_id = embedding.passage_id));
comment on policy "vectors follow their passages" on rag.embedding is 'Row level security: vectors follow their passages.';
grant select on rag.embedding to authenticated;
grant select, insert, update, delete on rag.embedding to service_role;

create table rag.usage (
  day date not null,
  index_id integer not null references rag.embedding_index (id) on delete cascade,
  purpose text not null check (purpose in ('index', 'query')),
  texts bigint not null default 0 check (texts >= 0),
  tokens bigint not null default 0 check (tokens >= 0),
  usd numeric(14, 8),
  primary key (day, index_id, purpose)
);
comment on table rag.usage is 'What was embedded, a UTC day and purpose.';
comment on column rag.usage.day is 'The UTC day.';
comment on column rag.usage.index_id is 'By which embedder.';
comment on column rag.usage.purpose is 'index: documents. query: questions.';
comment on column rag.usage.texts is 'How many texts.';
comment on column rag.usage.tokens is 'How many tokens.';
comment on column rag.usage.usd is 'US dollars; null where the price is not known.';
alter table rag.usage enable row level security;
grant select, insert, update, delete on rag.usage to service_role;

create function rag.embedding_indexes() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object('id', s.id, 'embedder', s.embedder, 'model', s.model, 'dimensions', s.dimensions,
    'state', s.state, 'threshold', s.threshold, 'usd_per_million', s.usd_per_million) order by s.id), '[]')
  from rag.embedding_index s where s.state <> 'retired'
$$;
comment on function rag.embedding_indexes() is 'The embedding indexes that serve or are built.';
grant execute on function rag.embedding_indexes() to service_role, atlas_rag, atlas_worker;

create function rag.create_vector_index(p_index rag.embedding_index) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  execute format('create index if not exists %I on rag.embedding using hnsw '
    '((embedding::extensions.halfvec(%s)) extensions.halfvec_cosine_ops) where index_id = %s',
    'embedding_hnsw_' || p_index.id, p_index.dimensions, p_index.id);
end
$$;
comment on function rag.create_vector_index(rag.embedding_index) is 'Makes the HNSW index of an embedding index. Internal.';

create function rag.retire_index(p_index integer) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update rag.embedding_index s set state = 'retired', lease_owner = null, lease_expires_at = null where s.id = p_index;
  execute format('drop index if exists rag.%I', 'embedding_hnsw_' || p_index);
  delete from rag.embedding e where e.index_id = p_index;
end
$$;
comment on function rag.retire_index(integer) is 'Takes an embedding index, its HNSW index and its vectors out of use. Internal.';

create function rag.open_index(p_embedder text, p_model text, p_dimensions integer, p_usd numeric default null,
  p_revive boolean default true) returns rag.embedding_index
language plpgsql security definer set search_path = ''
as $$
declare
  found rag.embedding_index;
  other integer;
begin
  -- a plain read decides for the common case
  select s.* into found from rag.embedding_index s
  where s.embedder = p_embedder and s.model = p_model and s.dimensions = p_dimensions;
  if found.state <> 'retired' and found.usd_per_million is not distinct from coalesce(p_usd, found.usd_per_million) then
    return found;
  end if;
  if found.state = 'retired' and not p_revive then
    -- two processes with different settings would else embed everything in turns
    raise exception using errcode = 'AT005', message = format('%s %s was retired: another embedder took over', p_embedder, p_model),
      hint = 'give all processes the same RAG_EMBED settings, and start this one again';
  end if;
  perform pg_advisory_xact_lock(hashtext('rag.embedding_index'));
  -- another move is given up: what was built for it so far goes
  for other in select s.id from rag.embedding_index s where s.state = 'building'
    and not (s.embedder = p_embedder and s.model = p_model and s.dimensions = p_dimensions)
  loop
    perform rag.retire_index(other);
  end loop;
  insert into rag.embedding_index as s (embedder, model, dimensions, usd_per_million)
  values (p_embedder, p_model, p_dimensions, p_usd)
  on conflict (embedder, model, dimensions) do update set usd_per_million = coalesce(p_usd, s.usd_per_million),
    state = case s.state when 'retired' then 'building' else s.state end
  returning * into found;
  -- while it is empty: the index fills with the vectors, and the switch waits for nothing
  perform rag.create_vector_index(found);
  if found.state = 'building' and not exists (select from rag.chunk)
     and not exists (select from rag.embedding_index s where s.state = 'serving') then
    update rag.embedding_index s set state = 'serving' where s.id = found.id returning * into found;
  end if;
  return found;
end
$$;
comment on function rag.open_index(text, text, integer, numeric, boolean) is
  'The embedding index of an embedder. A new one is built beside the one that serves; with nothing indexed yet it serves at once.';
grant execute on function rag.open_index(text, text, integer, numeric, boolean) to service_role, atlas_rag;

create function rag.missing_vectors(p_index integer, p_after bigint, p_limit integer)
returns table (passage_id bigint, heading text, text text, tokens integer)
language sql stable security definer set search_path = ''
as $$
  select p.id, p.heading, p.text, p.tokens from rag.passage p
  where p.id > p_after
    and not exists (select from rag.embedding e where e.index_id = p_index and e.passage_id = p.id)
    and exists (select from rag.chunk c where c.passage_id = p.id)
  order by p.id limit p_limit
$$;
comment on function rag.missing_vectors(integer, bigint, integer) is 'Passages in use that have no vector in an embedding index yet.';
grant execute on function rag.missing_vectors(integer, bigint, integer) to service_role, atlas_rag;

create function rag.known_vectors(p_index integer, p_hashes bytea[]) returns setof bytea
language sql security definer set search_path = ''
as $$
  -- marked as in use: who asks is about to show them, and nobody collects them meanwhile
  with used as (
    update rag.passage p set seen_at = now() where p.id in (
      select o.id from rag.passage o where o.sha256 = any (p_hashes) order by o.id for no key update)
    returning p.id, p.sha256)
  select u.sha256 from used u join rag.embedding e on e.passage_id = u.id and e.index_id = p_index
$$;
comment on function rag.known_vectors(integer, bytea[]) is 'Which texts have a vector in an embedding index, so that none is embedded twice.';
grant execute on function rag.known_vectors(integer, bytea[]) to service_role, atlas_rag;

create function rag.put_vectors(p_index integer, p_passages jsonb, p_vectors text[]) returns void
language plpgsql security definer set search_path = ''
as $$
declare
  dims integer;
begin
  select s.dimensions into dims from rag.embedding_index s where s.id = p_index and s.state <> 'retired' for share;
  if not found then
    raise exception using errcode = 'AT005', message = format('put_vectors: embedding index %s is retired', p_index),
      hint = 'open it again: the embedder was changed meanwhile';
  end if;
  perform rag.put_passages(p_passages);
  begin
    execute format(
      'insert into rag.embedding (index_id, passage_id, embedding) '
      'select $1, p.id, v.vector::extensions.halfvec(%s) '
      'from jsonb_array_elements($2) with ordinality as i (item, n) join unnest($3) with ordinality as v (vector, n) using (n) '
      'join rag.passage p on p.sha256 = rag.passage_hash(i.item ->> ''heading'', i.item ->> ''text'') '
      'order by p.id on conflict do nothing', dims) using p_index, p_passages, p_vectors;
  exception when data_exception then
    raise exception using errcode = 'AT005', message = format('put_vectors: %s', sqlerrm),
      hint = format('the embedding index has %s dimensions: set RAG_EMBED_DIMENSIONS to what the embedder gives', dims);
  end;
end
$$;
comment on function rag.put_vectors(integer, jsonb, text[]) is 'Stores texts with their vectors, before any document shows them.';
grant execute on function rag.put_vectors(integer, jsonb, text[]) to service_role, atlas_rag;

create function rag.claim_index(p_index integer, p_owner uuid, p_lease interval) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  update rag.embedding_index s set lease_owner = p_owner, lease_expires_at = clock_timestamp() + atlas.bounded(p_lease, '0', '1 hour')
  where s.id = p_index and s.state <> 'retired'
    and (s.lease_owner = p_owner or coalesce(s.lease_expires_at, '-infinity') < clock_timestamp());
  return found;
end
$$;
comment on function rag.claim_index(integer, uuid, interval) is 'Claims (or extends) the right to fill an embedding index.';
grant execute on function rag.claim_index(integer, uuid, interval) to service_role, atlas_rag;

create function rag.serve_index(p_index integer) returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  found rag.embedding_index;
  old rag.embedding_index;
begin
  perform pg_advisory_xact_lock(hashtext('rag.embedding_index'));
  select s.* into found from rag.embedding_index s where s.id = p_index and s.state = 'building';
  if found.id is null then
    return exists (select from rag.embedding_index s where s.id = p_index and s.state = 'serving');
  end if;
  -- nobody adds a chunk between the look and the switch
  lock table rag.chunk in share mode;
  if exists (select from rag.missing_vectors(p_index, 0, 1)) then
    return false;
  end if;
  select s.* into old from rag.embedding_index s where s.state = 'serving';
  perform rag.retire_index(old.id) where old.id is not null;
  update rag.embedding_index s set state = 'serving', lease_owner = null, lease_expires_at = null where s.id = p_index;
  update rag.epoch e set number = e.number + 1;
  return true;
end
$$;
comment on function rag.serve_index(integer) is
  'Lets a complete embedding index serve instead of the old one, in one short transaction. False: passages are still missing.';
grant execute on function rag.serve_index(integer) to service_role, atlas_rag;

create function rag.set_threshold(p_index integer, p_threshold real) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  update rag.embedding_index i set threshold = p_threshold where i.id = p_index;
  -- what was found with another threshold is stale
  if found then
    perform rag.advance_epochs();
  end if;
end
$$;
comment on function rag.set_threshold(integer, real) is 'Keeps a calibrated relevancy threshold, which overrides the setting.';
grant execute on function rag.set_threshold(integer, real) to service_role;

create function rag.record_usage(p_index integer, p_purpose text, p_texts bigint, p_tokens bigint) returns void
language sql security definer set search_path = ''
as $$
  insert into rag.usage as u (day, index_id, purpose, texts, tokens, usd)
  select atlas.today(), s.id, p_purpose, p_texts, p_tokens, p_tokens * s.usd_per_million / 1000000
  from rag.embedding_index s where s.id = p_index
  on conflict (day, index_id, purpose) do update set texts = u.texts + excluded.texts, tokens = u.tokens + excluded.tokens,
    usd = case when u.usd is null and excluded.usd is null then null else coalesce(u.usd, 0) + coalesce(excluded.usd, 0) end
$$;
comment on function rag.record_usage(integer, text, bigint, bigint) is 'Accounts for what was embedded.';
grant execute on function rag.record_usage(integer, text, bigint, bigint) to service_role, atlas_rag, atlas_worker;

revoke execute on all functions in schema atlas, rag from public;
