-- A question may ask for a kind of reply: a record (adr), a short answer, a comparison, a review, a plan.
--
-- locks: none

create or replace function atlas.check_metadata(metadata jsonb) returns void
language plpgsql stable set search_path = ''
as $$
declare
  known constant text[] := array['tokens', 'model', 'parent_id', 'status', 'schema_ver', 'chunk', 'sources', 'usage', 'error', 'priority',
    'reply_to', 'sender_key', 'run_after', 'completion_window', 'kind', 'warnings', 'traceparent', 'project', 'truncated',
    'anew', 'replays', 'revises', 'sections', 'answers', 'ask', 'kind_chosen', 'prompts', 'read_first', 'record', 'claims', 'work_items'];
  kind text;
begin
  if metadata is null then
    return;
  end if;
  if jsonb_typeof(metadata) <> 'object' then
    perform atlas.refuse('metadata', 'must be an object', 'leave it out, or send {"schema_ver": 1}');
  end if;
  -- metadata may carry the command of a control message, with the command's own names
  if not metadata ? 'command' then
    select k into kind from jsonb_object_keys(metadata) k where k <> all (known) and k not like 'x\_%' limit 1;
    if found then
      perform atlas.refuse('metadata.' || left(kind, 100), 'is not known',
        coalesce('did you mean ' || atlas.nearest(kind, known) || '? ', '') || 'names of your own begin with x_');
    end if;
  end if;
  if metadata ? 'schema_ver' and metadata -> 'schema_ver' not in ('1', '2') then
    perform atlas.refuse('metadata.schema_ver', format('%s is not known', metadata -> 'schema_ver'), 'send 1 or 2');
  end if;
  if jsonb_typeof(metadata -> 'parent_id') <> 'null' and atlas.as_uuid(metadata ->> 'parent_id') is null then
    perform atlas.refuse('metadata.parent_id', format('%s is not a UUID', metadata -> 'parent_id'),
      'send the task_id of the earlier question, or null');
  end if;
  if jsonb_typeof(metadata -> 'tokens') not in ('number', 'null') then
    perform atlas.refuse('metadata.tokens', 'must be a number', 'leave it out: Atlas counts tokens itself');
  end if;
  foreach kind in array array['model', 'status', 'kind', 'traceparent', 'project', 'reply_to', 'sender_key'] loop
    if jsonb_typeof(metadata -> kind) not in ('string', 'null') then
      perform atlas.refuse('metadata.' || kind, 'must be a string', 'send a string, or leave it out');
    end if;
  end loop;
  if jsonb_typeof(metadata -> 'completion_window') <> 'null'
     and metadata -> 'completion_window' not in ('"soonest"', '"2h"', '"8h"') then
    perform atlas.refuse('metadata.completion_window', format('%s is not known', metadata -> 'completion_window'),
      'send "2h" or "8h" for a later and cheaper reply, or leave it out');
  end if;
  foreach kind in array array['revises', 'replays'] loop
    if jsonb_typeof(metadata -> kind) <> 'null' and atlas.as_uuid(metadata ->> kind) is null then
      perform atlas.refuse('metadata.' || kind, format('%s is not a UUID', metadata -> kind), 'send the id of the task whose reply it is');
    end if;
  end loop;
  if metadata ->> 'revises' is not null and metadata ->> 'replays' is not null then
    perform atlas.refuse('metadata.replays', 'cannot go with revises', 'send one of them');
  end if;
  if jsonb_typeof(metadata -> 'anew') not in ('boolean', 'null') then
    perform atlas.refuse('metadata.anew', 'must be true or false', 'leave it out: what is decided is not asked again');
  end if;
  if jsonb_typeof(metadata -> 'priority') <> 'null'
     and not (jsonb_typeof(metadata -> 'priority') = 'number' and metadata ->> 'priority' ~ '^-?[0-9]{1,3}$'
              and (metadata ->> 'priority')::int between -100 and 100) then
    perform atlas.refuse('metadata.priority', format('%s is out of range', metadata -> 'priority'),
      'send a whole number from -100 to 100; higher goes first');
  end if;
  if jsonb_typeof(metadata -> 'run_after') <> 'null'
     and (jsonb_typeof(metadata -> 'run_after') <> 'string'
          or metadata ->> 'run_after' !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)$'
          or atlas.as_timestamp(metadata ->> 'run_after') is null) then
    perform atlas.refuse('metadata.run_after', format('%s is not a time', metadata -> 'run_after'),
      'send ISO 8601 with a zone, such as 2026-12-01T09:00:00Z');
  end if;
end
$$;
comment on function atlas.check_metadata(jsonb) is 'Refuses metadata whose known fields have the wrong shape.';

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

revoke execute on function atlas.check_message(jsonb), atlas.check_metadata(jsonb) from public;
