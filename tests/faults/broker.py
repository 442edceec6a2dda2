"""A real Apache Kafka broker for tests: one process in KRaft mode, from jars that Maven resolves once into ``.venv/broker``.

``python -m tests.faults.broker`` gets the jars, and Java and Maven where they are missing and may be installed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec
from confluent_kafka.cimpl import NewTopic

from lineitem.kit.embedded_folder import within
from tests.faults import certificates
from tests.faults.proxy import Proxy

POM = Path(__file__).parents[1] / "broker" / "pom.xml"
JARS = Path(sys.prefix) / "broker"
_JAVA = ("java", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*")
_PATIENCE_S = 60
_MESSAGE_BYTES_MAX = 12 << 20
_MODULES = "org.apache.kafka.common.security"
USER, PASSWORD = "billing", "not-to-be-shown"
"""Who may come in by the listener with TLS and SASL."""
_SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},BEHIND://127.0.0.1:{behind},SECURE://127.0.0.1:{secure},\\
  CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},BEHIND://127.0.0.1:{proxy},SECURE://localhost:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,BEHIND:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/server.pem
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{user}="{password}";
listener.name.secure.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
message.max.bytes={largest}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/logs
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=2
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.initial.task.delay.ms=200
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=8388608
"""

_NO_GROUP_YET = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.GROUP_ID_NOT_FOUND,
    }
)


class NoBroker(Exception):
    """Why there can be no broker here."""


def install() -> None:
    """Resolve the jars. Raises NoBroker where Java or Maven is missing and cannot be installed, or Maven fails."""
    JARS.mkdir(exist_ok=True)
    with open(JARS / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = JARS / "pom.xml"
        if stamp.exists() and stamp.read_bytes() == POM.read_bytes() and shutil.which("java"):
            return
        if not (shutil.which("java") and shutil.which("mvn")):
            _install_java()
        for old in JARS.glob("*.jar"):
            old.unlink()
        command = ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={JARS}"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise NoBroker(f"Maven could not resolve Apache Kafka: {(run.stdout + run.stderr).strip()[-500:]}")
        shutil.copy(POM, stamp)


def _install_java() -> None:
    wanted = "Java 17 and Maven are needed for a Kafka broker"
    if os.geteuid() or not shutil.which("apt-get"):
        raise NoBroker(f"{wanted}; on Debian and Ubuntu: apt-get install default-jre-headless maven")
    install_ = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "default-jre-headless", "maven"]
    run = subprocess.run(install_, capture_output=True, text=True, check=False)
    if run.returncode:
        raise NoBroker(f"{wanted} and apt-get could not install them: {run.stderr.strip()[-300:]}")


class Broker:
    """A running broker and what tests do to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.secure_port, behind, controller = free_ports(4)
        self.way = Proxy(behind)
        """A proxy before one of the listeners: a client that comes through it is told of no other way."""
        self.ca = certificates.write(folder)
        self._settings = folder / "server.properties"
        ports = {"port": self.port, "secure": self.secure_port, "behind": behind, "proxy": self.way.port}
        known = {
            "controller": controller,
            "folder": folder,
            "user": USER,
            "password": PASSWORD,
            "largest": _MESSAGE_BYTES_MAX,
            "modules": _MODULES,
        }
        self._settings.write_text(_SETTINGS.format(**ports, **known))
        tool = [
            *_JAVA, "kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", str(self._settings),
            "--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]",
        ]  # fmt: skip
        subprocess.run(tool, check=True, capture_output=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.client: dict[str, Any] = {"log_level": 0, "bootstrap.servers": f"127.0.0.1:{self.port}"}
        self.start()
        self.admin = AdminClient(self.client)

    def start(self) -> None:
        """Start it and wait until it answers."""
        with open(self.folder / "broker.log", "ab") as log:
            self._process = subprocess.Popen(
                [*_JAVA, "kafka.Kafka", str(self._settings)], stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        assert until(lambda: _answers(AdminClient(self.client))), (self.folder / "broker.log").read_text()[-2000:]

    def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def log(self, topic: str) -> Path:
        """The file that holds the records of a topic's first partition."""
        return self.folder / "logs" / f"{topic}-0" / f"{0:020d}.log"

    def lose(self, topic: str, size: int) -> None:
        """What an unclean election does: the broker comes back with an older, shorter log of a topic's first partition."""
        self.kill()
        os.truncate(self.log(topic), size)
        for name in (".index", ".timeindex"):
            self.log(topic).with_suffix(name).unlink()
        self.start()

    def url(self, topic: str, *, through_the_proxy: bool = False) -> str:
        """As ``--source`` wants it."""
        return f"kafka://127.0.0.1:{self.way.port if through_the_proxy else self.port}/{topic}"

    def create(self, topic: str, partitions: int = 1, **config: str) -> None:
        """Make a topic, and wait until a producer sees it; one of that name may still be on its way out."""
        settings = {name.replace("_", "."): value for name, value in config.items()}

        def made() -> bool:
            try:
                self.admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])[topic].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
                return False
            return True

        assert until(made)
        assert until(lambda: self._exists(topic))

    def delete(self, topic: str) -> None:
        """Delete a topic with all it holds."""
        self.admin.delete_topics([topic])[topic].result()
        assert until(lambda: not self._exists(topic))

    def _exists(self, topic: str) -> bool:
        try:
            self.admin.describe_topics(TopicCollection([topic]))[topic].result()
        except KafkaException:
            return False
        return True

    def topic_id(self, topic: str) -> str:
        """As Kafka writes ids."""
        found = self.admin.describe_topics(TopicCollection([topic]))[topic].result()
        return str(found.topic_id).translate(str.maketrans("+/", "-_"))

    def ends(self, topic: str) -> dict[str, int]:
        """Partition -> the offset behind its last record."""
        found = self.admin.describe_topics(TopicCollection([topic]))[topic].result()
        asked = {TopicPartition(topic, one.id): OffsetSpec.latest() for one in found.partitions}
        ends = {place.partition: answer.result().offset for place, answer in self.admin.list_offsets(asked).items()}
        return {str(number): end for number, end in sorted(ends.items())}

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """What retention does: records before an offset are gone."""
        place = TopicPartition(topic, partition, before)
        self.admin.delete_records([place])[place].result()

    def produce(self, topic: str, messages: Sequence[tuple[str | None, bytes | None]], **options: Any) -> None:
        """Keys and values, acknowledged by the broker."""
        producer = Producer({**self.client, "message.max.bytes": _MESSAGE_BYTES_MAX})
        for key, value in messages:
            producer.produce(topic, key=key, value=value, **options)
            producer.poll(0)
        assert producer.flush(30) == 0

    def transaction(self, topic: str, values: Sequence[bytes], *, commit: bool) -> None:
        """Records of one transaction, committed or aborted."""
        producer = Producer({**self.client, "transactional.id": f"test-{topic}"})
        producer.init_transactions(30)
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value=value, partition=0)
        assert producer.flush(30) == 0
        if commit:
            producer.commit_transaction(30)
        else:
            producer.abort_transaction(30)

    def members(self, group: str) -> int:
        """How many clients a settled group has that were given something to read; 0 while it is being divided."""
        try:
            found = self.admin.describe_consumer_groups([group])[group].result()
        except KafkaException as error:
            if error.args[0].code() not in _NO_GROUP_YET:
                raise
            return 0
        if found.state != ConsumerGroupState.STABLE:
            return 0
        return sum(bool(member.assignment and member.assignment.topic_partitions) for member in found.members)

    def offsets(self, topic: str, partition: int = 0) -> list[int]:
        """Offsets of the records a partition still holds."""
        own = {"group.id": "look", "enable.partition.eof": True, "auto.offset.reset": "earliest"}
        consumer = Consumer({**self.client, **own})
        consumer.assign([TopicPartition(topic, partition, 0)])
        found = []
        while True:
            message = consumer.poll(30)
            assert message is not None
            if message.error() is not None:
                break
            found.append(int(message.offset() or 0))
        consumer.close()
        return found

    def stop(self) -> None:
        """End it; what it holds is not needed any more."""
        self.kill()
        self.way.close()


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """A broker for as long as the context lasts; ``install`` comes first."""
    broker = Broker(folder)
    try:
        yield broker
    finally:
        broker.stop()


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition; whether it came about in time."""
    return within(_PATIENCE_S, condition)


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def free_ports(count: int) -> list[int]:
    """Ports of this machine nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def die_with_parent(how: int = signal.SIGKILL) -> None:
    """For a child process between fork and exec: the kernel ends it when the tests are gone."""
    ctypes.CDLL(None).prctl(1, how, 0, 0, 0)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    try:
        install()
    except NoBroker as reason:
        print(f"Tests against Kafka will be skipped: {reason}", file=sys.stderr)
