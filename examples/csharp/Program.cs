// A device: sends telemetry once a second. Set IOTHUB_DEVICE_CONNECTION_STRING to what `emulator devices connection-string device1`
// prints, and trust the CA: eval "$(emulator certs env)" on Linux, `emulator certs trust` on Windows and macOS.
using System.Text;
using Microsoft.Azure.Devices.Client;

var client = DeviceClient.CreateFromConnectionString(Environment.GetEnvironmentVariable("IOTHUB_DEVICE_CONNECTION_STRING"), TransportType.Mqtt);
for (var n = 0; ; n++)
{
    await client.SendEventAsync(new Message(Encoding.UTF8.GetBytes($"{{\"n\": {n}}}")));
    Console.WriteLine($"sent {n}");
    await Task.Delay(1000);
}
