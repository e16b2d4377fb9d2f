-- Projects and members, as operators change them.

create function atlas.user_of(p_who text) returns uuid
language plpgsql stable security definer set search_path = ''
as $$
declare
  found_id uuid := atlas.as_uuid(p_who);
begin
  if found_id is null then
    select u.id into found_id from auth.users u where lower(u.email) = lower(p_who);
  end if;
  if found_id is null then
    raise exception using errcode = 'AT004', message = format('no user %s has signed up', p_who),
      hint = 'they sign up first, or name them by their id';
  end if;
  return found_id;
end
$$;
comment on function atlas.user_of(text) is 'The user of an id or an e-mail address; AT004 where there is none. Internal.';

create function atlas.create_project(p_name text) returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
  found_id uuid;
begin
  if p_name !~ '^[a-z0-9][a-z0-9._-]{0,62}$' then
    perform atlas.refuse('name', format('%L is too long, or has other characters than a-z, 0-9, dots, dashes and underscores', p_name),
      coalesce('use such as ' || nullif(left(trim(both '-._' from regexp_replace(lower(p_name), '[^a-z0-9._]+', '-', 'g')), 63), ''),
        'use such as payments'), 'AT001', 'project');
  end if;
  insert into atlas.project (name) values (p_name) on conflict (name) do nothing returning id into found_id;
  return found_id;
end
$$;
comment on function atlas.create_project(text) is
  'Makes a project; answers its id, or null where its name is taken. Raises AT001 for what cannot be a name.';
grant execute on function atlas.create_project(text) to service_role;

create function atlas.add_member(p_project uuid, p_who text, p_role text default 'member') returns uuid
language plpgsql security definer set search_path = ''
as $$
declare
  v_user constant uuid := atlas.user_of(p_who);
begin
  if not exists (select from auth.users u where u.id = v_user) then
    raise exception using errcode = 'AT004', message = format('no user has the id %s', v_user),
      hint = 'they sign up first; `atlas whoami` shows a user their id';
  end if;
  insert into atlas.member (project_id, user_id, role) values (p_project, v_user, p_role)
  on conflict (project_id, user_id) do update set role = excluded.role;
  return v_user;
end
$$;
comment on function atlas.add_member(uuid, text, text) is
  'Adds a user (id or e-mail address) to a project, or changes their role; answers their id.';
grant execute on function atlas.add_member(uuid, text, text) to service_role;

create function atlas.remove_member(p_project uuid, p_who text) returns boolean
language plpgsql security definer set search_path = ''
as $$
begin
  delete from atlas.member m where m.project_id = p_project and m.user_id = atlas.user_of(p_who);
  return found;
end
$$;
comment on function atlas.remove_member(uuid, text) is 'Removes a user from a project; false where they were not a member.';
grant execute on function atlas.remove_member(uuid, text) to service_role;

create function atlas.list_members(p_project uuid)
returns table (email text, user_id uuid, role text, created_at timestamptz)
language sql stable security definer set search_path = ''
as $$
  select u.email::text, m.user_id, m.role, m.created_at from atlas.member m left join auth.users u on u.id = m.user_id
  where m.project_id = p_project order by u.email, m.user_id
$$;
comment on function atlas.list_members(uuid) is 'The members of a project, with the e-mail addresses that they signed up with.';
grant execute on function atlas.list_members(uuid) to service_role;

revoke execute on all functions in schema atlas, rag from public;
