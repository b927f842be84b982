"""The hub's refusals as azure-iot-hub raises them: a status, a name in a header, and one of three envelopes."""

import json
import re

import pytest
from msrest.exceptions import HttpOperationError


def refused(status, name, call, *arguments, **options):
    """Expects the call to be refused with the status and the error's name; returns its text."""
    with pytest.raises(HttpOperationError) as refusal:
        call(*arguments, **options)
    response = refusal.value.response
    return refusal_text(response.status_code, response.headers, response.json(), status, name)


def refusal_text(got_status, headers, body, status, name):
    """Checks a refusal and returns its text. The number or the name in the body must agree with the header and the status."""
    assert (got_status, headers.get("iothub-errorcode")) == (status, name), body
    if "errorCode" in body:
        return _numbered(body, status)
    if body["Message"].startswith("{"):
        # The Java SDK parses Message with ExceptionMessage appended.
        assert body["ExceptionMessage"] == ""
        return _numbered(json.loads(body["Message"]), status)
    found = re.fullmatch(r"ErrorCode:(\w+);(.*)", body["Message"], re.DOTALL)
    assert found and found[1] == name, body
    assert body["ExceptionMessage"].startswith("Tracking ID:")
    return found[2]


def _numbered(body, status):
    assert body["errorCode"] // 1000 == status
    assert re.fullmatch(r"[0-9a-f]{32}-G:\d+-TimeStamp:.+", body["trackingId"])
    assert body["timestampUtc"].endswith("Z")
    return body["message"]
