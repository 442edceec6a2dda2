-- name: steps
-- Steps of canaries up to a revision or ever, oldest first.
select revision, document from catalog.canary_step where namespace_key = %(namespace_key)s
  and revision <= coalesce(%(revision)s::bigint, 9223372036854775807) order by revision

-- name: holds
-- Accounts that a step reaches later.
select revision, account, service_month from catalog.canary_hold where namespace_key = %(namespace_key)s
  and revision <= coalesce(%(revision)s::bigint, 9223372036854775807)

-- name: told
-- Every step with who and when.
select revision, acted_by, (extract(epoch from acted_at) * 1000000)::bigint from catalog.canary_step
where namespace_key = %(namespace_key)s

-- name: add_step
-- A step.
insert into catalog.canary_step (namespace_key, revision, canary, document, acted_by, acted_at)
values (%(namespace_key)s, %(revision)s, %(canary)s, %(document)s, %(acted_by)s, %(acted_at)s)

-- name: add_holds
-- Whom it reaches later.
insert into catalog.canary_hold (namespace_key, revision, account, service_month)
select %(namespace_key)s, %(revision)s, account, service_month
from unnest(%(accounts)s::text[], %(months)s::int[]) as w(account, service_month)

-- name: all_steps
-- Every step as it is stored.
select n.namespace, s.namespace_key, s.revision, s.canary, s.document, s.acted_by, (extract(epoch from s.acted_at) * 1000000)::bigint
from catalog.canary_step s left join catalog.namespace n using (namespace_key) order by 1, 3

-- name: all_holds
-- Every held account as it is stored.
select n.namespace, h.revision, h.account, h.service_month
from catalog.canary_hold h left join catalog.namespace n using (namespace_key)
