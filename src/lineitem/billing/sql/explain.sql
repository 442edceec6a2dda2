-- name: claim
-- What an invoice claimed: everything of its account and month up to its cut, above those of the invoices before it.
select n.namespace_key, i.account_key, i.posting_month, i.currency, i.converted, i.cut, i.lane, i.batch
from billing.invoice i join catalog.namespace n using (namespace_key)
where n.namespace = %(namespace)s and i.number = %(number)s

-- name: claims_before
-- The invoices of the same account and month before it, in the order they were made.
select b.currency, b.converted, b.cut, b.number
from billing.invoice i join catalog.namespace n using (namespace_key)
join billing.invoice b on (b.namespace_key, b.account_key, b.posting_month) = (i.namespace_key, i.account_key, i.posting_month)
  and (b.batch, b.serial) < (i.batch, i.serial)
where n.namespace = %(namespace)s and i.number = %(number)s
order by b.batch, b.serial
