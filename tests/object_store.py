"""An object store: a server that speaks S3's protocol on this machine."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def served_bucket(name: str) -> Iterator[str]:
    """The URI of a folder in an empty bucket; this process and its children find the server."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    patch.setenv("AWS_SECRET_ACCESS_KEY", secrets.token_hex(16))
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    boto3.client("s3").create_bucket(Bucket=name)
    try:
        yield f"s3://{name}/below"
    finally:
        patch.undo()
        server.stop()
