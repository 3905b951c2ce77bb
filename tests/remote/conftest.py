"""Object stores on this machine, with an empty bucket for every test."""

import os
import urllib.request
import uuid

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}


@pytest.fixture(scope="session")
def s3_server():
    """The URL of a server that speaks S3."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def mirrors(tmp_path, monkeypatch):
    """The folder of all mirrors."""
    monkeypatch.setenv("CATID2_MIRRORS", str(tmp_path / "mirrors"))
    monkeypatch.setattr("catid2_jax.remote.lock._RENEWED", 0.3)
    return tmp_path / "mirrors"


@pytest.fixture
def s3(s3_server, mirrors, monkeypatch):
    """The URL of a bucket, and the environment in which it is found."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        **CREDENTIALS,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    name = uuid.uuid4().hex
    request = urllib.request.Request(f"{s3_server}/{name}", method="PUT")
    urllib.request.urlopen(request).close()
    return f"s3://{name}"


@pytest.fixture
def fresh_s3(s3):
    """The same by a client of its own: the library keeps one for a process."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield s3
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def gs(mirrors, monkeypatch):
    """The URL of a bucket of an emulator of Google Cloud Storage."""
    gcsfs = pytest.importorskip("gcsfs.core")
    server = pytest.importorskip("gcp_storage_emulator.server")
    emulator = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket="shop")
    emulator.start()
    host, port = emulator._api._httpd.server_address
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield "gs://shop"
    emulator.stop()


def contents(url):
    """Path below a URL -> contents of the object, as the server itself has it."""
    kind, _, place = url.partition("://")
    bucket, _, folder = place.partition("/")
    if kind == "s3":
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        keys = dict(s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket].keys.items())
        found = {name: key.value for name, key in keys.items()}
    else:
        import gcsfs.core

        files = gcsfs.core.GCSFileSystem(skip_instance_cache=True, use_listings_cache=False)
        found = {name.partition("/")[2]: files.cat_file(name) for name in files.find(bucket)}
    start = f"{folder}/" if folder else ""
    return {n.removeprefix(start): text for n, text in found.items() if n.startswith(start)}
