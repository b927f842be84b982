"""azure-iot-hub's calls on devices and modules alike: the SDK has one method for each."""

import concurrent.futures
import contextlib

from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties


class Service:
    def __init__(self, registry):
        self._registry = registry

    def identity(self, identity):
        if identity.module_id:
            return self._registry.get_module(identity.id, identity.module_id)
        return self._registry.get_device(identity.id)

    def delete(self, identity):
        if identity.module_id:
            return self._registry.delete_module(identity.id, identity.module_id)
        return self._registry.delete_device(identity.id)

    def twin(self, identity):
        if identity.module_id:
            return self._registry.get_module_twin(identity.id, identity.module_id)
        return self._registry.get_twin(identity.id)

    def update_twin(self, identity, twin, etag=None):
        """None for the etag means any, as the SDK has it."""
        if identity.module_id:
            return self._registry.update_module_twin(identity.id, identity.module_id, twin, etag)
        return self._registry.update_twin(identity.id, twin, etag)

    def replace_twin(self, identity, twin, etag=None):
        if identity.module_id:
            return self._registry.replace_module_twin(identity.id, identity.module_id, twin, etag)
        return self._registry.replace_twin(identity.id, twin, etag)

    def desire(self, identity, desired):
        return self.update_twin(identity, desiring(desired))

    def invoke(self, identity, name, *payload, response_timeout=None, connect_timeout=None):
        """Calls a direct method; without a payload the request has no such field, which the SDK's own methods make an empty text of."""
        method = CloudToDeviceMethod(
            method_name=name, payload=payload[0] if payload else None,
            response_timeout_in_seconds=response_timeout, connect_timeout_in_seconds=connect_timeout,
        )
        if identity.module_id:
            if not payload:
                return self._registry.protocol.modules.invoke_method(identity.id, identity.module_id, method)
            return self._registry.invoke_device_module_method(identity.id, identity.module_id, method)
        if not payload:
            return self._registry.protocol.devices.invoke_method(identity.id, method)
        return self._registry.invoke_device_method(identity.id, method)


def desiring(desired, **twin):
    """A twin that says something of the desired properties."""
    return Twin(properties=TwinProperties(desired=desired), **twin)


def plain(section):
    """A section of properties without what the hub writes into it."""
    return {name: value for name, value in section.items() if name not in ("$metadata", "$version")}


@contextlib.contextmanager
def calling(call, *arguments, **options):
    """A call under way in a thread of its own; gives its future, and waits for its end."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit(call, *arguments, **options)
