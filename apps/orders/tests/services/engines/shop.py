"""A service in another language: it places orders on Kafka, and reads what becomes of them.

usage: shop.py BOOTSTRAP PREFIX USER DEAD_USER

It knows what docs/guide/wire.md says and nothing else. It ends with 0 when all of that was true, and prints what it saw.
"""

import json
import sys
import time
import uuid

from confluent_kafka import Consumer, Producer

BOOTSTRAP, PREFIX, USER, DEAD_USER = sys.argv[1:]
PATIENCE_SECONDS = 90
RUN = uuid.uuid4().hex[:8]
ITEMS = [{"sku": "tea", "name": "tea", "qty": 1, "price": 500}]
NOW = "2026-03-02T10:00:00"


def order(number):
    return f"py-{RUN}-{number}"


def data(number):
    return {"order_id": order(number), "user_id": USER, "total": 500, "items": ITEMS}


# Keys go to the partitions that a Java client would choose.
producer = Producer({"bootstrap.servers": BOOTSTRAP, "partitioner": "murmur2_random"})
failed = []


def publish(key, value, headers=None):
    def delivered(error, _):
        if error is not None:
            failed.append(str(error))

    producer.produce(
        f"{PREFIX}orders",
        key=key,
        value=json.dumps(value).encode(),
        headers=headers or [],
        on_delivery=delivered,
    )


# The minimal envelope: four fields.
publish(USER, {"event_type": "OrderCreated", "event_id": order(1), "timestamp": NOW, "data": data(1)})
# CloudEvents, structured and binary.
publish(
    USER,
    {
        "specversion": "1.0",
        "type": "OrderCreated",
        "id": "2",
        "source": f"/python/{RUN}",
        "time": f"{NOW}Z",
        "data": data(2),
    },
    [("content-type", b"application/cloudevents+json")],
)
publish(
    USER,
    data(3),
    [
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_type", b"OrderCreated"),
        ("ce_id", b"3"),
        ("ce_source", f"/python/{RUN}".encode()),
        ("ce_time", f"{NOW}Z".encode()),
    ],
)
# One that names no order: nobody can handle it.
nameless = {
    "event_type": "OrderCreated",
    "event_id": order("nameless"),
    "timestamp": NOW,
    "data": {"user_id": DEAD_USER, "total": 500, "items": ITEMS},
}
publish(DEAD_USER, nameless)
producer.flush(PATIENCE_SECONDS)
assert not failed, failed

consumer = Consumer(
    {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": f"{PREFIX}python-{RUN}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
consumer.subscribe([f"{PREFIX}payments", f"{PREFIX}orders.dlq"])
wanted = {order(1), order(2), order(3)}
paid, dead = {}, None
deadline = time.monotonic() + PATIENCE_SECONDS
while time.monotonic() < deadline and (set(paid) != wanted or dead is None):
    message = consumer.poll(1.0)
    if message is None or message.error():
        continue
    value = json.loads(message.value())
    headers = {name: (text or b"").decode() for name, text in message.headers() or []}
    if message.topic().endswith(".dlq"):
        if value.get("original_event", {}).get("event_id") == order("nameless"):
            assert value["original_event"] == nameless, value
            assert "names no order" in value["error"], value
            assert value["failed_at"], value
            assert message.key().decode() == DEAD_USER
            assert headers["factum-dlq-topic"].endswith("orders"), headers
            assert int(headers["factum-dlq-attempts"]) >= 1, headers
            dead = headers["factum-dlq-group"]
    elif value["event_type"] == "PaymentCompleted" and value["data"]["order_id"] in wanted:
        # Our own envelope, with all that docs/guide/wire.md promises.
        for field in ("event_id", "timestamp", "version", "aggregate_type", "aggregate_id", "correlation_id"):
            assert field in value, (field, value)
        assert headers["content-type"] == "application/json", headers
        assert headers["factum-at"] and headers["factum-source"] and headers["factum-previous"], headers
        assert message.key().decode() == value["data"]["order_id"]
        paid[value["data"]["order_id"]] = value["data"]["amount"]
consumer.close()
assert set(paid) == wanted, (paid, wanted)
assert set(paid.values()) == {500}, paid
assert dead is not None, "no dead letter came"
print(json.dumps({"paid": sorted(paid), "dead_in": dead}))
