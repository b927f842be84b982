"""Requests of our own, for what no method of azure-iot-hub's asks for or reads."""

import dataclasses
import json
import time

import requests

from feedback import sas_token

API_VERSION = "2021-04-12"


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict  # names in any case
    body: object


class Rest:
    """Speaks HTTPS to a hub as one of its policies."""

    def __init__(self, hub, policy="iothubowner", api_version=API_VERSION, headers=None):
        parts = dict(part.split("=", 1) for part in hub.policy(policy).split(";"))
        self._base, self._policy, self._key = hub.address, policy, parts["SharedAccessKey"]
        self._session = requests.Session()
        self._session.params = {"api-version": api_version}
        self._session.headers = headers or {}

    def ask(self, method, path, body=None, headers=None, **query):
        """body is sent as JSON; the answer's body is JSON, or None when it has none."""
        headers = {"Authorization": sas_token(self._base, self._key, int(time.time()) + 3600, self._policy), **(headers or {})}
        answer = self._session.request(
            method, f"https://{self._base}{path}", params=query, headers=headers,
            **({} if body is None else {"json": body}), timeout=30,
        )
        return Answer(answer.status_code, answer.headers, json.loads(answer.text) if answer.text else None)
