"""A device: sends telemetry once a second and prints the messages it is sent.

Set IOTHUB_DEVICE_CONNECTION_STRING to what `emulator devices connection-string device1` prints, and trust the CA:
eval "$(emulator certs env)".
"""
import os
import time

from azure.iot.device import IoTHubDeviceClient, Message

client = IoTHubDeviceClient.create_from_connection_string(os.environ["IOTHUB_DEVICE_CONNECTION_STRING"])
client.on_message_received = lambda m: print("received", m.data.decode(), m.custom_properties, flush=True)
client.connect()
for n in range(int(os.environ.get("COUNT", "1000000"))):
    message = Message(f'{{"n": {n}}}', content_type="application/json", content_encoding="utf-8")
    client.send_message(message)
    print("sent", n, flush=True)
    time.sleep(1)
client.shutdown()
