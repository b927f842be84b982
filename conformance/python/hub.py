"""One running Iolite: the real command, its control API and the strings that clients connect with."""

import contextlib
import datetime
import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
READY_SECONDS = 20
LOG_TAIL_LINES = 80


class Hub:
    """Runs `emulator serve` on one loopback address, on the documented ports."""

    def __init__(self, binary, address, certs_dir, log_path, *flags):
        self.binary = str(binary)
        self.address = address
        self.certs_dir = pathlib.Path(certs_dir)
        self._log_path = pathlib.Path(log_path)
        self._flags = flags
        self._process = None
        self._info = None

    def start(self):
        """Returns once /readyz answers 200; a hub that ends or hangs before that is an error."""
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                [
                    self.binary, "serve",
                    "--bind", self.address,
                    "--hostname", self.address,
                    "--control", f"{self.address}:8088",
                    "--certs-dir", str(self.certs_dir),
                    "--consumer-group", "a-group-of-its-own",
                    "--strict-ports",
                    *self._flags,
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"the hub ended with {self._process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the hub was not ready after {READY_SECONDS} s:\n{self.log_tail()}")
            time.sleep(0.02)
        return self

    def stop(self):
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def log_tail(self):
        lines = self._log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    # What /iolite/v1/info says.

    @property
    def ca_pem(self):
        return self._request("GET", "/iolite/v1/ca.pem").decode()

    @property
    def ca_path(self):
        return self.info["ca"]

    @property
    def info(self):
        if self._info is None:
            self._info = json.loads(self._request("GET", "/iolite/v1/info"))
        return self._info

    @property
    def owner(self):
        """The connection string of the policy iothubowner."""
        return self.info["connectionString"]

    def policy(self, name):
        """The connection string of one of the hub's policies."""
        return next(policy["connectionString"] for policy in self.info["policies"] if policy["name"] == name)

    def key(self, name):
        """The primary key of a policy."""
        return dict(part.split("=", 1) for part in self.policy(name).split(";"))["SharedAccessKey"]

    @property
    def event_hub(self):
        """The connection string of the Event Hubs-compatible endpoint, over TLS."""
        return self.info["eventHubsConnectionString"]

    @property
    def plain_event_hub(self):
        """The same for clients that know UseDevelopmentEmulator: plain TCP on 5672."""
        return self.info["emulatorConnectionString"]

    def device(self, device_id, key, module_id=None):
        module = f";ModuleId={module_id}" if module_id else ""
        return f"HostName={self.address};DeviceId={device_id}{module};SharedAccessKey={key}"

    # The control API.

    def advance(self, duration):
        """Moves the hub's clock; everything that falls due on the way happens before this returns."""
        self._request("POST", "/iolite/v1/clock", {"advance": duration})

    def now(self):
        """What the hub's clock shows."""
        now = json.loads(self._request("GET", "/iolite/v1/clock"))["now"]
        return datetime.datetime.fromisoformat(now[:19]).replace(tzinfo=datetime.timezone.utc)

    def event_hub_named(self, name):
        """The connection string of an event hub beside the built-in one."""
        return self.event_hub.replace(f"EntityPath={self.info['hub']}", f"EntityPath={name}")

    @contextlib.contextmanager
    def routing(self, **routing):
        """Has the hub send messages where a routing wants them, for as long as it is needed."""
        before = json.loads(self._request("GET", "/iolite/v1/routing"))
        self.put_routing(routing)
        yield
        self.put_routing(before)

    def put_routing(self, routing):
        self._request("PUT", "/iolite/v1/routing", routing)

    def events(self, **query):
        """What the control API finds of the events; with timeout it waits for them."""
        return json.loads(self._request("GET", f"/iolite/v1/events?{urllib.parse.urlencode(query)}"))["events"]

    def follow_events(self, **query):
        """Each event that matches, as it comes."""
        lines = f"http://{self.address}:8088/iolite/v1/events?{urllib.parse.urlencode({**query, 'follow': 'true'})}"
        with urllib.request.urlopen(lines, timeout=40) as answer:
            for line in answer:
                yield json.loads(line)

    @contextlib.contextmanager
    def event_hub_beside(self, **options):
        """An event hub of its own, for as long as it is needed."""
        path = f"/iolite/v1/eventhubs/py-{uuid.uuid4()}"
        yield json.loads(self._request("PUT", path, options))["name"]
        self._request("DELETE", path)

    @contextlib.contextmanager
    def consumer_group(self):
        """A consumer group of the built-in endpoint, for as long as it is needed."""
        path = f"/iolite/v1/eventhubs/{self.info['hub']}/consumergroups/py-{uuid.uuid4()}"
        yield json.loads(self._request("PUT", path))["name"]
        self._request("DELETE", path)

    def connections(self):
        return json.loads(self._request("GET", "/iolite/v1/connections"))

    def cut(self, device_id):
        self._request("DELETE", f"/iolite/v1/connections/{device_id}")

    def _ready(self):
        try:
            self._request("GET", "/readyz")
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def _request(self, method, path, body=None):
        request = urllib.request.Request(f"http://{self.address}:8088{path}", method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=40) as response:
            return response.read()


def build(directory):
    """The binary under test: IOLITE_BIN, or a fresh build of this repository."""
    if os.environ.get("IOLITE_BIN"):
        return pathlib.Path(os.environ["IOLITE_BIN"])
    binary = pathlib.Path(directory) / "emulator"
    subprocess.run(["go", "build", "-o", str(binary), "./cmd/emulator"], cwd=REPOSITORY, check=True)
    return binary
