-- name: changes
-- What line items of some batches come to, by account, price and service month.
select a.account, p.price, l.service_month, p.currency, sum(coalesce(l.quantity_wide, l.quantity)), p.scale, p.unit,
  sum(coalesce(l.amount_wide, l.amount_nano)), count(*)
from unnest(%(lanes)s::smallint[], %(batches)s::bigint[]) as w(lane, batch)
join ledger.line_item l on l.lane = w.lane and l.batch = w.batch
join catalog.account a using (account_key)
join catalog.price_version v using (price_version_key) join catalog.price p using (price_key)
where l.namespace_key = %(namespace_key)s
group by 1, 2, 3, 4, 6, 7 order by 1, 3, 2, 4

-- name: read_by
-- What batches of some passes did, pass by pass.
select b.partition_key, count(*), sum(b.received)::bigint, sum(b.itemized + b.pending + b.not_billable)::bigint,
  sum(b.duplicate)::bigint, sum(b.dead_lettered)::bigint, min(b.recorded_us), max(b.recorded_us)
from ledger.batch b where b.partition_key = any(%(partitions)s) group by 1

-- name: batches_of
-- The batches of some passes.
select lane, batch from ledger.batch where partition_key = any(%(partitions)s) order by lane, batch

-- name: reverts
-- What reverted backfills of a namespace, in order.
select f.body, b.lane, b.batch, b.recorded_us, b.line_items from ledger.fact f join ledger.batch b using (lane, batch)
where f.namespace_key = %(namespace_key)s and f.kind = 'backfill_revert' order by b.lane, b.batch
