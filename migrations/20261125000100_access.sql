-- Access: the schemas, the worker's role, who is calling, projects and who belongs to them.
--
-- Privilege first: nothing in these schemas is granted to public, every function pins search_path, every table has
-- row level security. Functions that change state are security definer and owned by the role that migrates, which on
-- Supabase (postgres) and on the embedded stack bypasses row level security.

create schema if not exists extensions;
create extension if not exists vector with schema extensions;

create schema if not exists atlas;
create schema if not exists rag;
comment on schema atlas is 'The queue, the money, the audit and the outbox of Atlas. Changed by functions only.';
comment on schema rag is 'What the team already knows: documents, their chunks, and jobs that index them.';

revoke all on schema atlas, rag from public;
-- Functions are born with EXECUTE for PUBLIC. That default belongs to the whole database, where others have functions of their
-- own: it stays, and each migration takes the right from its own functions in its last line.

-- The worker may call functions and nothing else. Its password is set outside the migrations
-- (`atlas migrate --worker-password-file`, or `alter role atlas_worker password …`).
do $$
begin
  if to_regrole('atlas_worker') is null then
    create role atlas_worker login noinherit;
  end if;
  -- the knowledge service: it reads documents, indexes by functions, and searches for people as `authenticated`
  if to_regrole('atlas_rag') is null then
    create role atlas_rag login noinherit;
  end if;
  begin
    grant authenticated to atlas_rag;
  exception when insufficient_privilege then
    raise warning 'atlas_rag cannot search for people: as a superuser run "grant authenticated to atlas_rag"';
  end;
end
$$;

-- With search_path = '' Postgres still looks for types in pg_temp first. A worker that could create temporary objects could
-- slip a type of its own under a security definer function and act as its owner. So PUBLIC loses the right, and every other
-- role that is there keeps it by name (docs/decisions/0002-temporary-objects.md).
do $$
declare
  other name;
begin
  execute format('revoke temporary on database %I from public', current_database());
  for other in select r.rolname from pg_roles r where r.rolname not in ('atlas_worker', 'atlas_rag') and r.rolname !~ '^pg_' loop
    execute format('grant temporary on database %I to %I', current_database(), other);
  end loop;
  if has_database_privilege('atlas_worker', current_database(), 'temporary') then
    raise warning 'atlas_worker and atlas_rag may create temporary objects: as the owner of the database run "revoke temporary on database % from public"',
      current_database();
  end if;
end
$$;
comment on role atlas_worker is 'Atlas workers connect as this role: it may call the functions of atlas and rag.';
comment on role atlas_rag is 'The knowledge service connects as this role: it indexes and searches documents, and sees nothing of tasks and money.';

grant usage on schema atlas to authenticated, service_role, atlas_worker, atlas_rag;
grant usage on schema rag to authenticated, service_role, atlas_worker, atlas_rag;

-- Who is calling. Inside a security definer function current_user is the owner; the setting `role` still names the
-- role that PostgREST (or psql) switched to.
create function atlas.caller_role() returns name
language sql stable set search_path = ''
as $$
  select coalesce(nullif(current_setting('role', true), 'none'), session_user)::name
$$;
comment on function atlas.caller_role() is 'The role the caller acts as, also inside security definer functions.';
grant execute on function atlas.caller_role() to authenticated, service_role, atlas_worker;

create function atlas.is_service() returns boolean
language sql stable set search_path = ''
as $$
  select coalesce(auth.role(), '') in ('', 'service_role')
     and atlas.caller_role() not in ('anon', 'authenticated', 'authenticator')
     and pg_has_role(atlas.caller_role(), 'service_role', 'usage')
$$;
comment on function atlas.is_service() is
  'True for the service role and for roles that inherit it (postgres); false for people, whatever their token says.';
grant execute on function atlas.is_service() to authenticated, service_role, atlas_worker;

create function atlas.uid() returns uuid
language sql stable set search_path = ''
as $$
  -- anybody who connects to Postgres may set request.jwt.claims: a token's user counts where PostgREST has checked it
  select case when atlas.caller_role() = 'authenticated' then auth.uid() end
$$;
comment on function atlas.uid() is 'The user of a login; null for every role but authenticated, whatever request.jwt.claims says.';
grant execute on function atlas.uid() to authenticated, service_role;

-- UUIDv7, which Postgres has from 18 on: ids that are made together lie together in an index, where random ones touch a page each.
create function atlas.new_id() returns uuid
language plpgsql volatile parallel safe set search_path = ''
as $$
begin
  -- 48 bits of milliseconds before the random ones; bits 52 and 53 turn version 4 into 7
  return encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) placing
    substring(int8send(floor(extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 52, 1), 53, 1), 'hex')::uuid;
end
$$;
comment on function atlas.new_id() is 'A new id: a UUIDv7, which sorts by the time at which it was made.';
grant execute on function atlas.new_id() to authenticated, service_role;

create function atlas.bounded(p_value interval, p_least interval, p_most interval) returns interval
language sql immutable set search_path = ''
as $$ select greatest(p_least, least(coalesce(p_value, p_least), p_most)) $$;
comment on function atlas.bounded(interval, interval, interval) is 'The value, or the nearer bound: a caller''s interval is not taken as it comes.';

create function atlas.actor() returns text
language sql stable set search_path = ''
as $$
  select coalesce('user:' || atlas.uid()::text, 'role:' || atlas.caller_role())
$$;
comment on function atlas.actor() is 'Who is calling, for the audit: the user of a login, else the database role.';

create table atlas.project (
  id uuid primary key default atlas.new_id(),
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
  created_at timestamptz not null default now()
);
comment on table atlas.project is 'A team. Tasks, documents and budgets belong to one; members read all of it.';
comment on column atlas.project.id is 'Its id.';
comment on column atlas.project.name is 'Lower case letters, digits, dot, dash and underscore; at most 63.';
comment on column atlas.project.created_at is 'When the row was written.';
insert into atlas.project (id, name) values ('00000000-0000-0000-0000-000000000001', 'default');

create table atlas.member (
  project_id uuid not null references atlas.project (id) on delete cascade,
  user_id uuid not null,
  role text not null default 'member' check (role in ('member', 'admin')),
  created_at timestamptz not null default now(),
  primary key (project_id, user_id)
);
create index member_user on atlas.member (user_id);
comment on table atlas.member is 'Which user belongs to which project.';
comment on column atlas.member.project_id is 'The project it belongs to.';
comment on column atlas.member.user_id is 'auth.users.id of the person.';
comment on column atlas.member.role is 'member reads the project; admin is kept for people''s own policies.';
comment on column atlas.member.created_at is 'When the row was written.';

create function atlas.my_projects() returns setof uuid
language sql stable security definer set search_path = ''
as $$
  select m.project_id from atlas.member m where m.user_id = atlas.uid()
$$;
comment on function atlas.my_projects() is 'The projects of the calling user; policies call it once a statement.';
grant execute on function atlas.my_projects() to authenticated, service_role;

alter table atlas.project enable row level security;
create policy "the knowledge service reads all of it" on atlas.project for select to atlas_rag using (true);
comment on policy "the knowledge service reads all of it" on atlas.project is 'Row level security: the knowledge service reads all of it.';
grant select on atlas.project to atlas_rag;
create policy "people see their projects and the default one" on atlas.project for select to authenticated
  using (id in (select atlas.my_projects()) or id = '00000000-0000-0000-0000-000000000001');
comment on policy "people see their projects and the default one" on atlas.project is 'Row level security: people see their projects and the default one.';
grant select on atlas.project to authenticated;
grant select, insert, update, delete on atlas.project to service_role;

alter table atlas.member enable row level security;
create policy "members see who else is in their projects" on atlas.member for select to authenticated
  using (project_id in (select atlas.my_projects()));
comment on policy "members see who else is in their projects" on atlas.member is 'Row level security: members see who else is in their projects.';
grant select on atlas.member to authenticated;
grant select, insert, update, delete on atlas.member to service_role;

create table atlas.identity (
  provider text not null check (provider in ('github', 'slack')),
  external_id text not null check (external_id <> ''),
  user_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (provider, external_id)
);
comment on table atlas.identity is 'Maps people who write from outside (GitHub, Slack) to users.';
comment on column atlas.identity.provider is 'github or slack.';
comment on column atlas.identity.external_id is 'Who it is there.';
comment on column atlas.identity.user_id is 'auth.users.id of the person.';
comment on column atlas.identity.created_at is 'When the row was written.';
alter table atlas.identity enable row level security;
create policy "people see their own identities" on atlas.identity for select to authenticated
  using (user_id = (select auth.uid()));
comment on policy "people see their own identities" on atlas.identity is 'Row level security: people see their own identities.';
grant select on atlas.identity to authenticated;
grant select, insert, update, delete on atlas.identity to service_role;

revoke execute on all functions in schema atlas, rag from public;
