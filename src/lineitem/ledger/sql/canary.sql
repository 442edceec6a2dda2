-- name: members_with_usage
-- Accounts that a canary's prices billed, by service month.
select a.service_month, array_agg(distinct c.account) from ledger.accumulator a join catalog.price p using (price_key)
join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and p.pricebook = %(pricebook)s and a.events > 0 group by 1 order by 1

-- name: accounts
-- Every account of a pricebook.
select account from catalog.account where namespace_key = %(namespace_key)s and pricebook = %(pricebook)s

-- name: accounts_with_tag
-- Accounts with a tag.
select account from catalog.account where namespace_key = %(namespace_key)s and pricebook = %(pricebook)s
  and tags::jsonb ->> %(tag)s = %(value)s

-- name: last_event
-- The last rated event of a pricebook's accounts, whatever priced it.
select max(a.last_event_us) from ledger.accumulator a join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and c.pricebook = %(pricebook)s

-- name: usage_cut
-- The newest batch of usage of each lane: what a check saw.
select lane, max(batch) from ledger.batch where namespace_key = %(namespace_key)s and lane > 0 group by lane order by lane

-- name: last_retraction
-- Lane 0 has retractions, which change usage too.
select max(batch) from ledger.fact where namespace_key = %(namespace_key)s and lane = 0 and kind = 'retraction'

-- name: last_check
-- What the last check of a canary recorded.
select lane, batch, body from ledger.fact where namespace_key = %(namespace_key)s and kind = 'canary_check'
  and body::jsonb ->> 'canary' = %(canary)s order by batch desc limit 1

-- name: add_beside
-- One price of one member's month, both ways.
insert into ledger.canary_beside (namespace_key, lane, batch, account_key, service_month, price, currency, live_nano, other_nano)
select %(namespace_key)s, %(lane)s, %(batch)s, c.account_key, w.month, w.price, w.currency, w.live_nano, w.other_nano
from unnest(%(accounts)s::text[], %(months)s::int[], %(prices)s::text[], %(currencies)s::text[], %(live)s::numeric[],
  %(other)s::numeric[]) as w(account, month, price, currency, live_nano, other_nano)
join catalog.account c on c.namespace_key = %(namespace_key)s and c.account = w.account

-- name: besides
-- Everything stored beside canaries.
select b.lane, b.batch, n.namespace, c.account, b.service_month, b.price, b.currency, b.live_nano, b.other_nano
from ledger.canary_beside b left join catalog.namespace n using (namespace_key)
left join catalog.account c on c.account_key = b.account_key and c.namespace_key = b.namespace_key

-- name: beside_of_check
-- What one check stored.
select c.account, b.service_month, b.price, b.currency, b.live_nano, b.other_nano
from ledger.canary_beside b join catalog.account c using (account_key) where b.lane = %(lane)s and b.batch = %(batch)s
order by 1, 2, 3, 4

-- name: beside_of_target
-- What the newest check found for one price of an account's month.
select lane, batch, live_nano, other_nano from ledger.canary_beside
where account_key = %(account_key)s and service_month = %(service_month)s and price = %(price)s and currency = %(currency)s
order by batch desc limit 1
