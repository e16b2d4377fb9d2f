-- Jobs that index in the background: documents that were sent to the RAG service, or a repository that changed (docs.added). Claimed
-- with leases; a document is done in the transaction that shows its chunks.

create table rag.embed_job (
  id uuid primary key default atlas.new_id(),
  project_id uuid references atlas.project (id) on delete cascade,
  sender uuid,
  in_id bigint unique,
  repository text,
  ref text,
  changed text[] not null default '{}',
  removed text[] not null default '{}',
  state text not null default 'queued' check (state in ('queued', 'running', 'completed', 'failed')),
  total integer not null default 0 check (total >= 0),
  done integer not null default 0 check (done >= 0 and done <= total),
  errors jsonb not null default '[]' check (jsonb_typeof(errors) = 'array'),
  lease_owner uuid,
  lease_expires_at timestamptz,
  attempts integer not null default 0 check (attempts >= 0),
  run_after timestamptz not null default now(),
  last_error text,
  created_at timestamptz not null default now(),
  finished_at timestamptz
);
create index embed_job_due on rag.embed_job (run_after) where state in ('queued', 'running');
comment on table rag.embed_job is 'A batch of documents to index in the background.';
comment on column rag.embed_job.id is 'What `GET /v1/jobs/{id}` asks for.';
comment on column rag.embed_job.project_id is 'Whose documents; null: shared.';
comment on column rag.embed_job.state is 'queued, running, completed, or failed for good.';
comment on column rag.embed_job.total is 'How many documents; of a repository, once it was read.';
comment on column rag.embed_job.done is 'How many of them are indexed, unchanged, or skipped with an error.';
comment on column rag.embed_job.errors is 'What could not be indexed, and why.';
comment on column rag.embed_job.lease_expires_at is 'When another process may go on with it.';
comment on column rag.embed_job.created_at is 'When it was asked for.';
comment on column rag.embed_job.repository is 'The Git URL to index; null: the documents are items.';
comment on column rag.embed_job.ref is 'The commit or branch; null: the default branch.';
comment on column rag.embed_job.changed is 'Paths that changed, as the message says; all files are compared by their hash.';
comment on column rag.embed_job.removed is 'Paths that went, as the message says; whatever is no longer there is dropped.';
comment on column rag.embed_job.lease_owner is 'Who works on it.';
comment on column rag.embed_job.attempts is 'How often somebody began.';
comment on column rag.embed_job.run_after is 'Not before: failures of the embedder wait longer each time.';
comment on column rag.embed_job.sender is 'The user who asked, and may see it; null: the service role.';
comment on column rag.embed_job.in_id is 'The message on architect_in that asked for it.';
comment on column rag.embed_job.finished_at is 'When it ended.';
comment on column rag.embed_job.last_error is 'Why it waits, or failed.';
alter table rag.embed_job enable row level security;
create policy "the knowledge service reads all of it" on rag.embed_job for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on rag.embed_job is 'Row level security: the knowledge service reads all of it.';
grant select on rag.embed_job to atlas_rag;
create policy "people see the jobs they asked for" on rag.embed_job for select to authenticated using (sender = (select auth.uid()));
comment on policy "people see the jobs they asked for" on rag.embed_job is 'Row level security: people see the jobs they asked for.';
grant select, insert, update, delete on rag.embed_job to service_role;
grant select on rag.embed_job to authenticated;

create table rag.embed_item (
  job_id uuid not null references rag.embed_job (id) on delete cascade,
  seq integer not null check (seq >= 0),
  source text not null check (source <> '' and length(source) <= 2000),
  kind text,
  text text not null,
  done boolean not null default false,
  primary key (job_id, seq)
);
comment on table rag.embed_item is 'The documents of a job. Their texts go when they are done.';
comment on column rag.embed_item.job_id is 'Of which job.';
comment on column rag.embed_item.seq is 'Its place in the batch.';
comment on column rag.embed_item.source is 'How sources name it.';
comment on column rag.embed_item.kind is 'How it is read; null: by its name.';
comment on column rag.embed_item.text is 'What it says; empty once it is done.';
comment on column rag.embed_item.done is 'Indexed, unchanged or skipped.';
alter table rag.embed_item enable row level security;
create policy "the knowledge service reads all of it" on rag.embed_item for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on rag.embed_item is 'Row level security: the knowledge service reads all of it.';
grant select on rag.embed_item to atlas_rag;
grant select, insert, update, delete on rag.embed_item to service_role;

create function rag.add_job(p_items jsonb, p_project uuid default null, p_sender uuid default null) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
  job uuid;
begin
  insert into rag.embed_job (project_id, sender, total) values (p_project, p_sender, jsonb_array_length(p_items)) returning id into job;
  insert into rag.embed_item (job_id, seq, source, kind, text)
  select job, i.place - 1, i.item ->> 'source', i.item ->> 'kind', i.item ->> 'text'
  from jsonb_array_elements(p_items) with ordinality as i (item, place);
  return job;
end
$$;
comment on function rag.add_job(jsonb, uuid, uuid) is 'A job over documents {source, kind, text}; answers its id.';
grant execute on function rag.add_job(jsonb, uuid, uuid) to service_role, atlas_rag;

create function rag.claim_job(p_owner uuid, p_lease interval) returns setof rag.embed_job
language sql security definer set search_path = ''
as $$
  -- a newer job of the same repository reads all of it: an older one that comes late would bring back what was
  update rag.embed_job j set state = 'completed', finished_at = now(), last_error = 'a newer job of this repository stands for it'
  where j.id in (
    select o.id from rag.embed_job o
    where o.repository is not null
      and (o.state = 'queued' or (o.state = 'running' and o.lease_expires_at < clock_timestamp()))
      and exists (select from rag.embed_job w where w.repository = o.repository and w.project_id is not distinct from o.project_id
        and (w.created_at, w.id) > (o.created_at, o.id) and w.state <> 'failed')
    for update skip locked);
  update rag.embed_job j set state = 'running', lease_owner = p_owner, lease_expires_at = clock_timestamp() + atlas.bounded(p_lease, '0', '1 hour'),
    attempts = j.attempts + 1
  where j.id = (
    select d.id from rag.embed_job d
    where d.run_after <= now()
      and not exists (select from rag.embed_job r where r.repository = d.repository and r.id <> d.id
        and r.project_id is not distinct from d.project_id and r.state = 'running' and r.lease_expires_at >= clock_timestamp())
      and (d.state = 'queued' or (d.state = 'running' and d.lease_expires_at < clock_timestamp()))
    order by d.run_after, d.id limit 1 for update skip locked)
  returning j.*
$$;
comment on function rag.claim_job(uuid, interval) is 'The next job that is due, or whose process was lost; none where there is none.';
grant execute on function rag.claim_job(uuid, interval) to service_role, atlas_rag;

create function rag.hold_job(p_job uuid, p_owner uuid) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform from rag.embed_job j where j.id = p_job and j.state = 'running' and j.lease_owner = p_owner for update;
  if not found then
    raise exception using errcode = 'AT002', message = format('the lease of job %s is lost', p_job),
      hint = 'another process goes on with it';
  end if;
end
$$;
comment on function rag.hold_job(uuid, uuid) is 'Raises AT002 where somebody else has the job now. Internal.';

create function rag.extend_job(p_job uuid, p_owner uuid, p_lease interval, p_total integer default null, p_done integer default null)
returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform rag.hold_job(p_job, p_owner);
  update rag.embed_job j set lease_expires_at = clock_timestamp() + atlas.bounded(p_lease, '0', '1 hour'), total = coalesce(p_total, j.total),
    done = coalesce(p_done, j.done) where j.id = p_job;
end
$$;
comment on function rag.extend_job(uuid, uuid, interval, integer, integer) is 'Extends the lease, and says how far it is.';
grant execute on function rag.extend_job(uuid, uuid, interval, integer, integer) to service_role, atlas_rag;

create function rag.finish_item(p_job uuid, p_owner uuid, p_seq integer, p_error text default null) returns void
language plpgsql security definer set search_path = ''
as $$
begin
  perform rag.hold_job(p_job, p_owner);
  update rag.embed_item i set done = true, text = '' where i.job_id = p_job and i.seq = p_seq and not i.done;
  if found then
    -- a job that gets on is not given up
    update rag.embed_job j set done = j.done + 1, attempts = 0,
      errors = case when p_error is null then j.errors else j.errors || jsonb_build_array(p_error) end where j.id = p_job;
  end if;
end
$$;
comment on function rag.finish_item(uuid, uuid, integer, text) is
  'A document of a job is done, in the transaction that shows it; with an error: it is skipped.';
grant execute on function rag.finish_item(uuid, uuid, integer, text) to service_role, atlas_rag;

create function rag.end_job(p_job uuid, p_owner uuid, p_state text, p_error text default null, p_wait interval default null,
  p_errors text[] default '{}') returns void
language plpgsql security definer set search_path = ''
as $$
declare
  job rag.embed_job;
begin
  perform rag.hold_job(p_job, p_owner);
  update rag.embed_job j set state = p_state, lease_owner = null, lease_expires_at = null, last_error = p_error,
    errors = j.errors || to_jsonb(p_errors),
    run_after = now() + coalesce(p_wait, '0'), finished_at = case when p_state = 'queued' then null else now() end
  where j.id = p_job returning j.* into job;
  -- who sent docs.added hears on the bus that nothing came of it
  if p_state = 'failed' and job.in_id is not null then
    insert into public.architect_out (data, task_id, project_id)
    select jsonb_build_object('task_id', i.task_id, 'role', 'rag', 'msg_type', 'control', 'content', coalesce(p_error, 'it failed'),
      'metadata', jsonb_build_object('tokens', 0, 'model', null, 'parent_id', null, 'status', 'failed', 'schema_ver', 2,
        'kind', 'docs.added', 'error', jsonb_build_object('code', 'docs_added', 'message', coalesce(p_error, 'it failed')))),
      i.task_id, job.project_id
    from public.architect_in i where i.id = job.in_id;
  end if;
end
$$;
comment on function rag.end_job(uuid, uuid, text, text, interval, text[]) is
  'completed, failed, or queued again after a wait: the embedder was away, and the job goes on where it was. A docs.added that
failed is answered on architect_out.';
grant execute on function rag.end_job(uuid, uuid, text, text, interval, text[]) to service_role, atlas_rag;

-- docs.added on the bus becomes a job in the transaction that brought it. Only the service role may send control messages.
create function rag.queue_docs_added() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  message record;
  command jsonb;
  named text;
  project uuid;
begin
  for message in select n.id, n.data, n.sender from new_rows n
    where n.data ->> 'role' = 'rag' and n.data ->> 'msg_type' = 'control' order by n.id
  loop
    begin
      command := (message.data ->> 'content')::jsonb;
    exception when data_exception then
      perform atlas.refuse('content', 'is not JSON', 'see docs/event_examples/docs.added.json');
    end;
    if command ->> 'command' is distinct from 'docs.added' then
      continue;
    end if;
    if coalesce(command ->> 'repository', '') !~ '^https?://\S+$' or length(command ->> 'repository') > 1000
       or coalesce(command ->> 'ref', 'main') !~ '^[\w][\w./-]{0,199}$'
       or jsonb_typeof(coalesce(command -> 'changed', '[]')) <> 'array' or jsonb_typeof(coalesce(command -> 'removed', '[]')) <> 'array' then
      perform atlas.refuse('content', 'is not a docs.added command', 'see docs/event_examples/docs.added.json');
    end if;
    named := message.data #>> '{metadata,project}';
    select p.id into project from atlas.project p where p.id::text = named or p.name = named;
    if named is not null and project is null then
      perform atlas.refuse('metadata.project', format('%L is not a project', named),
        'send a project''s id or name, or leave it out: then everybody finds these documents');
    end if;
    insert into rag.embed_job (repository, ref, changed, removed, in_id, project_id)
    values (regexp_replace(command ->> 'repository', '(\.git)?/*$', ''), command ->> 'ref',
      array(select jsonb_array_elements_text(coalesce(command -> 'changed', '[]'))),
      array(select jsonb_array_elements_text(coalesce(command -> 'removed', '[]'))), message.id, project);
  end loop;
  return null;
end
$$;
comment on function rag.queue_docs_added() is 'Makes a job of each docs.added message.';

create trigger queue_docs_added after insert on public.architect_in
  referencing new table as new_rows for each statement execute function rag.queue_docs_added();
comment on trigger queue_docs_added on public.architect_in is 'Makes a job of each docs.added message.';

create function rag.record_repository(p_repository text, p_ref text, p_project uuid) returns void
language sql security definer set search_path = ''
as $$
  insert into rag.embed_job (repository, ref, project_id, state, finished_at)
  values (p_repository, p_ref, p_project, 'completed', now())
$$;
comment on function rag.record_repository(text, text, uuid) is
  'Remembers a repository that was indexed by hand, so that the nightly refresh looks at it again.';
grant execute on function rag.record_repository(text, text, uuid) to service_role, atlas_rag;

create function rag.refresh_all() returns integer
language plpgsql security definer set search_path = ''
as $$
declare
  n integer;
begin
  insert into rag.embed_job (repository, ref, project_id)
  select distinct on (j.project_id, j.repository) j.repository,
    case when j.ref ~ '^[0-9a-f]{40}$' then null else j.ref end, j.project_id
  from rag.embed_job j
  where j.repository is not null and j.state = 'completed'
    and not exists (select from rag.embed_job w where w.repository = j.repository
      and w.project_id is not distinct from j.project_id and w.state in ('queued', 'running'))
  order by j.project_id, j.repository, j.created_at desc;
  get diagnostics n = row_count;
  -- nobody asks for these any more
  delete from rag.embed_job j where j.finished_at < now() - interval '30 days' and exists (
    select from rag.embed_job w where w.repository is not distinct from j.repository and w.created_at > j.created_at);
  perform rag.collect_passages();
  return n;
end
$$;
comment on function rag.refresh_all() is
  'The nightly refresh: a job for each repository that was indexed before; what did not change is not embedded again.';
grant execute on function rag.refresh_all() to service_role, atlas_rag;

create function rag.index_status() returns jsonb
language sql stable security definer set search_path = ''
as $$
  select jsonb_build_object(
    'documents', (select count(*) from rag.document), 'chunks', (select count(*) from rag.chunk),
    'passages', (select count(*) from rag.passage),
    'jobs_waiting', (select count(*) from rag.embed_job j where j.state in ('queued', 'running')),
    'jobs_failed', (select count(*) from rag.embed_job j where j.state = 'failed'),
    'embedding_indexes', (
      select coalesce(jsonb_agg(jsonb_build_object('embedder', i.embedder, 'model', i.model, 'dimensions', i.dimensions,
        'state', i.state, 'threshold', i.threshold,
        'vectors', (select count(*) from rag.embedding e where e.index_id = i.id),
        'tokens', (select coalesce(sum(u.tokens), 0) from rag.usage u where u.index_id = i.id),
        'usd', (select sum(u.usd) from rag.usage u where u.index_id = i.id)) order by i.id), '[]')
      from rag.embedding_index i))
$$;
comment on function rag.index_status() is 'What is indexed, by which embedder, what it cost, and which jobs wait: `atlas rag status`.';
grant execute on function rag.index_status() to service_role, atlas_rag;

revoke execute on all functions in schema atlas, rag from public;
