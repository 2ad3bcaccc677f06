"""A channel to where the programmer was told, in clear or over TLS."""

import os

import grpc


def channel() -> grpc.Channel:
    target = os.environ["TARGET"]
    if "CA" not in os.environ:
        # By default a client asks for the host that it connects to.
        host = os.environ.get("HOST_ASKED_FOR")
        return grpc.insecure_channel(target, [("grpc.default_authority", host)] if host else [])

    def text(name: str) -> bytes | None:
        if name not in os.environ:
            return None
        with open(os.environ[name], "rb") as file:
            return file.read()

    credentials = grpc.ssl_channel_credentials(text("CA"), text("KEY"), text("CERTIFICATE"))
    return grpc.secure_channel(target, credentials)


TOKEN = (("authorization", "Bearer " + os.environ.get("TOKEN", "")),)
