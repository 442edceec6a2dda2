-- name: drafts
-- Drafts of a namespace.
select draft, what, base_revision, digest, document from catalog.draft where namespace_key = %(namespace_key)s order by draft

-- name: steps
-- What was done to them.
select draft, act, actor, note, (extract(epoch from acted_at) * 1000000)::bigint from catalog.draft_step
where namespace_key = %(namespace_key)s order by draft, step

-- name: add_draft
-- A new draft.
insert into catalog.draft (namespace_key, draft, what, base_revision, digest, document)
values (%(namespace_key)s, %(draft)s, %(what)s, %(base_revision)s, %(digest)s, %(document)s)

-- name: add_step
-- One act.
insert into catalog.draft_step (namespace_key, draft, step, act, actor, note, acted_at)
values (%(namespace_key)s, %(draft)s, %(step)s, %(act)s, %(actor)s, %(note)s, %(acted_at)s)

-- name: all_drafts
-- Every draft as it is stored.
select n.namespace, draft, what, base_revision, digest, document
from catalog.draft d left join catalog.namespace n using (namespace_key)

-- name: all_steps
-- Every step as it is stored.
select n.namespace, draft, step, act, actor, note, (extract(epoch from acted_at) * 1000000)::bigint
from catalog.draft_step s left join catalog.namespace n using (namespace_key)
