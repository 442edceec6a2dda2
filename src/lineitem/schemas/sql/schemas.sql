-- name: schemas
-- Every schema of a namespace.
select id, format, document, refs, digest from schemas.schema where namespace_key = %(namespace_key)s order by id

-- name: versions
-- Which schema each version of each subject is.
select subject, version, id from schemas.version where namespace_key = %(namespace_key)s order by subject, version

-- name: settings
-- What each subject asks now: the newest batch's word.
select distinct on (subject, name) subject, name, value from schemas.setting
where namespace_key = %(namespace_key)s order by subject, name, batch desc

-- name: newest
-- The newest batch that registered or set anything; null where none did.
select greatest(
  (select max(batch) from schemas.version where namespace_key = %(namespace_key)s),
  (select max(batch) from schemas.setting where namespace_key = %(namespace_key)s))

-- name: add_schema
-- A schema that no subject had before.
insert into schemas.schema (namespace_key, id, format, document, refs, digest, batch)
values (%(namespace_key)s, %(id)s, %(format)s, %(document)s, %(refs)s, %(digest)s, %(batch)s)

-- name: add_version
-- The next version of a subject.
insert into schemas.version (namespace_key, subject, version, id, batch)
values (%(namespace_key)s, %(subject)s, %(version)s, %(id)s, %(batch)s)

-- name: add_setting
-- What a subject asks from now on.
insert into schemas.setting (namespace_key, subject, name, value, batch)
values (%(namespace_key)s, %(subject)s, %(name)s, %(value)s, %(batch)s)

-- name: stored_schemas
-- Everything registered, of all namespaces.
select coalesce(n.namespace, ''), s.batch, s.id, s.format, s.document, s.refs, s.digest
from schemas.schema s left join catalog.namespace n using (namespace_key)

-- name: stored_versions
-- Every version, of all namespaces.
select coalesce(n.namespace, ''), v.batch, v.subject, v.version, v.id
from schemas.version v left join catalog.namespace n using (namespace_key)

-- name: stored_settings
-- Everything set, of all namespaces.
select coalesce(n.namespace, ''), s.batch, s.subject, s.name, s.value
from schemas.setting s left join catalog.namespace n using (namespace_key)
