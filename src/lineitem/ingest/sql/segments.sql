-- name: create
-- Store a segment unless its name is taken.
insert into ingest.segment (name, content) values (%(name)s, %(content)s) on conflict do nothing

-- name: read
-- The content of one.
select content from ingest.segment where name = %(name)s

-- name: names
-- All names that begin so.
select name from ingest.segment where starts_with(name, %(prefix)s) order by name collate "C"

-- name: remove
-- An orphan; a segment that a batch refers to is refused by the table.
delete from ingest.segment where name = %(name)s
