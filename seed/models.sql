-- Models and their prices, as OpenAI's pages and GET /v1/models had them in 2026-11. Change them here or in Studio:
-- a row that is there already is left alone.
insert into atlas.model (name, shutdown_at, successor, context_tokens, max_output_tokens, vocabulary, reasoning,
  reasoning_effort, streams, temperature, note)
values
  ('offline', null, null, 1000000, 32768, 'o200k_base', false, null, true, false,
    'No model: the reply is the retrieved passages.'),
  ('replay', null, null, 1000000, 32768, 'o200k_base', false, null, true, false,
    'No model: a text that was written beforehand (ATLAS_REPLAY). Priced as gpt-4.1, so that a receipt has figures; nobody is paid.'),
  ('gpt-6-luna', null, null, 1050000, 128000, null, false, 'none', true, true,
    '922,000 tokens in at most. Temperature only with effort none.'),
  ('gpt-6-sol', null, null, 1050000, 128000, null, true, 'medium', true, false, '922,000 tokens in at most.'),
  ('gpt-6.1-sol', null, null, 1050000, 128000, null, true, 'high', true, false,
    '922,000 tokens in at most. Effort low to max: no none, so no temperature.'),
  ('gpt-4.1', '2027-01-14', 'gpt-6-luna', 1047576, 32768, 'o200k_base', false, null, true, true, null),
  ('gpt-4o-mini', '2027-01-14', 'gpt-6-luna', 128000, 16384, 'o200k_base', false, null, true, true, null),
  ('o3', '2026-12-11', 'gpt-6.1-sol', 200000, 100000, 'o200k_base', true, null, true, false, null),
  ('o1-pro', '2026-10-23', 'gpt-6.1-sol', 200000, 100000, 'o200k_base', true, null, false, false,
    'Responses API only, never streamed.')
on conflict (name) do nothing;

insert into atlas.model_price (model, valid_from, input_usd, cached_usd, cache_write_usd, output_usd, long_input_from,
  long_input_factor, long_output_factor)
values
  ('offline', '2025-01-01', 0, 0, null, 0, null, 1, 1),
  ('replay', '2025-01-01', 2.00, 0.50, null, 8.00, null, 1, 1),
  ('gpt-4.1', '2025-04-14', 2.00, 0.50, null, 8.00, null, 1, 1),
  ('o3', '2025-06-10', 2.00, 0.50, null, 8.00, null, 1, 1),
  ('o1-pro', '2025-03-19', 150, null, null, 600, null, 1, 1),
  ('gpt-4o-mini', '2024-07-18', 0.15, 0.075, null, 0.60, null, 1, 1),
  ('gpt-6-luna', '2026-01-01', 0.10, 0.01, 0.125, 0.50, 272000, 2, 1.5),
  ('gpt-6-sol', '2026-01-01', 2.00, 0.20, 2.50, 10.00, 272000, 2, 1.5),
  ('gpt-6.1-sol', '2026-01-01', 2.00, 0.10, 2.50, 10.00, 272000, 2, 1.5)
on conflict (model, valid_from) do nothing;
