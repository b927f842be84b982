package iolite.conformance;

import com.microsoft.azure.sdk.iot.device.IotHubClientProtocol;
import com.microsoft.azure.sdk.iot.device.ModuleClient;
import com.microsoft.azure.sdk.iot.service.auth.AuthenticationType;
import com.microsoft.azure.sdk.iot.service.registry.Module;
import com.microsoft.azure.sdk.iot.service.registry.RegistryClient;

/** A module on a device of its own, and the clients that act as it. */
record TestModule(TestDevice device, String id, String key) {
    static TestModule on(Hub hub) throws Exception {
        return on(TestDevice.on(hub), "camera");
    }

    static TestModule on(TestDevice device, String id) throws Exception {
        Module module = new RegistryClient(device.hub().owner())
                .addModule(new Module(device.id(), id, AuthenticationType.SAS));
        return new TestModule(device, id, module.getPrimaryKey());
    }

    String connectionString() {
        return "HostName=" + device.hub().address + ";DeviceId=" + device.id() + ";ModuleId=" + id + ";SharedAccessKey=" + key;
    }

    /** A client that is not open yet. */
    ModuleClient client(IotHubClientProtocol door) {
        return new ModuleClient(connectionString(), door, TestDevice.options(door).build());
    }

    /** An open client. */
    ModuleClient open(IotHubClientProtocol door) throws Exception {
        ModuleClient client = client(door);
        client.open(false);
        return client;
    }
}
