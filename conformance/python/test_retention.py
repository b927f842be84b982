"""What partitions say, and where readers go on, when events have gone: on a hub that keeps no more than a mebibyte."""

import datetime

import pytest
from azure.iot.device import Message

from conftest import make_device
from devices import connected
from eventhub import DOORS, consumer, each_transport, read
from events import body

LARGE = b"x" * (20 << 10)
MORE_THAN_FITS = 60


@pytest.fixture(scope="module")
def full(small):
    """A device that has sent more than the hub keeps, and the partition of its events."""
    device = make_device(small.hub, small.registry)
    with connected(device) as client:
        for n in range(MORE_THAN_FITS):
            client.send_message(Message(str(n).encode() + LARGE))
    with consumer(small.hub, DOORS["amqps"]) as client:
        described = [client.get_partition_properties(partition) for partition in client.get_partition_ids()]
    return device, next(partition["id"] for partition in described if not partition["is_empty"])


@each_transport
def test_readers_go_on_with_the_oldest_event_that_is_kept(small, door, full):
    device, partition = full
    with consumer(small.hub, door) as client:
        described = client.get_partition_properties(partition)
    begin, end = described["beginning_sequence_number"], described["last_enqueued_sequence_number"]
    assert 0 < begin < end and not described["is_empty"]
    for start in ("-1", "0", 0, datetime.datetime.fromtimestamp(0, datetime.timezone.utc)):
        with read(small.hub, door, partition, start, True) as events:
            arrived = events.of(device.id, end - begin + 1)
        assert [event.sequence_number for event in arrived] == list(range(begin, end + 1))
        assert body(arrived[-1]).startswith(str(MORE_THAN_FITS - 1).encode())
