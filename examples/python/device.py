"""A device: sends telemetry every second, or as often as its twin's desired property "interval" says; answers the direct method "reboot";
prints the messages it is sent.

Set IOTHUB_DEVICE_CONNECTION_STRING to what `emulator devices connection-string device1` prints, and trust the CA:
eval "$(emulator certs env)".
"""
import os
import time

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse

client = IoTHubDeviceClient.create_from_connection_string(os.environ["IOTHUB_DEVICE_CONNECTION_STRING"])
client.on_message_received = lambda m: print("received", m.data.decode(), m.custom_properties, flush=True)
interval = 1  # seconds


def on_desired(desired):
    global interval
    interval = desired.get("interval", interval)
    client.patch_twin_reported_properties({"interval": interval})
    print("interval", interval, "reported", flush=True)


def on_method(request):
    print(request.name, request.payload, flush=True)
    known = request.name == "reboot"
    client.send_method_response(MethodResponse.create_from_method_request(request, 200 if known else 404, {"restarting": known}))


client.on_twin_desired_properties_patch_received = on_desired
client.on_method_request_received = on_method
client.connect()
on_desired(client.get_twin()["desired"])
for n in range(int(os.environ.get("COUNT", "1000000"))):
    message = Message(f'{{"n": {n}}}', content_type="application/json", content_encoding="utf-8")
    client.send_message(message)
    print("sent", n, flush=True)
    time.sleep(interval)
client.shutdown()
