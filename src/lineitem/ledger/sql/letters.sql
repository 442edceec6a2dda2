-- name: batches
-- Where the raw records of some batches lie, and when they were recorded.
select b.lane, b.batch, b.partition_key, b.segment, b.records_digest, b.recorded_us
from unnest(%(lanes)s::smallint[], %(batches)s::bigint[]) as w(lane, batch) join ledger.batch b using (lane, batch)

-- name: line_items
-- The line items that a batch has for single events.
select event_key, id from ledger.line_item where lane = %(lane)s and batch = %(batch)s and event_key = any(%(keys)s::uuid[])
order by seq
