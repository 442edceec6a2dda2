-- name: unsettled
-- Targets with usage under some prices, in months that have ended for their account, that nobody has settled.
select a.account_key, a.price_key, a.service_month, (extract(epoch from a.period_start) * 1000000)::bigint,
  (extract(epoch from a.period_end) * 1000000)::bigint
from ledger.accumulator a join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and a.settled is null and a.events > 0
  and a.price_key = any(%(prices)s) and a.service_month = any(%(months)s)
  and a.period_end <= timestamptz 'epoch' + %(now_us)s * interval '1 microsecond'
  and (%(account)s::text is null or c.account = %(account)s)
order by a.price_key, a.account_key, a.period_start limit %(most)s

-- name: settled
-- Targets that were settled because their account was active.
select a.account_key, a.price_key, a.service_month, a.settled, (extract(epoch from a.period_start) * 1000000)::bigint,
  (extract(epoch from a.period_end) * 1000000)::bigint
from ledger.accumulator a join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and a.service_month = any(%(months)s) and a.settled > 0
  and (%(account)s::text is null or c.account = %(account)s)

-- name: settle
-- Targets that are settled now. The start of what is due counts as used, so that no price changes under it any more.
update ledger.accumulator a set settled = w.settled, posted_nano = w.posted_nano, posted_quantity = w.posted_quantity,
  quantity = a.quantity + w.posted_quantity - a.posted_quantity, last_event_us = greatest(a.last_event_us, w.since_us)
from unnest(%(accounts)s::int[], %(starts)s::bigint[], %(settled)s::bigint[], %(posted)s::numeric[],
  %(quantities)s::numeric[], %(since)s::bigint[])
  as w(account_key, start_us, settled, posted_nano, posted_quantity, since_us)
where a.account_key = w.account_key and a.price_key = %(price_key)s
  and a.period_start = timestamptz 'epoch' + w.start_us * interval '1 microsecond'

-- name: settled_targets
-- Every settled target by the text that facts name it with.
select n.namespace, c.account, p.pricebook, p.price, encode(p.digest, 'hex'), a.service_month, a.settled, a.last_event_us
from ledger.accumulator a left join catalog.namespace n on n.namespace_key = a.namespace_key
left join catalog.account c on c.account_key = a.account_key left join catalog.price p on p.price_key = a.price_key
where a.settled is not null

-- name: spent
-- What the prices of accounts came to in some months, but for commitments.
select a.account_key, a.service_month, p.price, p.currency, sum(a.posted_nano), sum(a.events)
from ledger.accumulator a join catalog.price p using (price_key) join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and a.service_month = any(%(months)s) and a.price_key <> all(%(prices)s)
  and (%(account)s::text is null or c.account = %(account)s)
group by 1, 2, 3, 4

-- name: settled_commitments
-- How far commitments were filled when they were settled.
select a.account_key, a.price_key, a.service_month, a.settled, a.posted_quantity,
  (extract(epoch from a.period_start) * 1000000)::bigint, (extract(epoch from a.period_end) * 1000000)::bigint
from ledger.accumulator a join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and a.service_month = any(%(months)s) and a.price_key = any(%(prices)s)
  and (%(account)s::text is null or c.account = %(account)s)
