-- What tests add to the template: the end of one task, by the function that completes many.
create schema testing;
grant usage on schema testing to public;

create function testing.complete_task(p_attempt_id uuid, p_content text, p_metadata jsonb default '{}',
  p_usages jsonb default '{}', p_model text default null) returns uuid
language plpgsql
as $$
declare
  completed uuid;
begin
  select c into completed from atlas.complete_tasks(jsonb_build_array(jsonb_build_object('attempt_id', p_attempt_id,
    'content', p_content, 'metadata', p_metadata, 'usages', p_usages, 'model', p_model))) c;
  if completed is null then
    perform atlas.raise_lost(p_attempt_id);
  end if;
  return completed;
end
$$;
