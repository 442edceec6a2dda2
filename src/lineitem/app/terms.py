"""What people agree on: catalogs, drafts, canaries, exchange rates, prepaid credit. Each act signs the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from lineitem.app.files import readable
from lineitem.app.opened import Opened
from lineitem.catalog import published
from lineitem.catalog.canary import Bounds
from lineitem.catalog.diff import Change
from lineitem.catalog.draft import Act, Draft, Retirement
from lineitem.catalog.model import Catalog, Pricebook
from lineitem.catalog.rate_file import RATES_BYTES_MAX, parse_rates
from lineitem.core.errors import InputError
from lineitem.kit.config import actor
from lineitem.ledger import canary, drafting, fx, grants
from lineitem.ledger.canary import Checked, Choice
from lineitem.ledger.canary import Done as CanaryDone
from lineitem.ledger.fx import Loaded
from lineitem.ledger.grant_terms import Asked
from lineitem.ledger.preview import preview
from lineitem.ledger.publishing import Publication, publish
from lineitem.ledger.schema_desk import SchemaDesk
from lineitem.ledger.shadow import Candidate, Wanted, shadow
from lineitem.ledger.shadow import Progress as ShadowProgress
from lineitem.ledger.shadow_rows import Comparison


class Terms(Opened):
    """What is decided about prices, and what it would come to."""

    def catalog(self, namespace: str) -> Catalog | None:
        """The catalog published last."""
        return published.current(self.control, published.namespace_key(self.control, namespace))

    def publish(self, namespace: str, catalog: Catalog, by: str | None = None) -> Publication:
        """Put a catalog in force and sign the ledger. ``by``: who acts, here and below (``kit.config.actor``)."""
        done = publish(self.control, namespace, catalog, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def schema_desk(self, namespace: str) -> SchemaDesk:
        """The schema registry of a namespace; what is done there signs the ledger."""
        return SchemaDesk(
            namespace, self.dsn, self.clock, lambda connection: self.notary.sign(connection, self.clock.now_us())
        )

    def shadow(
        self, namespace: str, drafts: Sequence[Candidate], wanted: Wanted, progress: ShadowProgress
    ) -> Comparison:
        """Rate past usage with drafts of a catalog; nothing is written."""
        return shadow(self.control, self.segments, namespace, drafts, wanted, self.clock.now_us(), progress)

    def draft(self, namespace: str, catalog: Catalog, by: str | None, note: str) -> Draft:
        """Store a draft and sign the ledger."""
        made = drafting.draft(self.control, namespace, catalog, self.clock.now_us(), actor(by), note)
        self.checkpoint()
        return made

    def step(self, namespace: str, draft: int, act: Act, by: str | None, note: str = "") -> tuple[Draft, int]:
        """Review, approve or publish a draft, sign the ledger: the draft and the revision in force."""
        done = drafting.step(self.control, namespace, draft, act, self.clock.now_us(), actor(by), note)
        self.checkpoint()
        return done

    def retire(self, namespace: str, retirement: Retirement, by: str | None) -> tuple[int, Draft | None]:
        """End a version, or draft that, and sign the ledger: the revision in force, and the draft."""
        done = drafting.retire(self.control, namespace, retirement, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def rollback(
        self, namespace: str, pricebook: str, version: int, from_us: int, by: str | None
    ) -> tuple[Pricebook, int, Draft | None]:
        """Publish an old version's prices again, or draft that, and sign the ledger."""
        now_us = self.clock.now_us()
        done = drafting.rollback(self.control, namespace, pricebook, version, from_us, now_us, actor(by))
        self.checkpoint()
        return done

    def canary_start(
        self, namespace: str, file: Catalog, choice: Choice, bounds: Bounds, name: str | None, from_us: int | None,
        by: str | None,
    ) -> CanaryDone:  # fmt: skip
        """Start a canary, or draft that, and sign the ledger."""
        now_us = self.clock.now_us()
        done = canary.start(self.control, namespace, file, choice, bounds, name, from_us, now_us, actor(by))
        self.checkpoint()
        return done

    def canary_ramp(self, namespace: str, name: str, choice: Choice, by: str | None) -> CanaryDone:
        """Change who is in a canary, or draft that, and sign the ledger."""
        done = canary.ramp(self.control, namespace, name, choice, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def canary_stop(self, namespace: str, name: str, reason: str, by: str | None) -> CanaryDone:
        """Stop a canary and sign the ledger."""
        done = canary.stop(self.control, namespace, name, reason, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def canary_finish(self, namespace: str, name: str, from_us: int | None, by: str | None) -> CanaryDone:
        """Publish a canary's prices for everybody, or draft that, and sign the ledger."""
        done = canary.finish(self.control, namespace, name, from_us, self.clock.now_us(), actor(by))
        self.checkpoint()
        return done

    def canary_check(self, namespace: str) -> list[Checked]:
        """Work out what running canaries' members would have paid, stop those beyond their bounds, sign the ledger."""
        found = canary.check(self.control, self.segments, namespace, self.clock.now_us())
        if any(one.fresh for one in found):
            self.checkpoint()
        return found

    def canary_status(self, namespace: str, name: str | None) -> list[dict[str, object]]:
        """Canaries of a namespace."""
        return canary.status(self.control, namespace, name)

    def catalog_diff(self, namespace: str, new: Catalog) -> list[Change]:
        """What publishing ``new`` would change, and for whom."""
        return preview(self.control, namespace, new, self.clock.now_us())

    def catalog_history(self, namespace: str) -> dict[str, object]:
        """Drafts and versions of a namespace."""
        return drafting.history(self.control, namespace, self.clock.now_us())

    def load_rates(self, namespace: str, path: Path, correct: bool, by: str | None) -> Loaded:
        """Load a CSV file of exchange rates, sign the ledger."""
        with readable(path) as file:
            raw = file.read(RATES_BYTES_MAX + 1)
        if len(raw) > RATES_BYTES_MAX:
            raise InputError(f"is larger than {RATES_BYTES_MAX >> 20} MiB", where=str(path), do="Split it.")
        in_force = self.catalog(namespace)
        own = [one.code for one in in_force.currencies] if in_force else []
        found = parse_rates(raw, str(path), own)
        done = fx.load(self.control, namespace, found, correct, actor(by), self.clock.now_us())
        if done.added:
            self.checkpoint()
        return done

    def rates(self, namespace: str, day: date | None, source: str | None, every: bool) -> list[dict[str, str]]:
        """Exchange rates: what counts on a day, or everything kept."""
        key = published.namespace_key(self.control, namespace)
        return fx.shown(self.control, key, day, source, every)

    def grant_add(self, namespace: str, asked: Asked, by: str | None) -> tuple[grants.Kept, bool]:
        """Record a prepaid grant, sign the ledger: the grant and whether it is new."""
        done = grants.add(self.control, namespace, asked, actor(by), self.clock.now_us())
        if done[1]:
            self.checkpoint()
        return done

    def grant_void(self, namespace: str, grant: str, reason: str, by: str | None) -> tuple[grants.Kept, bool]:
        """Take back what is not drawn of a grant, sign the ledger: the grant and whether that did anything."""
        done = grants.void(self.control, namespace, grant, reason, actor(by), self.clock.now_us())
        if done[1]:
            self.checkpoint()
        return done
