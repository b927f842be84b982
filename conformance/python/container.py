"""A blob container on this machine, as far as an import or export job needs one: blobs are put and got by a URI with a SAS."""

import http.server
import threading
import urllib.parse

SAS = "sv=2021-08-06&sig=s3cret%3D"


class Container:
    def __init__(self, address):
        self.blobs = {}
        self.open = threading.Event()  # requests wait while it is not set
        self.open.set()
        self.asked = threading.Event()  # somebody has asked for something
        container = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                container._get(self)

            def do_PUT(self):
                container._put(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer((address, 0), Handler)
        self.uri = f"http://{address}:{self._server.server_port}/container?{SAS}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True).start()
        return self

    def __exit__(self, *_):
        self.open.set()
        self._server.shutdown()
        self._server.server_close()

    def _put(self, request):
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if name := self._enter(request):
            assert request.headers["x-ms-blob-type"] == "BlockBlob"
            self.blobs[name] = body.decode()
            self._answer(request, 201)

    def _get(self, request):
        if name := self._enter(request):
            found = name in self.blobs
            self._answer(request, 200 if found else 404, self.blobs.get(name, "").encode())

    def _enter(self, request):
        """Waits at the door, and returns the name of the blob to who may come in."""
        self.asked.set()
        self.open.wait()
        url = urllib.parse.urlsplit(request.path)
        if url.query != SAS:
            self._answer(request, 403)
            return None
        return url.path.removeprefix("/container/")

    @staticmethod
    def _answer(request, status, body=b""):
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
