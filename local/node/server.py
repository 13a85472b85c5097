"""The kubelet API over https: what the API server calls for logs, exec, attach and port-forward."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.typedefs import Handler

from local.node.logs import LogQuery, read_log
from local.node.manager import PodManager
from local.node.pod import PodWorker
from local.node.portforward import serve_port_forward
from local.node.records import ContainerRecord, Waiting
from local.node.settings import NodeSettings
from local.node.streams import serve_attach, serve_exec

API_SERVER_NAMES = {"kube-apiserver", "kube-apiserver-kubelet-client"}
ADMINISTRATORS = "system:masters"
MANAGER: web.AppKey[PodManager] = web.AppKey("manager", PodManager)


class KubeletServer:
    """Serves until closed. `/healthz` is open; all else needs the API server's or an administrator's certificate."""

    def __init__(self, settings: NodeSettings, manager: PodManager) -> None:
        self._settings = settings
        application = web.Application(middlewares=[_authorize])
        application[MANAGER] = manager
        application.add_routes(_routes())
        self._runner = web.AppRunner(application, access_log=None, handler_cancellation=True)

    async def start(self) -> None:
        """Binds the port on all addresses."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self._settings.client_ca))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(self._settings.node_cert, self._settings.node_key)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=self._settings.port, ssl_context=context, shutdown_timeout=1).start()

    async def close(self) -> None:
        """Ends all streams and stops listening."""
        await self._runner.cleanup()


def _routes() -> list[web.RouteDef]:
    pod = "{namespace}/{pod}"
    with_uid = "{namespace}/{pod}/{uid}"
    routes = [web.get("/healthz", _healthz), web.get("/pods", _pods)]
    routes.append(web.get(f"/containerLogs/{pod}/{{container}}", _logs))
    for place in (f"{pod}/{{container}}", f"{with_uid}/{{container}}"):
        for method in ("GET", "POST"):
            routes.append(web.route(method, f"/exec/{place}", _exec))
            routes.append(web.route(method, f"/attach/{place}", _attach))
    for place in (pod, with_uid):
        routes += [web.route(method, f"/portForward/{place}", _port_forward) for method in ("GET", "POST")]
    return routes


@web.middleware
async def _authorize(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.path != "/healthz" and not is_allowed(request):
        raise web.HTTPUnauthorized(text="a client certificate of the API server is needed")
    return await handler(request)


def is_allowed(request: web.Request) -> bool:
    """Whether the verified client is the API server or an administrator."""
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    subject = {(key, value) for part in (certificate or {}).get("subject", ()) for key, value in part}
    names = {value for key, value in subject if key == "commonName"}
    return ("organizationName", ADMINISTRATORS) in subject or bool(names & API_SERVER_NAMES)


def _worker(request: web.Request) -> PodWorker:
    worker = request.app[MANAGER].find(request.match_info["namespace"], request.match_info["pod"])
    uid = request.match_info.get("uid")
    if worker is None or (uid and worker.state.uid != uid):
        raise web.HTTPNotFound(text="pod does not exist")
    return worker


def _container(request: web.Request, worker: PodWorker) -> str:
    name = request.match_info["container"]
    if name not in worker.state.records:
        raise web.HTTPNotFound(text=f'container "{name}" not found in pod')
    return name


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _pods(request: web.Request) -> web.Response:
    items = request.app[MANAGER].pods()
    return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})


async def _logs(request: web.Request) -> web.StreamResponse:
    worker = _worker(request)
    record = worker.state.records[_container(request, worker)]
    try:
        query = LogQuery.from_parameters(request.query, datetime.now(UTC))
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    attempt = _attempt(record, query.previous)
    path = worker.state.directory / worker.state.log_path(record.name, attempt)
    if attempt < 0 or not path.exists():
        raise web.HTTPBadRequest(text=_no_log(record, worker.state.title, query.previous))
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    is_over = lambda: worker.gone or record.attempt != attempt or not record.is_running  # noqa: E731
    async for piece in read_log(path, query, is_over):
        await response.write(piece)
    await response.write_eof()
    return response


def _attempt(record: ContainerRecord, previous: bool) -> int:
    """While a crashed container waits, its last attempt is both the current and the previous one."""
    waits = isinstance(record.state, Waiting) and not record.launching
    return record.attempt - 1 if previous and not waits else record.attempt


def _no_log(record: ContainerRecord, pod: str, previous: bool) -> str:
    if previous:
        return f'previous terminated container "{record.name}" in pod "{pod}" not found'
    reason = record.state.reason if isinstance(record.state, Waiting) else "no log"
    return f'container "{record.name}" in pod "{pod}" is waiting to start: {reason}'


async def _exec(request: web.Request) -> web.StreamResponse:
    worker = _worker(request)
    return await serve_exec(request, worker.state, _container(request, worker))


async def _attach(request: web.Request) -> web.StreamResponse:
    worker = _worker(request)
    return await serve_attach(request, worker.state, _container(request, worker))


async def _port_forward(request: web.Request) -> web.StreamResponse:
    return await serve_port_forward(request, _worker(request).state)
