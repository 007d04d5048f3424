"""Starting the service on Ray, and what it is told."""

import logging
import os
import re
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from ray import serve
from ray.serve.schema import LoggingConfig

from xpool_platform.errors import UserError
from xpool_platform.placement import living_nodes, num_cpus
from xpool_platform.search.config import ServiceConfig
from xpool_platform.search.index_files import index_folder
from xpool_platform.search.searcher import Searcher
from xpool_platform.search.service.api import ApiSettings, build_api
from xpool_platform.search.service.collection import Collection, Shard
from xpool_platform.search.service.doors import is_loopback
from xpool_platform.search.service.measures import Measures

APP = "xpool-search"
OWN_NAMES = ("localhost", "127.0.0.1", "::1")
EVERYWHERE = ("0.0.0.0", "::")
"""Addresses that stand for all of a machine."""

MAX_WAITING = 500
"""Requests that a replica holds at once; more get status 503."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A service that answers."""

    address: str
    """With the token, if there is one."""

    token: str


@contextmanager
def service(config: ServiceConfig) -> Iterator[Service]:
    """A service on a running Ray until the block ends.

    Raises UserError for a port that is taken, and for more CPUs than the cluster has.
    """
    folder = index_folder(config.index)
    token = _token(config)
    port = _free_port(config.host, config.port)
    cpus = _cpus_each(config)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    options = {"host": config.host, "port": port}
    quiet = LoggingConfig(enable_access_log=False)  # queries are nobody else's business
    serve.start(http_options=options, logging_config=quiet)
    try:
        serve.run(_application(config, folder, token, cpus), name=APP, route_prefix="/")
        shown = "127.0.0.1" if config.host in EVERYWHERE else config.host
        shown = f"[{shown}]" if ":" in shown else shown
        query = f"?token={quote(token, safe='')}" if token else ""
        yield Service(address=f"http://{shown}:{port}/{query}", token=token)
    finally:
        if os.environ.get("RAY_ADDRESS"):  # a Ray of this job's own ends with all that is in it
            serve.delete(APP)


def _application(config: ServiceConfig, folder: Path, token: str, cpus: float) -> Any:
    threads = max(1, int(cpus))
    actor = {"num_cpus": cpus}
    shards = [
        serve.deployment(Shard)
        .options(name=_shard_name(number), ray_actor_options=actor, max_ongoing_requests=4)
        .bind(str(folder), number, config.num_shards, threads)
        for number in range(config.num_shards if config.num_shards > 1 else 0)
    ]
    names = () if token and not config.allowed_hosts else (*OWN_NAMES, *config.allowed_hosts)
    if names and config.host not in EVERYWHERE:
        names = (*names, config.host)

    def build() -> FastAPI:
        return _replica(config, folder, token, names, threads, len(shards))

    class Api:
        """The process of a replica; `build` makes what it runs."""

        def __init__(self, *_shards: object) -> None:
            pass

    return (
        serve.deployment(serve.ingress(build)(Api))
        .options(
            num_replicas=config.num_replicas,
            ray_actor_options=actor,
            max_ongoing_requests=MAX_WAITING,
        )
        .bind(*shards)
    )


def _replica(  # noqa: PLR0917
    config: ServiceConfig,
    folder: Path,
    token: str,
    names: tuple[str, ...],
    threads: int,
    num_shards: int,
) -> FastAPI:
    measures = Measures(serve.get_replica_context().replica_id.unique_id)
    handles = [serve.get_deployment_handle(_shard_name(n), APP) for n in range(num_shards)]
    collection = Collection(
        Searcher(folder, num_threads=threads),
        handles,
        batch_size=config.batch_size,
        batch_wait_s=config.batch_wait_s,
        on_batch=measures.batch,
    )
    settings = ApiSettings(
        token=token,
        hosts=names,
        max_query_length=config.max_query_length,
        queries_per_minute=config.queries_per_minute,
        method=config.method,
        copies=Path(tempfile.mkdtemp(prefix="xpool-search-")),
    )
    return build_api(collection, measures, settings)


def _shard_name(number: int) -> str:
    return f"Shard{number}"


def _token(config: ServiceConfig) -> str:
    """What has to be shown; where others reach the service there always is something."""
    token = config.token or os.environ.get("XPOOL_SEARCH_TOKEN", "")
    if token and len(token) < 16:
        raise UserError("XPOOL_SEARCH_TOKEN must have at least 16 characters; unset it to get one")
    if not re.fullmatch("[!-~]*", token):
        raise UserError("the token has spaces or other than ASCII in it, which no header can carry")
    return token or ("" if is_loopback(config.host) else secrets.token_urlsafe(24))


def _free_port(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as taken:
            return int(taken.getsockname()[1])
    except OSError as error:
        raise UserError(
            f"port {port} of {host} cannot be listened on ({error.strerror}); name another one: "
            "--port 8081"
        ) from error


def _cpus_each(config: ServiceConfig) -> float:
    """CPUs of each process; without a number, what there is, shared evenly.

    Raises UserError if the cluster has too few.
    """
    count = config.num_replicas + (config.num_shards if config.num_shards > 1 else 0)
    cpus = num_cpus(living_nodes())
    each = config.cpus_per_replica or (cpus // count or cpus / count)
    if each * count > cpus:
        raise UserError(
            f"num_replicas {config.num_replicas} and num_shards {config.num_shards} x "
            f"cpus_per_replica {each:g} need {each * count:g} CPUs, and the cluster has {cpus:g}; "
            f"set --cpus-per-replica {cpus / count:.2g} or less, or add nodes"
        )
    return each
