"""A back end: prints the telemetry of all devices.

Set EVENTHUB_CONNECTION_STRING to the Event Hubs connection string that `emulator` prints at its start.
"""
import os

from azure.eventhub import EventHubConsumerClient


def show(partition, event):
    device = event.system_properties.get(b"iothub-connection-device-id", b"?").decode()
    print(f"partition {partition.partition_id} {device}: {event.body_as_str()}", flush=True)


client = EventHubConsumerClient.from_connection_string(os.environ["EVENTHUB_CONNECTION_STRING"], consumer_group="$Default")
with client:
    client.receive(on_event=show, starting_position="-1")
