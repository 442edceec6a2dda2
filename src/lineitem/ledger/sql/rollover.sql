-- name: share_pools
-- While a transaction rates with what months of these pools got, nobody carries over into them.
select pg_advisory_xact_lock_shared(%(namespace_key)s, hashtext(pool) | 1073741824)
from (select distinct unnest(%(pools)s::text[]) as pool order by 1) as p

-- name: lock_pools
-- Waits for those who rate with what months of these pools got.
select pg_advisory_xact_lock(%(namespace_key)s, hashtext(pool) | 1073741824)
from (select distinct unnest(%(pools)s::text[]) as pool order by 1) as p

-- name: carried_to
-- What some accounts got.
select c.account_key, c.pricebook, c.pool, c.service_month, c.units
from unnest(%(accounts)s::int[], %(books)s::text[], %(names)s::text[], %(months)s::int[])
  as w(account_key, pricebook, pool, service_month)
join ledger.carried_units c using (account_key, pricebook, pool, service_month)

-- name: set_carried
-- What months get from now on.
insert into ledger.carried_units (account_key, pricebook, pool, service_month, namespace_key, units)
select w.account_key, w.pricebook, w.pool, w.service_month, %(namespace_key)s, u.units
from unnest(%(accounts)s::int[], %(books)s::text[], %(names)s::text[], %(months)s::int[]) with ordinality
  as w(account_key, pricebook, pool, service_month, n)
join unnest(%(units)s::numeric[]) with ordinality as u(units, n) using (n)
on conflict (account_key, pricebook, pool, service_month) do update set units = excluded.units

-- name: carried
-- What months of a namespace got.
select c.account_key, c.pricebook, c.pool, c.service_month, c.units
from ledger.carried_units c join catalog.account a using (account_key)
where c.namespace_key = %(namespace_key)s and c.service_month = any(%(months)s)
  and (%(account)s::text is null or a.account = %(account)s)

-- name: all_carried
-- The same of every month, by the text that facts name it with.
select n.namespace, a.account, c.pricebook, c.pool, c.service_month, c.units, c.account_key
from ledger.carried_units c left join catalog.namespace n on n.namespace_key = c.namespace_key
left join catalog.account a on a.account_key = c.account_key

-- name: used
-- Usage of the prices of pools, by account and month.
select a.account_key, a.service_month, a.price_key, a.quantity, a.events
from ledger.accumulator a join catalog.account c using (account_key)
where a.namespace_key = %(namespace_key)s and a.service_month = any(%(months)s) and a.price_key = any(%(prices)s)
  and a.events > 0 and (%(account)s::text is null or c.account = %(account)s)
