"""What the broker says about a topic: its cluster, its id (another one once it was made anew), its partitions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from lineitem.adapters.address import Address
from lineitem.adapters.opening import made_anew
from lineitem.core.errors import EnvironmentProblem, InputError, Refused

_ANSWER_S, _ASK_S = 10, 2
_PAUSE_S = 0.5
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""What brokers answer that know no topic ids, before Kafka 2.8."""
_GONE = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID, KafkaError._UNKNOWN_TOPIC})
_REFUSALS = {
    KafkaError._AUTHENTICATION: "the broker does not let this user in",
    KafkaError.SASL_AUTHENTICATION_FAILED: "the broker does not let this user in",
    KafkaError._SSL: "no TLS connection to the broker that can be trusted",
}
"""What trying again does not mend, and what it means."""
_URL_SAFE = str.maketrans("+/", "-_")
_LOG = logging.getLogger("lineitem.kafka")
_LOG.addHandler(logging.NullHandler())  # what matters of librdkafka's own words comes as an error, too


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it was when the worker began."""

    cluster: str
    name: str
    id: str
    partitions: int

    @property
    def what(self) -> str:
        """For people."""
        return f"topic {self.name!r}"

    @property
    def prefix(self) -> str:
        """How the streams of every topic of this name in this cluster begin."""
        return f"kafka:{self.cluster}/{self.name}/"

    def stream(self, partition: int) -> str:
        """The ledger's name for one partition."""
        return f"{self.prefix}{self.id}/{partition}"


class Broker:
    """Asks about topics; safe to use from several threads. ``settings``: see ``address.read_settings``."""

    def __init__(self, address: Address, settings: Mapping[str, str]) -> None:
        self.address = address
        self.settings: dict[str, Any] = {"bootstrap.servers": address.servers, **settings, "logger": _LOG}
        self._refusals: list[KafkaError] = []
        try:
            heard: dict[str, Any] = {**self.settings, "error_cb": self._heard}
            self._admin = AdminClient(heard)
        except KafkaException as error:
            raise InputError(
                f"a setting of --config is wrong: {_said(error)}", do="librdkafka's CONFIGURATION.md lists them."
            ) from error

    def topic(self) -> Topic:
        """Look the topic up. Raises EnvironmentProblem where no broker answers, Refused where there is no such topic."""
        name = self.address.topic
        try:
            cluster: Any = self._metadata(name).cluster_id
            found = self._describe()
        except KafkaException as error:
            raise self.problem(error) from error
        if not cluster or found[0] == _NO_ID:
            raise EnvironmentProblem(
                "the broker tells no cluster id or no topic id", where=name, do="Use Kafka 2.8 or newer."
            )
        return Topic(cluster, name, *found)

    def _metadata(self, name: str) -> Any:
        """Asked again after a moment: that a password is wrong is heard at once, but the client goes on trying."""
        for _ in range(_ANSWER_S // _ASK_S - 1):
            self._refusals.clear()
            try:
                return self._admin.list_topics(name, timeout=_ASK_S)
            except KafkaException:
                self._admin.poll(0)
                if self._refusals:
                    raise
        return self._admin.list_topics(name, timeout=_ASK_S)

    def _heard(self, error: KafkaError) -> None:
        """What the client says between answers; called inside ``poll``."""
        if error.code() in _REFUSALS:
            self._refusals.append(error)

    def _describe(self) -> tuple[str, int]:
        name = self.address.topic
        asked = self._admin.describe_topics(TopicCollection([name]), request_timeout=_ANSWER_S)
        found = asked[name].result()
        # As Kafka itself writes ids; the client uses the alphabet of base64 that has a slash.
        return str(found.topic_id).translate(_URL_SAFE), len(found.partitions)

    def ends(self, topic: Topic) -> dict[int, tuple[int, int]]:
        """Partition -> its first offset, and the one behind its last record. Raises as ``topic`` does."""
        places = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
        try:
            asked = [
                self._admin.list_offsets(dict.fromkeys(places, which), request_timeout=_ANSWER_S)
                for which in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
            ]
            firsts, ends = ({one.partition: answer.result().offset for one, answer in each.items()} for each in asked)
        except KafkaException as error:
            raise self.problem(error) from error
        return {number: (firsts[number], end) for number, end in sorted(ends.items())}

    def check(self, topic: Topic, stop: Event) -> None:
        """Raises Refused where the topic is another one now, or gone. Waits for a broker that is away, until ``stop``.

        An id is never used twice: what was read before this answers was read of ``topic``.
        """
        while True:
            try:
                found, _ = self._describe()
                break
            except KafkaException as error:
                problem = self.problem(error)
                if not isinstance(problem, EnvironmentProblem) or stop.wait(_PAUSE_S):
                    raise problem from error
        if found != topic.id:
            raise made_anew(topic.what, [topic.id], found)

    def problem(self, error: KafkaException) -> Refused | EnvironmentProblem:
        """What a failed question means for people."""
        code = error.args[0].code()
        if code in _GONE:
            return Refused(
                f"there is no topic {self.address.topic!r}", where=self.address.servers,
                do="Check --source; a topic is made with kafka-topics.sh --create.",
            )  # fmt: skip
        if self._refusals:
            refusal = self._refusals[-1]
            return EnvironmentProblem(
                f"{_REFUSALS[refusal.code()]}: {refusal.str()}", where=self.address.servers,
                do="Check the user, the password and the certificates (ssl.ca.location) in --config.",
            )  # fmt: skip
        return EnvironmentProblem(
            f"the broker does not answer as it should: {_said(error)}",
            where=self.address.servers,
            do="Check --source, the broker, and --config; nothing is counted twice, run the same command again.",
        )


def _said(error: KafkaException) -> str:
    about = error.args[0]
    return f"{about.str()} ({about.name()})"
