"""Connects to Temporal and prepares its namespace: search attributes, and how long closed workflows are kept.

Both are conveniences. Where the operator has no right to set them up it says so once and runs without.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client, TLSConfig
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode

from workflows.settings import TemporalSettings
from workflows.shown import BLOCKED, KEYS

log = logging.getLogger(__name__)

CALL_LIMIT = timedelta(seconds=10)


async def connect(settings: TemporalSettings, runtime: Runtime | None = None) -> Client:
    """A client with our data converter. Raises RuntimeError while Temporal is away."""
    tls = TLSConfig(
        server_root_ca_cert=settings.authority, client_cert=settings.certificate, client_private_key=settings.key
    )
    return await Client.connect(
        settings.address,
        namespace=settings.namespace,
        api_key=settings.api_key,
        tls=tls if settings.uses_tls else False,
        data_converter=pydantic_data_converter,
        runtime=runtime,
    )


async def set_up(client: Client, settings: TemporalSettings) -> bool:
    """True when every search attribute is registered, so that workflows may write them."""
    await _set_retention(client, settings)
    return await _register_attributes(client, settings.namespace)


async def _register_attributes(client: Client, namespace: str) -> bool:
    service = client.operator_service
    keyword, boolean = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD, IndexedValueType.INDEXED_VALUE_TYPE_BOOL
    wanted = {key.name: boolean if key is BLOCKED else keyword for key in KEYS}
    try:
        known = await service.list_search_attributes(
            ListSearchAttributesRequest(namespace=namespace), timeout=CALL_LIMIT
        )
        missing = {name: kind for name, kind in wanted.items() if name not in known.custom_attributes}
        if missing:
            request = AddSearchAttributesRequest(namespace=namespace, search_attributes=missing)
            await service.add_search_attributes(request, timeout=CALL_LIMIT)
    except RPCError as error:
        log.warning("search-attributes-unavailable namespace=%s error=%s", namespace, error)
        return error.status == RPCStatusCode.ALREADY_EXISTS
    return True


async def _set_retention(client: Client, settings: TemporalSettings) -> None:
    wanted = int(settings.retention.total_seconds())
    if not wanted:
        return
    service = client.workflow_service
    try:
        found = await service.describe_namespace(
            DescribeNamespaceRequest(namespace=settings.namespace), timeout=CALL_LIMIT
        )
        if found.config.workflow_execution_retention_ttl.seconds == wanted:
            return
        config = NamespaceConfig(workflow_execution_retention_ttl=Duration(seconds=wanted))
        request = UpdateNamespaceRequest(namespace=settings.namespace, config=config)
        await service.update_namespace(request, timeout=CALL_LIMIT)
    except RPCError as error:
        log.warning("retention-unchanged namespace=%s error=%s", settings.namespace, error)
