"""python -m atlas.probe ATLAS_HTTP_PORT: whether the process on this setting's port lives. Ends with 0 or 1.

For a container's HEALTHCHECK: quick to start, and with nothing but Python.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys


def lives(port: int, *, tls: bool) -> bool:
    """Asks /livez on loopback. Who answers there is not the question, so no certificate is checked.

    A server that wants a certificate of ours (mutual TLS) lives: it shook hands, and refused.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.connect()
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection.sock = context.wrap_socket(connection.sock)
    except OSError as error:
        return _refused(error)
    try:
        connection.request("GET", "/livez")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException) as error:
        # with TLS 1.3 the refusal comes after the handshake
        return _refused(error) or (tls and isinstance(error, (ConnectionError, http.client.RemoteDisconnected)))
    finally:
        connection.close()


def _refused(error: Exception) -> bool:
    return isinstance(error, ssl.SSLError) and "certificate required" in str(error).lower().replace("_", " ")


if __name__ == "__main__":
    sys.exit(0 if lives(int(os.environ[sys.argv[1]]), tls=bool(os.environ.get("ATLAS_TLS_CERT"))) else 1)
