-- name: claim
-- What an invoice claimed: everything of its account and month up to its cut, above that of the invoice before it.
select n.namespace_key, i.account_key, i.posting_month, i.currency, i.cut, coalesce(b.cut, '{}'), b.number, i.lane, i.batch
from billing.invoice i join catalog.namespace n using (namespace_key)
left join billing.invoice b on (b.namespace_key, b.account_key, b.posting_month, b.currency, b.ordinal)
  = (i.namespace_key, i.account_key, i.posting_month, i.currency, i.ordinal - 1)
where n.namespace = %(namespace)s and i.number = %(number)s
