"""A TCP relay between a client and a hub, whose connections a test can cut."""

import contextlib
import socket
import threading


class Proxy:
    def __init__(self, address, port):
        self._to = (address, port)
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self._open = set()
        self._lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self):
        """Ends every connection there is, without a word."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                hub = socket.create_connection(self._to)
                with self._lock:
                    self.connections += 1
                    self._open |= {client, hub}
                for ends in ((client, hub), (hub, client)):
                    threading.Thread(target=self._relay, args=ends, daemon=True).start()

    def _relay(self, source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with self._lock:
            self._open -= {source, sink}
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
