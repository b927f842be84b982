"""Where readers of the Event Hubs-compatible endpoint start, and where they go on."""

import contextlib
import datetime
import time

import pytest

from devices import connected
from eventhub import consumer, each_door, each_transport, read
from events import Reader, body, device_of
from proxy import Proxy


@each_door
def test_reading_starts_where_it_is_asked_to(hub, door, sent):
    fifth = sent[4]
    with contextlib.ExitStack() as readers:
        for events, first in [(readers.enter_context(read(hub, door, fifth.partition_id, start, inclusive)), first)
                              for start in (fifth.offset, fifth.sequence_number)
                              for inclusive, first in ((True, 4), (False, 5))]:
            bodies = [body(event) for event in events.of(device_of(fifth), 10 - first)]
            assert bodies == [str(n).encode() for n in range(first, 10)]


@each_door
def test_reading_starts_after_a_time(hub, door, sent):
    start = sent[0].enqueued_time - datetime.timedelta(milliseconds=1)
    with read(hub, door, sent[0].partition_id, start) as events:
        first = events.wait(lambda event: True)[0]
        own = events.of(device_of(sent[0]), 10)
    assert first.enqueued_time > start
    assert [body(event) for event in own] == [str(n).encode() for n in range(10)]


@each_door
def test_earliest_is_the_first_event_that_is_kept(hub, door, sent):
    with consumer(hub, door) as client:
        begin = client.get_partition_properties(sent[0].partition_id)["beginning_sequence_number"]
    with read(hub, door, sent[0].partition_id, "-1") as events:
        assert events.wait(lambda event: True)[0].sequence_number == begin


@each_door
def test_latest_sees_nothing_from_before(hub, door, device, reader):
    with connected(device) as client:
        client.send_message("before")
        partition = reader.of(device.id)[0].partition_id
        with read(hub, door, partition, "@latest") as events:
            deadline = time.monotonic() + 30
            while not events.so_far() and time.monotonic() < deadline:
                client.send_message("after")
    assert {body(event) for event in events.so_far()} == {b"after"}


@each_door
def test_each_partition_may_have_a_position_of_its_own(hub, door, sent):
    own, fifth = sent[0].partition_id, sent[4].sequence_number
    start = {p: fifth if p == own else "@latest" for p in "0123"}
    with read(hub, door, None, start, {p: p == own for p in "0123"}) as events:
        assert [body(event) for event in events.of(device_of(sent[0]), 6)] == [str(n).encode() for n in range(4, 10)]


@each_door
def test_who_asks_for_it_is_told_with_every_event_where_the_partition_ends(hub, door, sent):
    with read(hub, door, sent[0].partition_id, sent[0].offset, True,
              receive={"track_last_enqueued_event_properties": True}) as events, consumer(hub, door) as client:
        last = events.of(device_of(sent[0]), 10)[-1].last_enqueued
        partition = client.get_partition_properties(sent[0].partition_id)
    assert sent[-1].sequence_number <= last["sequence_number"] <= partition["last_enqueued_sequence_number"]
    assert int(sent[-1].offset) <= int(last["offset"]) <= int(partition["last_enqueued_offset"])
    assert sent[-1].enqueued_time <= last["enqueued_time"] <= last["retrieval_time"]


@each_transport
@pytest.mark.parametrize("prefetch", [1, 3, 300])
def test_every_event_arrives_once_and_in_order_whatever_is_fetched_ahead(hub, door, sent, prefetch):
    with read(hub, door, sent[0].partition_id, sent[0].offset, True, receive={"prefetch": prefetch}) as events:
        assert [event.sequence_number for event in events.of(device_of(sent[0]), 10)] == [
            event.sequence_number for event in sent]


def test_a_reader_whose_connection_is_cut_comes_back_at_its_offset(hub, device, reader):
    with Proxy(hub.address, 5672) as proxy, connected(device) as client:
        client.send_message("before")
        before = reader.of(device.id)[0]
        through = hub.plain_event_hub.replace(hub.address, f"{hub.address}:{proxy.port}", 1)
        with Reader(through, before.offset, False, before.partition_id) as events:
            for n in range(4):
                client.send_message(str(n))
                events.of(device.id, n + 1)
                proxy.cut()
            client.send_message("4")
            arrived = events.of(device.id, 5)
    assert [body(event) for event in arrived] == [b"0", b"1", b"2", b"3", b"4"]
    assert proxy.connections > 4
