import com.microsoft.azure.sdk.iot.device.DeviceClient;
import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.Message;
import com.microsoft.azure.sdk.iot.device.twin.DirectMethodResponse;
import com.microsoft.azure.sdk.iot.device.twin.TwinCollection;

/**
 * A device: sends telemetry once a second, answers the direct method "reboot", and reports what its desired properties say. Set IOTHUB_DEVICE_CONNECTION_STRING to a device's connection string whose HostName has a
 * dot in it, and trust the CA: eval "$(emulator certs env)".
 */
public class Device {
    public static void main(String[] args) throws Exception {
        DeviceClient client = new DeviceClient(System.getenv("IOTHUB_DEVICE_CONNECTION_STRING"), IotHubClientProtocol.MQTT);
        client.open(true);
        client.subscribeToMethods((name, request, context) -> {
            System.out.println(name + " " + request.getPayloadAsJsonString());
            return new DirectMethodResponse(name.equals("reboot") ? 200 : 404, null);
        }, null);
        client.subscribeToDesiredProperties((twin, context) -> {
            System.out.println("desired " + twin.getDesiredProperties());
            TwinCollection reported = new TwinCollection();
            twin.getDesiredProperties().forEach(reported::put);
            client.updateReportedPropertiesAsync(reported, (status, response, failure, ctx) -> System.out.println("reported " + status), null);
        }, null);
        String count = System.getenv("COUNT");
        for (int n = 0; n < (count == null ? Integer.MAX_VALUE : Integer.parseInt(count)); n++) {
            client.sendEvent(new Message("{\"n\": " + n + "}"));
            System.out.println("sent " + n);
            Thread.sleep(1000);
        }
        client.close();
    }
}
