"""Connects to each target "address port name" and prints a line: OK or what went wrong.

The first argument is "default", or "strict" for what is the default from Python 3.13 on.
"""
import socket
import ssl
import sys


def connect(context, target):
    address, port, name = target.split()
    try:
        with socket.create_connection((address, int(port)), timeout=10) as raw:
            with context.wrap_socket(raw, server_hostname=name):
                return "OK"
    except OSError as e:
        return str(e).replace("\n", " ")


context = ssl.create_default_context()
if sys.argv[1] == "strict":
    context.verify_flags |= ssl.VERIFY_X509_STRICT
for target in sys.argv[2:]:
    print(connect(context, target))
