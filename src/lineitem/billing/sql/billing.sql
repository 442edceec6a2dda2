-- name: claimed_before
-- What the invoices of a month have claimed, those of an account in the order they were made.
select account_key, currency, converted, cut from billing.invoice
where namespace_key = %(namespace_key)s and posting_month = %(month)s
  and (%(accounts)s::int[] is null or account_key = any(%(accounts)s))
order by account_key, batch, serial

-- name: prices
-- What every price version that line items name measures and charges.
select v.price_version_key, p.namespace_key, p.pricebook, v.version, p.price, p.meter, p.unit, p.scale, p.currency
from catalog.price_version v join catalog.price p using (price_key)

-- name: take_numbers
-- The next numbers of a series; whoever takes some makes the next wait until they are committed or given back.
insert into billing.series (namespace_key, series, last_number) values (%(namespace_key)s, %(series)s, %(count)s)
on conflict (namespace_key, series) do update set last_number = billing.series.last_number + excluded.last_number
returning last_number

-- name: copy_invoices
-- Final invoices.
copy billing.invoice (number, namespace_key, series, serial, account_key, posting_month, currency, ordinal, cut, document,
  digest, lane, batch, converted) from stdin

-- name: invoice
-- One invoice as it was sent.
select i.document, i.digest from billing.invoice i join catalog.namespace n using (namespace_key)
where n.namespace = %(namespace)s and i.number = %(number)s

-- name: invoices
-- Invoices as they were sent, in the order of their numbers.
select i.number, i.document, i.digest from billing.invoice i join catalog.namespace n using (namespace_key)
join catalog.account a using (account_key)
where n.namespace = %(namespace)s and (%(month)s::int is null or i.posting_month = %(month)s)
  and (%(account)s::text is null or a.account = %(account)s)
order by i.series, i.serial

-- name: stored_invoices
-- Everything kept of every invoice, the invoices of a month together.
select i.namespace_key, n.namespace, i.number, i.series, i.serial, i.account_key, a.account, i.posting_month, i.currency,
  i.ordinal, i.cut, i.document, i.digest, i.lane, i.batch, i.converted
from billing.invoice i left join catalog.namespace n on n.namespace_key = i.namespace_key
left join catalog.account a on a.account_key = i.account_key
order by i.namespace_key, i.posting_month, i.account_key, i.batch, i.serial, i.number

-- name: counters
-- Every series, its counter, and the numbers taken from it.
select coalesce(n.namespace, ''), coalesce(s.series, i.series), coalesce(s.last_number, 0), i.numbers
from billing.series s
full join (select namespace_key, series, array_agg(serial order by serial) as numbers from billing.invoice group by 1, 2) i
  using (namespace_key, series)
left join catalog.namespace n using (namespace_key)
order by 1, 2
