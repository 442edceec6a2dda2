-- name: grant
-- One grant by its id.
select g.grant_id, a.account, g.currency, g.amount_nano, g.priority, g.effective_us, g.expires_us, g.prices, g.reason,
  g.granted_by, g.batch, v.kept_nano, v.reason, v.voided_by, v.batch, a.timezone
from ledger.credit_grant g join catalog.account a using (account_key)
left join ledger.credit_void v on (v.namespace_key, v.grant_id) = (g.namespace_key, g.grant_id)
where g.namespace_key = %(namespace_key)s and g.grant_id = %(grant)s

-- name: grants
-- The grants of a namespace, or of one account, in the order they were made.
select g.grant_id, a.account, g.currency, g.amount_nano, g.priority, g.effective_us, g.expires_us, g.prices, g.reason,
  g.granted_by, g.batch, v.kept_nano, v.reason, v.voided_by, v.batch, a.timezone
from ledger.credit_grant g join catalog.account a using (account_key)
left join ledger.credit_void v on (v.namespace_key, v.grant_id) = (g.namespace_key, g.grant_id)
where g.namespace_key = %(namespace_key)s and (%(account)s::text is null or a.account = %(account)s)
order by g.batch, g.grant_id

-- name: grants_stored
-- Every grant of every namespace with all that must be as it was recorded: the price its line items name included.
select n.namespace, a.account, a.namespace_key = g.namespace_key, g.grant_id, g.currency, g.amount_nano, g.priority,
  g.effective_us, g.expires_us, g.prices, g.reason, g.granted_by, g.batch,
  p.pricebook, w.version, p.price, p.meter, p.unit, p.scale, p.currency, encode(p.digest, 'hex'),
  p.namespace_key = g.namespace_key and w.namespace_key = g.namespace_key
from ledger.credit_grant g left join catalog.namespace n on n.namespace_key = g.namespace_key
left join catalog.account a on a.account_key = g.account_key
left join catalog.price_version w on w.price_version_key = g.price_version_key
left join catalog.price p on p.price_key = w.price_key

-- name: voids_stored
-- Every grant that was made void.
select n.namespace, v.grant_id, v.kept_nano, v.reason, v.voided_by, v.batch
from ledger.credit_void v left join catalog.namespace n using (namespace_key)

-- name: months_stored
-- What every account owed when credit was last drawn.
select n.namespace, a.account, m.service_month, m.document, m.batch, a.namespace_key = m.namespace_key, a.timezone
from ledger.credit_month m left join catalog.namespace n on n.namespace_key = m.namespace_key
left join catalog.account a using (account_key)

-- name: draws_stored
-- What was drawn of every grant for every month.
select n.namespace, a.account, p.pricebook, p.price, d.service_month, d.drawn_nano, a.namespace_key = d.namespace_key
from ledger.credit_draw d left join catalog.namespace n on n.namespace_key = d.namespace_key
left join catalog.account a using (account_key) left join catalog.price p using (price_key)

-- name: add_grant
-- One grant.
insert into ledger.credit_grant (namespace_key, grant_id, account_key, price_version_key, currency, amount_nano, priority,
  effective_us, expires_us, prices, reason, granted_by, batch)
values (%(namespace_key)s, %(grant)s, %(account_key)s, %(price_version_key)s, %(currency)s, %(amount_nano)s, %(priority)s,
  %(effective_us)s, %(expires_us)s, %(prices)s, %(reason)s, %(by)s, %(batch)s)

-- name: add_void
-- What is not drawn yet is taken back.
insert into ledger.credit_void (namespace_key, grant_id, kept_nano, reason, voided_by, batch)
values (%(namespace_key)s, %(grant)s, %(kept_nano)s, %(reason)s, %(by)s, %(batch)s)

-- name: count_grants
-- How many grants a namespace has.
select count(*) from ledger.credit_grant where namespace_key = %(namespace_key)s

-- name: drawn
-- What was drawn of some grants in all.
select p.price, sum(d.drawn_nano) from ledger.credit_draw d join catalog.price p using (price_key)
where d.namespace_key = %(namespace_key)s and p.pricebook = %(pricebook)s and p.price = any(%(grants)s) group by 1

-- name: drawn_in_month
-- What was drawn for one account in one service month.
select p.price, d.drawn_nano, p.currency from ledger.credit_draw d join catalog.price p using (price_key)
where d.account_key = %(account_key)s and d.service_month = %(service_month)s and d.drawn_nano > 0 order by 1

-- name: accounts_with_grants
-- Who has grants.
select distinct g.account_key from ledger.credit_grant g join catalog.account a using (account_key)
where g.namespace_key = %(namespace_key)s and (%(account)s::text is null or a.account = %(account)s) order by 1

-- name: grants_of
-- The grants of some accounts, what may be drawn of them, and the price their line items name.
select g.account_key, g.grant_id, g.currency, coalesce(v.kept_nano, g.amount_nano), g.priority, g.effective_us, g.expires_us,
  g.prices, w.price_key, g.price_version_key
from ledger.credit_grant g join catalog.price_version w using (price_version_key)
left join ledger.credit_void v on (v.namespace_key, v.grant_id) = (g.namespace_key, g.grant_id)
where g.account_key = any(%(accounts)s) and coalesce(v.kept_nano, g.amount_nano) > 0

-- name: credit_months
-- The months credit was drawn for.
select account_key, service_month, document from ledger.credit_month where account_key = any(%(accounts)s)

-- name: months_drawn
-- The months credit was drawn for in a namespace.
select distinct service_month from ledger.credit_month where namespace_key = %(namespace_key)s

-- name: draws_of
-- What was drawn for some accounts.
select account_key, price_key, service_month, drawn_nano from ledger.credit_draw where account_key = any(%(accounts)s)

-- name: owed
-- What some accounts owe in some months, content by content of each price; usage that waits is not owed yet.
select a.account_key, a.service_month, a.price_key, p.price, p.currency, a.posted_nano, a.events
from ledger.accumulator a join catalog.price p using (price_key)
where a.account_key = any(%(accounts)s) and a.service_month = any(%(months)s)

-- name: put_month
-- What credit was drawn for now.
insert into ledger.credit_month (account_key, service_month, namespace_key, document, batch)
values (%(account_key)s, %(service_month)s, %(namespace_key)s, %(document)s, %(batch)s)
on conflict (account_key, service_month) do update set document = excluded.document, batch = excluded.batch

-- name: put_draw
-- How much is drawn now.
insert into ledger.credit_draw (account_key, price_key, service_month, namespace_key, drawn_nano)
values (%(account_key)s, %(price_key)s, %(service_month)s, %(namespace_key)s, %(drawn_nano)s)
on conflict (account_key, price_key, service_month) do update set drawn_nano = excluded.drawn_nano
