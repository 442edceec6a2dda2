-- name: heads
-- What every lane has committed so far.
select lane, batch from ledger.lane order by lane

-- name: unclaimed_sums
-- Line items of a month up to a cut, above what was claimed before, in one scan for all accounts.
select l.account_key, l.price_version_key, l.service_month, l.kind, count(*),
  coalesce(sum(l.quantity) filter (where l.quantity_wide is null), 0) + coalesce(sum(l.quantity_wide), 0),
  coalesce(sum(l.amount_nano) filter (where l.amount_wide is null), 0) + coalesce(sum(l.amount_wide), 0)
from ledger.line_item l
join unnest(%(lanes)s::smallint[], %(cut)s::bigint[]) as h(lane, batch) on h.lane = l.lane and l.batch <= h.batch
join catalog.price_version v using (price_version_key) join catalog.price p using (price_key)
left join unnest(%(claim_accounts)s::int[], %(claim_currencies)s::text[], %(claim_lanes)s::smallint[],
    %(claim_batches)s::bigint[]) as c(account_key, currency, lane, batch)
  on c.account_key = l.account_key and c.currency = p.currency and c.lane = l.lane
where l.namespace_key = %(namespace_key)s and l.posting_month = %(month)s and l.batch > coalesce(c.batch, 0)
  and (%(accounts)s::int[] is null or l.account_key = any(%(accounts)s))
group by l.account_key, l.price_version_key, l.service_month, l.kind

-- name: claimed_sums
-- Line items of a month that each of many claims takes, in one scan for all of them.
select c.n, l.price_version_key, l.service_month, l.kind, count(*),
  coalesce(sum(l.quantity) filter (where l.quantity_wide is null), 0) + coalesce(sum(l.quantity_wide), 0),
  coalesce(sum(l.amount_nano) filter (where l.amount_wide is null), 0) + coalesce(sum(l.amount_wide), 0)
from ledger.line_item l
join catalog.price_version v using (price_version_key) join catalog.price p using (price_key)
join unnest(%(numbers)s::int[], %(accounts)s::int[], %(currencies)s::text[], %(lanes)s::smallint[], %(above)s::bigint[],
    %(up_to)s::bigint[]) as c(n, account_key, currency, lane, above, up_to)
  on c.account_key = l.account_key and c.currency = p.currency and c.lane = l.lane
  and l.batch > c.above and l.batch <= c.up_to
where l.namespace_key = %(namespace_key)s and l.posting_month = %(month)s
group by c.n, l.price_version_key, l.service_month, l.kind

-- name: facts_of_kind
-- What was recorded of one kind, in order, with the namespace of its batch.
select n.namespace, f.lane, f.batch, f.body from ledger.fact f
join ledger.batch b using (lane, batch) join catalog.namespace n on n.namespace_key = b.namespace_key
where f.kind = %(kind)s order by f.lane, f.batch, f.seq
