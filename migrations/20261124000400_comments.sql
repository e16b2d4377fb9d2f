-- What Studio shows beside each column that did not say yet what it is: first what is said of one column, then what a name
-- means wherever it stands. A migration that adds a column comments on it itself.
do $$
declare
  item record;
begin
  for item in
    select v.relation::regclass as relation, v.field, v.meaning from (values
      ('public.architect_in', 'id', 'Order of arrival; not the order of commits.'),
      ('public.architect_in', 'created_at', 'When the message was inserted.'),
      ('public.architect_out', 'id', 'Order of writing; not the order of commits.'),
      ('public.architect_out', 'data', 'The message: task_id, role, msg_type, content, metadata with its status.'),
      ('public.architect_out', 'task_id', 'The task_id of the message that it answers.'),
      ('atlas.attempt', 'id', 'The attempt id: every transition of a running task needs it.'),
      ('atlas.attempt', 'number', 'Which try it is, from 1.'),
      ('atlas.attempt', 'lease_expires_at', 'Until when its worker holds the task without extending the lease.'),
      ('atlas.attempt', 'sequence_number', 'Where the provider''s stream can be taken up.'),
      ('atlas.attempt', 'first_delta_at', 'When its first text was stored.'),
      ('atlas.audit', 'xact', 'The transaction that wrote it; seals cover all below a snapshot.'),
      ('atlas.audit', 'seq', 'Its place in the chain of its task, from 1.'),
      ('atlas.audit', 'actor', 'The role, and the user where there is one.'),
      ('atlas.audit', 'at', 'When it happened.'),
      ('atlas.audit', 'detail', 'What the event says of itself.'),
      ('atlas.audit', 'prev_hash', 'The hash of the row before it in the chain.'),
      ('atlas.audit_checkpoint', 'upto', 'All transactions below this one are sealed.'),
      ('atlas.audit_checkpoint', 'rows', 'How many rows it seals.'),
      ('atlas.audit_checkpoint', 'at', 'When it was sealed.'),
      ('atlas.budget', 'scope', 'global, project:<id> or sender:<key>.'),
      ('atlas.budget_day', 'settled_tokens', 'Tokens of settled calls.'),
      ('atlas.budget_day', 'reserved_tokens', 'Tokens of calls under way, at their worst case.'),
      ('atlas.budget_day', 'settled_usd', 'US dollars of settled calls.'),
      ('atlas.budget_day', 'reserved_usd', 'US dollars of calls under way, at their worst case.'),
      ('atlas.control', 'only_row', 'There is one row.'),
      ('atlas.control', 'paused_at', 'Since when no question is claimed; null while the queue runs.'),
      ('atlas.control', 'paused_by', 'Who paused it.'),
      ('atlas.control', 'reason', 'Why it was paused.'),
      ('atlas.control', 'cache_flushed_at', 'Caches that are older do not count.'),
      ('atlas.destination', 'name', 'What people call it.'),
      ('atlas.destination', 'kind', 'pubsub or webhook.'),
      ('atlas.destination', 'target', 'The topic, or the URL.'),
      ('atlas.destination', 'enabled', 'False: nothing is sent there.'),
      ('atlas.identity', 'provider', 'github or slack.'),
      ('atlas.identity', 'external_id', 'Who it is there.'),
      ('atlas.model', 'name', 'The provider''s name of the model.'),
      ('atlas.model', 'context_tokens', 'Tokens that one call may hold, input and output; null: not known.'),
      ('atlas.model', 'max_output_tokens', 'Tokens that one reply may have; null: not known.'),
      ('atlas.model', 'note', 'For people.'),
      ('atlas.model_price', 'valid_from', 'The UTC day from which the price counts.'),
      ('atlas.model_price', 'input_usd', 'US dollars per million input tokens.'),
      ('atlas.model_price', 'output_usd', 'US dollars per million output tokens.'),
      ('atlas.model_price', 'long_input_factor', 'Multiplies the prices of input above long_input_from.'),
      ('atlas.model_price', 'long_output_factor', 'Multiplies the price of output above long_input_from.'),
      ('atlas.model_state', 'failures', 'Failures in a row.'),
      ('atlas.model_state', 'last_error', 'What the last failure said.'),
      ('atlas.outbox', 'event_kind', 'message (a row of architect_out) or audit_seal.'),
      ('atlas.outbox', 'payload', 'What is sent.'),
      ('atlas.outbox', 'state', 'pending, sent or dead.'),
      ('atlas.outbox', 'lease_id', 'Who sends it now.'),
      ('atlas.outbox', 'lease_expires_at', 'Until when that lease holds.'),
      ('atlas.outbox', 'sent_at', 'When the destination confirmed it.'),
      ('atlas.outbox', 'last_error', 'What the last try said.'),
      ('atlas.queue_status', 'tasks', 'How many tasks.'),
      ('atlas.queue_status', 'oldest', 'When the oldest of them was queued.'),
      ('atlas.queue_status', 'newest', 'When the newest of them was queued.'),
      ('atlas.queue_status', 'next_run_after', 'When the first of those that wait is due.'),
      ('atlas.rejected_message', 'source', 'Where it came from.'),
      ('atlas.rejected_message', 'payload', 'The message as it came.'),
      ('atlas.rejected_message', 'reason', 'Why it was refused.'),
      ('atlas.reply_part', 'text', 'The text of the part.'),
      ('atlas.spend', 'state', 'reserved while the call is under way, then settled.'),
      ('atlas.spend', 'scopes', 'The budgets that it counts against.'),
      ('atlas.spend', 'reserved_tokens', 'The worst case: counted input with a margin, and the most output.'),
      ('atlas.spend', 'reserved_usd', 'The worst case in US dollars; null where the model has no price.'),
      ('atlas.spend', 'tokens', 'What counts: input and output, or the reservation while usage is unknown.'),
      ('atlas.spend', 'over_reservation', 'The provider used more than was reserved; it counts in full.'),
      ('atlas.spend', 'reserved_at', 'When the reservation was made.'),
      ('atlas.spend', 'settled_at', 'When the usage was known, or given up.'),
      ('atlas.task', 'in_id', 'The row of architect_in.'),
      ('atlas.task', 'max_attempts', 'Failures of its own after which it is dead-lettered.'),
      ('atlas.task', 'attempt_id', 'The attempt that runs it now.'),
      ('atlas.task', 'cancel_requested_at', 'When somebody asked to stop it while it ran.'),
      ('atlas.task', 'escalated_at', 'When people were told of an outage that keeps it.'),
      ('atlas.task', 'priority', 'Higher goes first, from -100 to 100.'),
      ('atlas.worker', 'id', 'A new one at each start.'),
      ('atlas.worker', 'name', 'Host and process.'),
      ('atlas.worker', 'version', 'Its version of Atlas.'),
      ('atlas.worker', 'state', 'idle waits for a wake-up, busy claims by itself, stopped has left.'),
      ('atlas.worker', 'concurrency', 'Tasks it runs at once.'),
      ('atlas.worker', 'seen_at', 'When it last said that it is there.'),
      ('rag.chunk', 'seq', 'Its place in the document, from 0.'),
      ('rag.chunk', 'tokens', 'How many tokens its text has.'),
      ('rag.chunk', 'tsv', 'What full text search looks at.'),
      ('rag.document', 'kind', 'markdown, code or text.'),
      ('rag.document', 'indexed_at', 'When it was last read.'),
      ('rag.embed_job', 'state', 'queued, running, completed or failed.'),
      ('rag.embed_job', 'total', 'How many items it has.'),
      ('rag.embed_job', 'done', 'How many of them are ready.'),
      ('rag.embed_job', 'errors', 'What went wrong, item by item.')
    ) as v (relation, field, meaning)
    union all
    select c.oid::regclass, a.attname, g.meaning
    from pg_catalog.pg_class c
    join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    join (values
      ('id', 'Its id.'), ('task_id', 'The task it belongs to.'), ('attempt_id', 'The attempt it belongs to.'),
      ('worker_id', 'The worker that runs, or ran, it.'), ('project_id', 'The project it belongs to.'),
      ('document_id', 'The document it is of.'), ('user_id', 'auth.users.id of the person.'),
      ('sender', 'The user who asked; null for the service role.'),
      ('sender_key', 'Whose turn and whose budget: the user, an outside identity, or service.'),
      ('parent_id', 'The earlier task that it goes on from.'), ('out_id', 'The row of architect_out.'),
      ('kind', 'chat or control.'), ('state', 'queued, running, completed, failed, cancelled or dead_lettered.'),
      ('title', 'The first line, for people who look at the table.'), ('wait_reason', 'Why a queued task is not ready yet.'),
      ('model', 'The model that answered, or was called.'), ('generation', 'Rises with each fallback or repair.'),
      ('response_id', 'The provider''s id of the response.'), ('project', 'The name of the project.'),
      ('attempts', 'How many attempts were begun.'), ('failures', 'Failures of its own.'),
      ('queued_at', 'When it was asked.'), ('run_after', 'Not before this time.'), ('started_at', 'When it began.'),
      ('finished_at', 'When it ended.'), ('took', 'From the question to the end.'), ('created_at', 'When the row was written.'),
      ('updated_at', 'When the row last changed.'), ('error_code', 'Why it ended without a reply, in one word.'),
      ('error_message', 'Why it ended without a reply.'), ('day', 'The UTC day.'), ('scope', 'The budget.'),
      ('calls', 'Model calls.'), ('unknown_calls', 'Calls of unknown usage: they count at their worst case.'),
      ('input_tokens', 'Tokens sent.'), ('cached_tokens', 'Those of the input that the provider had cached.'),
      ('output_tokens', 'Tokens written, reasoning included.'), ('reasoning_tokens', 'Those of the output that nobody sees.'),
      ('tokens', 'Input and output together.'), ('usd', 'US dollars.'), ('text', 'The text.'),
      ('start_line', 'Its first line, from 1.'), ('end_line', 'Its last line.'),
      ('lease_expires_at', 'Until when its worker holds it.')
    ) as g (field, meaning) on g.field = a.attname
    where c.relkind in ('r', 'v')
      and (c.relnamespace in ('atlas'::regnamespace, 'rag'::regnamespace)
        or c.oid in ('public.architect_in'::regclass, 'public.architect_out'::regclass))
  loop
    if pg_catalog.col_description(item.relation, (
      select a.attnum from pg_catalog.pg_attribute a where a.attrelid = item.relation and a.attname = item.field)) is null then
      execute format('comment on column %s.%I is %L', item.relation, item.field, item.meaning);
    end if;
  end loop;
end
$$;
