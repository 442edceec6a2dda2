-- name: add_namespace
-- A namespace exists as soon as it is named.
insert into catalog.namespace (namespace) values (%(namespace)s) on conflict (namespace) do nothing

-- name: namespace
-- Key and current revision.
select namespace_key, revision from catalog.namespace where namespace = %(namespace)s

-- name: lock_namespace
-- A publish excludes batches that check the revision.
select revision from catalog.namespace where namespace_key = %(namespace_key)s for update

-- name: check_revision
-- A batch holds the revision it rated with until it commits.
select revision from catalog.namespace where namespace_key = %(namespace_key)s for share

-- name: move_revision
-- The new catalog is in force for every batch that commits from now on.
update catalog.namespace set revision = %(revision)s where namespace_key = %(namespace_key)s

-- name: publication
-- What was published last.
select revision, digest, document from catalog.publication
where namespace_key = %(namespace_key)s order by revision desc limit 1

-- name: publication_at
-- What was in force at a revision.
select document from catalog.publication where namespace_key = %(namespace_key)s and revision <= %(revision)s
order by revision desc limit 1

-- name: pricebook_versions
-- Every version published up to a revision, or ever.
select document from catalog.pricebook_version where namespace_key = %(namespace_key)s
  and revision <= coalesce(%(revision)s::bigint, 9223372036854775807) order by pricebook, version

-- name: retirements
-- Ends set after publishing, up to a revision or ever; the newest counts.
select distinct on (pricebook, version) pricebook, version, (extract(epoch from ends_at) * 1000000)::bigint
from catalog.retirement where namespace_key = %(namespace_key)s
  and revision <= coalesce(%(revision)s::bigint, 9223372036854775807) order by pricebook, version, revision desc

-- name: add_retirement
-- An end for a published version.
insert into catalog.retirement (namespace_key, revision, pricebook, version, ends_at, retired_by, retired_at)
values (%(namespace_key)s, %(revision)s, %(pricebook)s, %(version)s, %(ends_at)s, %(retired_by)s, %(retired_at)s)

-- name: retirements_of
-- Ends set after publishing, with who and when; the newest counts.
select distinct on (pricebook, version) pricebook, version, (extract(epoch from ends_at) * 1000000)::bigint, retired_by,
  (extract(epoch from retired_at) * 1000000)::bigint
from catalog.retirement where namespace_key = %(namespace_key)s order by pricebook, version, revision desc

-- name: versions_stored
-- Every version without its content.
select pricebook, version, digest, revision from catalog.pricebook_version
where namespace_key = %(namespace_key)s order by pricebook, version

-- name: put_ranges
-- When each version is in force. One statement, because neighbours change places: the constraint is checked at its end.
insert into catalog.effective_range (namespace_key, pricebook, version, during)
select %(namespace_key)s, w.pricebook, w.version, tstzrange(w.starts, w.ends)
from unnest(%(pricebooks)s::text[], %(versions)s::int[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
  as w(pricebook, version, starts, ends)
on conflict (namespace_key, pricebook, version) do update set during = excluded.during
  where effective_range.during <> excluded.during

-- name: revision_of_pricebook
-- The publication that brought a pricebook version.
select revision from catalog.pricebook_version
where namespace_key = %(namespace_key)s and pricebook = %(pricebook)s and version = %(version)s

-- name: add_publication
-- One published catalog file.
insert into catalog.publication (namespace_key, revision, digest, document, published_at)
values (%(namespace_key)s, %(revision)s, %(digest)s, %(document)s, %(published_at)s)

-- name: add_pricebook_version
-- One immutable version.
insert into catalog.pricebook_version
  (namespace_key, pricebook, version, effective_from, effective_until, digest, document, revision)
values (%(namespace_key)s, %(pricebook)s, %(version)s, %(effective_from)s, %(effective_until)s, %(digest)s,
        %(document)s, %(revision)s)

-- name: add_price
-- One distinct content of a price.
insert into catalog.price (namespace_key, pricebook, price, digest, meter, unit, scale, currency)
values (%(namespace_key)s, %(pricebook)s, %(price)s, %(digest)s, %(meter)s, %(unit)s, %(scale)s, %(currency)s)
on conflict (namespace_key, pricebook, price, digest) do nothing

-- name: add_price_version
-- A content under the version that carries it.
insert into catalog.price_version (namespace_key, price_key, version)
select namespace_key, price_key, %(version)s from catalog.price
where namespace_key = %(namespace_key)s and pricebook = %(pricebook)s and price = %(price)s and digest = %(digest)s
on conflict (price_key, version) do nothing

-- name: version_key
-- Key of a content under its version.
select v.price_version_key from catalog.price p join catalog.price_version v using (price_key)
where p.namespace_key = %(namespace_key)s and p.pricebook = %(pricebook)s and p.price = %(price)s and v.version = %(version)s

-- name: price_ids
-- Every price there is or was in a namespace, and what it is in.
select distinct price, currency from catalog.price where namespace_key = %(namespace_key)s and pricebook <> %(but)s

-- name: price_rows
-- Keys of every price of every version.
select p.price_key, v.price_version_key, p.pricebook, v.version, p.price, p.digest
from catalog.price p join catalog.price_version v using (price_key)
join catalog.pricebook_version b on b.namespace_key = p.namespace_key and b.pricebook = p.pricebook and b.version = v.version
where p.namespace_key = %(namespace_key)s and b.revision <= coalesce(%(revision)s::bigint, 9223372036854775807)
order by v.price_version_key

-- name: accounts
-- Accounts by id.
select account_key, account, name, pricebook, timezone, tags from catalog.account
where namespace_key = %(namespace_key)s and account = any(%(accounts)s)

-- name: account_books
-- Whose pricebook is which.
select account, pricebook from catalog.account where namespace_key = %(namespace_key)s

-- name: accounts_by_key
-- Accounts as an invoice names them.
select account_key, account, name, pricebook, timezone, billing, tags from catalog.account where account_key = any(%(keys)s)

-- name: add_accounts
-- Accounts seen first in an event, with the defaults of the catalog. In key order, so that two processes cannot deadlock.
insert into catalog.account (namespace_key, account, name, pricebook, timezone, billing, tags)
select %(namespace_key)s, account, account, %(pricebook)s, %(timezone)s, %(billing)s, '{}'
from unnest(%(accounts)s::text[]) as account order by account
on conflict (namespace_key, account) do nothing

-- name: account_tags_at
-- The tags of every account some catalog up to a revision listed, as the last of them gave them.
select distinct on (account ->> 'id') account ->> 'id', account -> 'tags'
from catalog.publication p
cross join lateral jsonb_array_elements(coalesce(p.document::jsonb #> '{catalog,accounts}', '[]')) as account
where p.namespace_key = %(namespace_key)s and p.revision <= %(revision)s
order by account ->> 'id', p.revision desc

-- name: put_account
-- An account the catalog lists.
insert into catalog.account (namespace_key, account, name, pricebook, timezone, billing, tags)
values (%(namespace_key)s, %(account)s, %(name)s, %(pricebook)s, %(timezone)s, %(billing)s, %(tags)s)
on conflict (namespace_key, account) do update set name = excluded.name, pricebook = excluded.pricebook,
  timezone = excluded.timezone, billing = excluded.billing, tags = excluded.tags

-- name: add_tag_sets
-- Tag sets are shared by all namespaces: text, not meaning.
insert into catalog.tag_set (tags) select tags from unnest(%(tags)s::text[]) as tags order by tags
on conflict (tags) do nothing

-- name: tag_sets
-- Keys of tag sets.
select tag_set_key, tags from catalog.tag_set where tags = any(%(tags)s)

-- name: all_accounts
-- Key and text of every account, with its namespace: what leaves commit to.
select a.account_key, n.namespace, a.account from catalog.account a join catalog.namespace n using (namespace_key)

-- name: all_prices
-- Key and text of every price version.
select v.price_version_key, p.pricebook, v.version, p.price, p.meter, p.unit, p.scale, p.currency, encode(p.digest, 'hex')
from catalog.price p join catalog.price_version v using (price_key)

-- name: all_tag_sets
-- Key and text of every tag set.
select tag_set_key, tags from catalog.tag_set

-- name: namespaces
-- Key and text of every namespace.
select namespace_key, namespace from catalog.namespace

-- name: documents
-- Every published catalog of a namespace, the latest first.
select revision, document from catalog.publication where namespace_key = %(namespace_key)s order by revision desc
