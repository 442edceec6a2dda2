-- name: account
-- Keys of a namespace and of one of its accounts; the account's are null where it does not exist.
select n.namespace_key, a.account_key, a.timezone from catalog.namespace n
left join catalog.account a on a.namespace_key = n.namespace_key and a.account = %(account)s::text
where n.namespace = %(namespace)s

-- name: line_items
-- Line items with their dictionary keys resolved. A parameter that is null selects everything: the planner sees the values.
select l.id, a.account, p.price, p.meter, l.kind, l.quantity, l.quantity_wide, p.scale, p.unit, l.amount_nano, l.amount_wide,
  p.currency, (extract(epoch from l.event_time) * 1000000)::bigint, l.service_month, l.posting_month, p.pricebook, v.version,
  l.event_id, t.tags, l.lane, l.batch, l.seq, l.account_key, p.price_key, l.event_key, a.timezone
from ledger.line_item l
join catalog.account a using (account_key)
join catalog.price_version v using (price_version_key)
join catalog.price p on p.price_key = v.price_key
join catalog.tag_set t using (tag_set_key)
where l.namespace_key = %(namespace_key)s
  and (%(account_key)s::int is null or l.account_key = %(account_key)s::int)
  and (%(posting_month)s::int is null or l.posting_month = %(posting_month)s::int)
  and (%(batch)s::bigint is null or l.batch = %(batch)s::bigint)
  and (%(id)s::uuid is null or l.id = %(id)s::uuid)
order by l.posting_month, l.lane, l.batch, l.seq

-- name: claimed
-- The line items an invoice line stands for, counted and summed over all of them, the first ones with their ids.
select l.id, count(*) over (), sum(coalesce(l.quantity_wide, l.quantity) * ('1e-' || p.scale)::numeric) over (),
  sum(coalesce(l.amount_wide, l.amount_nano)) over ()
from ledger.line_item l
join catalog.price_version v using (price_version_key)
join catalog.price p on p.price_key = v.price_key
join unnest(%(lanes)s::smallint[], %(above)s::bigint[], %(up_to)s::bigint[]) as c(lane, above, up_to) on c.lane = l.lane
where l.namespace_key = %(namespace_key)s and l.account_key = %(account_key)s and l.posting_month = %(posting_month)s
  and l.batch > c.above and l.batch <= c.up_to and l.service_month = %(service_month)s
  and p.pricebook = %(pricebook)s and p.price = %(price)s and p.meter = %(meter)s and p.unit = %(unit)s
  and p.currency = %(currency)s
order by l.lane, l.batch, l.seq limit %(limit)s

-- name: usage
-- Running usage of one account in one service month.
select p.price, p.meter, a.quantity, a.posted_quantity, a.posted_nano, a.events, p.scale, p.unit, p.currency, p.pricebook,
  array(select v.version from catalog.price_version v where v.price_key = p.price_key order by 1) as versions,
  (select count(*) from ledger.level l where l.namespace_key = a.namespace_key and l.account_key = a.account_key
    and l.meter = p.meter and l.waiting and l.time_us >= extract(epoch from a.period_start) * 1000000
    and l.time_us < extract(epoch from a.period_end) * 1000000) as readings
from ledger.accumulator a join catalog.price p using (price_key)
where a.namespace_key = %(namespace_key)s and a.account_key = %(account_key)s and a.service_month = %(service_month)s
  and (a.events > 0 or a.last_event_us > 0)
order by p.pricebook, p.price, versions, a.period_start

-- name: target
-- Running usage of the target a line item belongs to, and its service period.
select a.events, a.quantity, a.posted_quantity, a.posted_nano, coalesce(a.settled, -1), coalesce(a.posted_charge, 0),
  (extract(epoch from a.period_start) * 1000000)::bigint,
  (extract(epoch from a.period_end) * 1000000)::bigint
from ledger.accumulator a where a.account_key = %(account_key)s and a.price_key = %(price_key)s
  and a.service_month = %(service_month)s

-- name: continued
-- What a target goes on with: usage of other contents of its price, or of others in its pool, in the same month.
select a.quantity, a.events from ledger.accumulator a
where a.account_key = %(account_key)s and a.service_month = %(service_month)s and a.price_key = any(%(price_keys)s)

-- name: posted_before
-- The line items of a target: how many, in how many lanes, and what those in front of one place come to.
select count(*), count(distinct l.lane),
  coalesce(sum(coalesce(l.quantity_wide, l.quantity)) filter (where (l.batch, l.seq) < (%(batch)s, %(seq)s)), 0),
  coalesce(sum(coalesce(l.amount_wide, l.amount_nano)) filter (where (l.batch, l.seq) < (%(batch)s, %(seq)s)), 0)
from ledger.line_item l join catalog.price_version v using (price_version_key)
where l.namespace_key = %(namespace_key)s and l.account_key = %(account_key)s and v.price_key = %(price_key)s
  and l.service_month = %(service_month)s and l.posting_month >= %(service_month)s - 1  -- the month before: in advance

-- name: batch_records
-- Consecutive batches of one lane as the chain hashes them.
select b.lane, b.batch, n.namespace, b.kind, b.position_start, b.position_end, b.received, b.itemized, b.pending, b.duplicate,
  b.dead_lettered, b.not_billable, b.line_items, b.facts, b.sums, b.event_time_min, b.event_time_max, b.catalog_revision,
  b.segment, b.records_digest, b.accepted_digest, b.set_aside_digest, b.root, b.engine_version, b.recorded_us, b.previous,
  b.hash, b.hash_version, b.partition_key
from ledger.batch b join catalog.namespace n using (namespace_key)
where b.lane = %(lane)s and b.batch between %(first)s and %(last)s order by b.batch

-- name: head
-- Newest batch of a lane.
select batch from ledger.lane where lane = %(lane)s

-- name: segments_of_time
-- Batches that may hold events of a span of time, recorded before an instant; or one batch of them.
select lane, batch, segment, records_digest, recorded_us, catalog_revision from ledger.batch
where namespace_key = %(namespace_key)s and segment <> '' and event_time_max >= %(since_us)s and event_time_min < %(until_us)s
  and recorded_us < %(recorded_before_us)s
  and (%(lane)s::smallint is null or (lane, batch) = (%(lane)s::smallint, %(batch)s::bigint))
order by lane, batch

-- name: segment_of_batch
-- Where the raw records of one batch lie.
select lane, batch, segment, records_digest, recorded_us, catalog_revision from ledger.batch
where lane = %(lane)s and batch = %(batch)s

-- name: leaf_rows
-- Every line item of one batch, in the order of the tree.
select l.seq, l.id, l.account_key, l.price_version_key, l.tag_set_key, l.service_month, l.posting_month, l.kind,
  coalesce(l.quantity_wide, l.quantity), coalesce(l.amount_wide, l.amount_nano),
  (extract(epoch from l.event_time) * 1000000)::bigint, l.event_key, l.event_id
from ledger.line_item l where l.lane = %(lane)s and l.batch = %(batch)s order by l.seq

-- name: leaf_facts
-- What stands behind the line items in the tree of one batch.
select seq, kind, body from ledger.fact where lane = %(lane)s and batch = %(batch)s order by seq

-- name: leaf_accounts
-- Text of accounts.
select a.account_key, n.namespace, a.account from catalog.account a join catalog.namespace n using (namespace_key)
where a.account_key = any(%(keys)s)

-- name: leaf_prices
-- Text of price versions.
select v.price_version_key, p.pricebook, v.version, p.price, p.meter, p.unit, p.scale, p.currency, encode(p.digest, 'hex')
from catalog.price p join catalog.price_version v using (price_key) where v.price_version_key = any(%(keys)s)

-- name: leaf_tags
-- Text of tag sets.
select tag_set_key, tags from catalog.tag_set where tag_set_key = any(%(keys)s)

-- name: last_segment
-- The raw segment of a partition's newest batch, and the position it ends at.
select segment, recorded_us, position_end from ledger.batch
where lane = %(lane)s and partition_key = %(partition_key)s order by batch desc limit 1

-- name: revert_fact
-- What a batch of lane 0 says of the backfill it reverted.
select body from ledger.fact where lane = 0 and batch = %(batch)s and kind = 'backfill_revert'
