-- A question may ask for a kind of reply: a record (adr), a short answer, a comparison, a review, a plan.
--
-- locks: none

create or replace function atlas.check_message(message jsonb) returns void
language plpgsql stable set search_path = ''
as $$
begin
  if jsonb_typeof(message) is distinct from 'object' then
    perform atlas.refuse('data', 'must be one JSON object', 'see docs/event_examples/chat.json');
  end if;
  if octet_length(message::text) > 1048576 then
    perform atlas.refuse('data', 'is larger than 1 MiB', 'index long documents with `atlas index` and ask about them');
  end if;
  -- what a client cannot read would fail in whoever reads it, and with it all that is read together
  if jsonb_path_exists(message, 'strict $.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))') then
    perform atlas.refuse('data', 'holds a number that is out of range', 'send numbers of at most 1e300, or send it as a string');
  end if;
  if jsonb_path_exists(message, 'strict $.**{65 to last}') then
    perform atlas.refuse('data', 'is nested more than 64 levels deep', 'send a flatter object, or the deep part as a string');
  end if;
  if atlas.as_uuid(message ->> 'task_id') is null then
    perform atlas.refuse('task_id', case when message ? 'task_id' then format('%s is not a UUID', message -> 'task_id')
      else 'is missing' end, 'send a UUID of your own making, such as atlas.new_id()');
  end if;
  if jsonb_typeof(message -> 'role') is distinct from 'string' or message ->> 'role' = '' then
    perform atlas.refuse('role', 'is missing', 'send "architect"');
  end if;
  -- a message of another role is somebody else's, and is kept; a misspelt one would wait for ever
  if message ->> 'role' not in ('architect', 'rag') and atlas.nearest(message ->> 'role', array['architect', 'rag']) is not null then
    perform atlas.refuse('role', format('%s is not known', message -> 'role'),
      format('did you mean "%s"?', atlas.nearest(message ->> 'role', array['architect', 'rag'])));
  end if;
  if coalesce(message ->> 'msg_type', '') not in ('chat', 'spec', 'control') then
    perform atlas.refuse('msg_type', case when message ? 'msg_type'
      then format('%s is not known', message -> 'msg_type') else 'is missing' end,
      'send "chat" for a question, "control" for a command');
  end if;
  if jsonb_typeof(message -> 'content') is distinct from 'string' then
    perform atlas.refuse('content', 'must be a string', 'send the question as text');
  end if;
  perform atlas.check_metadata(message -> 'metadata');
  if message ->> 'role' = 'architect' and message ->> 'msg_type' = 'chat' and message #>> '{metadata,kind}' not in ('adr', 'answer', 'comparison', 'review', 'plan') then
    perform atlas.refuse('metadata.kind', format('%s is not known', message #> '{metadata,kind}'),
      'send "adr", "answer", "comparison", "review" or "plan", or leave it out');
  end if;
  if message ->> 'role' <> 'architect' then
    return;
  end if;
  if message ->> 'msg_type' = 'spec' then
    perform atlas.refuse('msg_type', '"spec" is what Atlas answers', 'send "chat" for a question');
  end if;
  if message ->> 'msg_type' = 'control' then
    perform atlas.check_control(message);
  elsif btrim(message ->> 'content', E' \t\r\n') = '' then
    perform atlas.refuse('content', 'is empty', 'send the question as text');
  end if;
end
$$;
comment on function atlas.check_message(jsonb) is
  'Refuses (AT001) a message that breaks the contract, naming the field and the fix.';
grant execute on function atlas.check_message(jsonb) to service_role;

revoke execute on function atlas.check_message(jsonb) from public;
