"""Azurite, the storage emulator, from the packages of conformance/node: what checkpoint stores and uploads need of a storage account."""

import os
import pathlib
import re
import shutil
import subprocess
import time

import pytest

NODE = pathlib.Path(__file__).resolve().parents[1] / "node"
READY_SECONDS = 30

# Azurite's one account, which is public knowledge.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azurite:
    """One account's blobs in memory, on a free port of an address; files is a certificate and a key for HTTPS."""

    def __init__(self, address, log_path, files=None):
        self._log_path = pathlib.Path(log_path)
        https = ["--cert", files[0], "--key", files[1]] if files else []
        with open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                ["node", NODE / "node_modules/azurite/dist/src/blob/main.js", "--blobHost", address, "--blobPort", "0",
                 "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent", *https],
                cwd=self._log_path.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )
        self.url = f"{self._listening()}/{ACCOUNT}"
        self.connection_string = (
            f"DefaultEndpointsProtocol={self.url.partition(':')[0]};AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};"
        )

    def _listening(self):
        """Waits for the line that says where."""
        deadline = time.monotonic() + READY_SECONDS
        while not (found := re.search(r"successfully listens on (\S+)", self._log_path.read_text())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Azurite does not listen:\n{self._log_path.read_text()}")
            time.sleep(0.02)
        return found[1]

    def stop(self):
        self._process.terminate()
        self._process.wait()


def installed():
    """Sees to the packages; without node the test is skipped, but not in CI."""
    if not shutil.which("node") or not shutil.which("npm"):
        if os.environ.get("CI") == "true":
            pytest.fail("node and npm are missing, and CI must not skip what needs Azurite")
        pytest.skip("Azurite needs node and npm, which are missing on this machine")
    subprocess.run([NODE / "install"], check=True, stdout=subprocess.DEVNULL)
