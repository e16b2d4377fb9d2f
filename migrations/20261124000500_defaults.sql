-- Atlas shares a database. An earlier form of the first migration changed the default rights of all functions that its owner
-- makes, in every schema. This gives them back where that form was applied, and touches nothing elsewhere: a team may have
-- taken the right for reasons of its own.
do $$
begin
  if to_regclass('supabase_migrations.schema_migrations') is not null then
    if exists (select from supabase_migrations.schema_migrations m where m.version = '20261101000100'
               and array_to_string(m.statements, ' ') like '%alter default privileges revoke execute on functions from public%') then
      alter default privileges grant execute on functions to public;
    end if;
  end if;
end
$$;
