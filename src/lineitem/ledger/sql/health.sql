-- name: facts
-- Settings and counts a health check looks at, as text.
select name, setting from pg_settings where name in ('fsync', 'synchronous_commit', 'full_page_writes')
union all select 'event_triggers', count(*)::text from pg_event_trigger where evtname like 'lineitem_%' and evtenabled = 'A'
union all select 'policies', count(*)::text from pg_policies where policyname = 'namespace_only'
union all select 'waiting', coalesce(sum(events), 0)::bigint::text from ledger.pending

-- name: totals
-- What batches of usage came to, over all namespaces and doors; line items, batches: of all kinds; when usage came last.
select coalesce(sum(itemized) filter (where kind = %(usage)s), 0)::bigint,
  coalesce(sum(pending) filter (where kind = %(usage)s), 0)::bigint,
  coalesce(sum(duplicate) filter (where kind = %(usage)s), 0)::bigint,
  coalesce(sum(dead_lettered) filter (where kind = %(usage)s), 0)::bigint,
  coalesce(sum(not_billable) filter (where kind = %(usage)s), 0)::bigint,
  coalesce(sum(line_items), 0)::bigint, count(*), coalesce(max(recorded_us) filter (where kind = %(usage)s), 0)::bigint
from ledger.batch

-- name: unguarded_tables
-- Append-only tables whose triggers are missing or not ENABLE ALWAYS.
with guarded as (
  select c.oid, n.nspname || '.' || c.relname as name, c.relispartition from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where (n.nspname, c.relname) in (('ledger', 'batch'), ('ledger', 'line_item'), ('ledger', 'fact'),
    ('ledger', 'supersession'), ('ingest', 'identity'), ('ingest', 'retraction'), ('ingest', 'dead_letter'),
    ('ingest', 'dead_letter_sighting'), ('ingest', 'letter_act'), ('ingest', 'segment'), ('ingest', 'sequence_step'),
    ('ingest', 'throttle'), ('ingest', 'held'),
    ('catalog', 'publication'), ('catalog', 'pricebook_version'), ('catalog', 'price'),
    ('catalog', 'price_version'), ('catalog', 'tag_set'), ('catalog', 'retirement'), ('catalog', 'draft'),
    ('catalog', 'draft_step'), ('billing', 'invoice'))
    or c.oid in (select inhrelid from pg_inherits where inhparent = 'ledger.line_item'::regclass)
)
select name from guarded g where (select count(*) from pg_trigger t where t.tgrelid = g.oid
  and t.tgname in ('append_only', 'append_only_truncate') and t.tgenabled = 'A') < 2 order by name

-- name: segments
-- Every raw segment a batch refers to.
select segment from ledger.batch where segment <> ''
