-- What people do with what the team knows, under their login: in schema atlas, which REST exposes; rag is not. They write into
-- projects of theirs alone; what all share is an operator's.

create function atlas.require_member(p_project uuid) returns void
language plpgsql stable security definer set search_path = ''
as $$
begin
  if atlas.is_service() then
    return;
  end if;
  if p_project is null then
    perform atlas.refuse('project', 'is missing', 'name one of yours; what everybody shares is an operator''s to index', 'AT006');
  end if;
  if not exists (select from atlas.my_projects() m where m = p_project) then
    perform atlas.refuse('project', 'is not one of yours', '`atlas whoami` lists them', 'AT006');
  end if;
end
$$;
comment on function atlas.require_member(uuid) is 'Refuses (AT006) a caller who is not a member of the project. Internal.';

create function atlas.search_knowledge(p_query text, p_top_k integer default 10, p_project uuid default null, p_collapse boolean default true)
returns table (chunk_id bigint, source text, title text, kind text, commit text, heading text, start_line integer,
  end_line integer, text text, tokens integer, sha256 bytea, similarity real, similarity_kind text, score real)
language sql stable rows 20 set search_path = ''
as $$
  select * from rag.search(left(p_query, 8000), least(greatest(p_top_k, 1), 200), p_project, p_collapse)
$$;
comment on function atlas.search_knowledge(text, integer, uuid, boolean) is
  'Chunks that the caller may read, best first, by their words: rag.search, where REST finds it.';
grant execute on function atlas.search_knowledge(text, integer, uuid, boolean) to authenticated, service_role;

create function atlas.known_documents(p_project uuid, p_sources text[]) returns table (source text, content_sha256 bytea)
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform atlas.require_member(p_project);
  return query select * from rag.known_documents(p_project, p_sources);
end
$$;
comment on function atlas.known_documents(uuid, text[]) is 'Hashes of a project''s documents, for its members.';
grant execute on function atlas.known_documents(uuid, text[]) to authenticated, service_role;

create function atlas.index_document(p_project uuid, p_source text, p_title text, p_kind text, p_sha256 bytea, p_chunks jsonb,
  p_commit text default null, p_repository text default null) returns integer
language plpgsql security definer set search_path = ''
as $$
begin
  perform atlas.require_member(p_project);
  if jsonb_typeof(p_chunks) is distinct from 'array' or jsonb_array_length(p_chunks) > 2000 or octet_length(p_chunks::text) > 4194304 then
    perform atlas.refuse('chunks', 'are more than 2,000, or 4 MiB', 'split the document');
  end if;
  if length(p_source) > 2000 or length(p_title) > 2000 or length(p_repository) > 2000 then
    perform atlas.refuse('source', 'is longer than 2,000 characters', 'index it under a shorter name');
  end if;
  if (select count(*) from rag.document d where d.project_id = p_project) >= 50000 then
    perform atlas.refuse('project', 'has 50,000 documents', 'remove some: `atlas index list`');
  end if;
  return rag.put_document(p_project, p_source, p_title, p_kind, p_sha256, p_chunks, p_commit, p_repository);
end
$$;
comment on function atlas.index_document(uuid, text, text, text, bytea, jsonb, text, text) is
  'Indexes a document of a project, for its members; vectors come with the next run of an operator''s.';
grant execute on function atlas.index_document(uuid, text, text, text, bytea, jsonb, text, text) to authenticated, service_role;

create function atlas.stale_documents(p_project uuid, p_under text[], p_keep text[]) returns text[]
language plpgsql stable security definer set search_path = ''
as $$
begin
  perform atlas.require_member(p_project);
  return array(select s.source from rag.stale_documents(p_project, p_under, p_keep) s);
end
$$;
comment on function atlas.stale_documents(uuid, text[], text[]) is 'Documents of a project under these folders that are none of those that are there, for its members.';
grant execute on function atlas.stale_documents(uuid, text[], text[]) to authenticated, service_role;

create function atlas.drop_documents(p_project uuid, p_sources text[]) returns integer
language plpgsql security definer set search_path = ''
as $$
begin
  perform atlas.require_member(p_project);
  return rag.drop_documents(p_project, p_sources);
end
$$;
comment on function atlas.drop_documents(uuid, text[]) is 'Drops documents of a project, for its members; says how many there were.';
grant execute on function atlas.drop_documents(uuid, text[]) to authenticated, service_role;

create function atlas.list_repositories() returns table (project text, repository text, documents bigint, chunks bigint, indexed_at timestamptz, commit text)
language sql stable set search_path = ''
as $$
  select p.name, d.repository, count(*), sum(d.chunks), max(d.indexed_at), (array_agg(d.commit order by d.indexed_at desc))[1]
  from rag.document d left join atlas.project p on p.id = d.project_id
  group by 1, 2 order by 1 nulls first, 2 nulls last
$$;
comment on function atlas.list_repositories() is
  'What is indexed, by repository and project, as far as the caller may see it. Project null: shared; repository null: sent one by one.';
grant execute on function atlas.list_repositories() to authenticated, service_role;

create function atlas.names_of(p_users uuid[]) returns table (user_id uuid, email text)
language sql stable security definer set search_path = ''
as $$
  select u.id, u.email::text from auth.users u
  where u.id = any (p_users) and (atlas.is_service() or u.id = atlas.uid()
    or exists (select from atlas.member m where m.user_id = u.id and m.project_id in (select atlas.my_projects())))
$$;
comment on function atlas.names_of(uuid[]) is 'E-mail addresses of users: of the caller, and of those who share a project with them.';
grant execute on function atlas.names_of(uuid[]) to authenticated, service_role;

revoke execute on all functions in schema atlas, rag from public;
