-- name: publications
-- Everything published, oldest first.
select n.namespace, p.revision, p.digest, p.document, (extract(epoch from p.published_at) * 1000000)::bigint
from catalog.publication p join catalog.namespace n using (namespace_key) order by 1, 2

-- name: revisions
-- The revision each namespace says is in force.
select namespace, revision from catalog.namespace

-- name: pricebook_versions
-- Every version as it is stored.
select n.namespace, v.pricebook, v.version, v.revision, v.document, v.digest,
  (extract(epoch from v.effective_from) * 1000000)::bigint, (extract(epoch from v.effective_until) * 1000000)::bigint
from catalog.pricebook_version v left join catalog.namespace n using (namespace_key)

-- name: prices
-- Content of the prices of every version.
select n.namespace, p.pricebook, v.version, p.price, p.digest, p.meter, p.unit, p.scale, p.currency
from catalog.price p
join catalog.price_version v using (price_key, namespace_key) join catalog.namespace n using (namespace_key)

-- name: ranges
-- When each version is in force: empty, from, until, and whether the bounds are as the engine writes them.
select n.namespace, r.pricebook, r.version, isempty(during), (extract(epoch from lower(during)) * 1000000)::bigint,
  (extract(epoch from upper(during)) * 1000000)::bigint, isempty(during) or (lower_inc(during) and not upper_inc(during))
from catalog.effective_range r left join catalog.namespace n using (namespace_key)

-- name: retirements
-- Every end that was set after publishing.
select n.namespace, r.revision, pricebook, version, (extract(epoch from ends_at) * 1000000)::bigint, retired_by,
  (extract(epoch from retired_at) * 1000000)::bigint
from catalog.retirement r join catalog.namespace n using (namespace_key) order by 1, 2

-- name: accounts
-- Every account as it is stored.
select n.namespace, a.account, a.name, a.pricebook, a.timezone, a.billing, a.tags
from catalog.account a join catalog.namespace n using (namespace_key)
