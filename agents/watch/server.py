"""The server of the page: sessions by their names, on the loopback interface alone."""

from __future__ import annotations

import logging
import secrets
import socket
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from acis_env.configs import is_count, is_number
from acis_env.datasets.scene import SceneDataset
from acis_env.files import one_line
from acis_env.json_files import parse_json
from agents.models.agent import Agent
from agents.watch.exports import EXPORTS
from agents.watch.session import Session
from agents.watch.uploads import MOST_BYTES, read_upload, too_long
from agents.watch.view import view

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
"""The interface: other computers cannot reach it."""
NAMES = [HOST, "localhost"]
"""What a browser may call this server, so that no other page gets to it by a name that leads here."""
MOST_SESSIONS = 4
"""Sessions that are kept; a new one takes the place of the oldest."""
MOST_WORDS = 2**16
"""Bytes of a request that is not a picture."""
PAGE = Path(__file__).with_name("page.html")

Answer = Callable[["Watching", Request], Awaitable[Response]]


class Gone(Exception):
    """A session is asked for that is not kept."""


def answered(handler: Answer) -> Answer:
    """Make `handler` refuse the requests of other pages, and answer mistakes with one line."""

    @wraps(handler)
    async def answer(self: Watching, request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers.get('host')}":
            return JSONResponse({"error": f"requests must come from this server's own page, got {origin}"}, 403)
        try:
            return await handler(self, request)
        except Gone as error:
            return JSONResponse({"error": str(error)}, 404)
        except ValueError as error:
            return JSONResponse({"error": one_line(error)}, 400)
        except (OSError, RuntimeError) as error:  # a picture that is gone, a full disk, or a device without memory
            logger.exception("%s failed", request.url.path)
            return JSONResponse({"error": one_line(error)}, 500)

    return answer


class Watching:
    """Answers what the page asks for."""

    def __init__(self, agent: Agent, name: str, scenes: SceneDataset, max_steps: int | None = None) -> None:
        """Take what is watched.

        Args:
            agent: plays all episodes.
            name: the agent's, for the page.
            scenes: may be chosen by their number.
            max_steps: largest number of masks; None takes the agent's.
        """
        self.agent, self.name, self.scenes, self.max_steps = agent, name, scenes, max_steps
        self.sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def app(self) -> Starlette:
        """The application."""
        routes = [
            Route("/", self.page),
            Route("/about", self.about),
            Route("/scenes/{index:int}", self.choose_scene, methods=["POST"]),
            Route("/pictures", self.upload, methods=["POST"]),
            Route("/sessions/{session}/{act}", self.act, methods=["POST"]),
            Route("/sessions/{session}/{file}", self.export),
        ]
        return Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=NAMES)])

    async def page(self, request: Request) -> Response:
        """The page itself."""
        return FileResponse(PAGE, media_type="text/html")

    async def about(self, request: Request) -> Response:
        """What is the same in all sessions."""
        return JSONResponse({"agent": self.name, "num_scenes": len(self.scenes)})

    @answered
    async def choose_scene(self, request: Request) -> Response:
        """Begin an episode in a scene of the data set, whose truth may be known."""
        index = request.path_params["index"]
        if not 0 <= index < len(self.scenes):
            raise ValueError(f"scene must be from 0 to {len(self.scenes) - 1}, got {index}")

        def begin() -> Session:
            scene = self.scenes[index]
            return Session(self.agent, scene.image, scene.label_map, self.max_steps)

        return await self._begin(begin)

    @answered
    async def upload(self, request: Request) -> Response:
        """Begin an episode in a picture, which is all of the request."""
        content = await _body(request, MOST_BYTES, too_long())
        name = request.query_params.get("name", "picture")

        def begin() -> Session:
            # Channels first: a picture three pixels high is not taken for one that lies on its side.
            return Session(self.agent, read_upload(name, content).transpose(2, 0, 1), None, self.max_steps)

        return await self._begin(begin)

    @answered
    async def act(self, request: Request) -> Response:
        """Do something to an episode."""
        session = self._session(request)
        words = await _body(request, MOST_WORDS, ValueError(f"a request must have at most {MOST_WORDS} bytes"))
        act = _ACTS.get(request.path_params["act"])
        if act is None:
            raise ValueError(f"what to do must be one of {', '.join(_ACTS)}, got {request.path_params['act']!r}")
        given = parse_json(words or b"{}", "request")

        def work() -> dict[str, Any]:
            act(session, given)
            return view(session)

        return JSONResponse(await self._alone(work))

    @answered
    async def export(self, request: Request) -> Response:
        """A file of `EXPORTS`."""
        session, name = self._session(request), request.path_params["file"]
        if name not in EXPORTS:
            raise ValueError(f"a file must be one of {', '.join(EXPORTS)}, got {name!r}")

        def work() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / str(name)
                EXPORTS[name](session, path)
                return path.read_bytes()

        content = await self._alone(work)
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
        return Response(content, media_type=f"image/{name[-3:]}", headers=headers)

    def _session(self, request: Request) -> Session:
        try:
            self.sessions.move_to_end(request.path_params["session"])  # what is used longest ago goes first
            return self.sessions[request.path_params["session"]]
        except KeyError:
            raise Gone("this episode is no longer kept: begin another one") from None

    async def _begin(self, make: Callable[[], Session]) -> Response:
        def work() -> dict[str, Any]:
            session, name = make(), secrets.token_urlsafe(16)
            self.sessions[name] = session
            while len(self.sessions) > MOST_SESSIONS:
                self.sessions.popitem(last=False)
            return {"session": name, **view(session)}

        return JSONResponse(await self._alone(work))

    async def _alone(self, work: Callable[[], Any]) -> Any:
        """What `work` returns, done beside the server's own thread and never twice at a time."""

        def alone() -> Any:
            with self._lock:
                return work()

        return await run_in_threadpool(alone)


def listen(port: int) -> socket.socket:
    """A socket of the loopback interface; port 0 takes any that is free.

    Raises:
        OSError: the port is taken, or not allowed.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()  # from now on requests wait until they are answered
    except OSError as error:
        listener.close()
        raise OSError(f"port {port} of {HOST} cannot be used ({error.strerror}): choose another --port") from error
    return listener


def make_server(app: Starlette) -> uvicorn.Server:
    """A server for `run(sockets=[listen(port)])`."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))


async def _body(request: Request, most: int, error: ValueError) -> bytes:
    """The body of a request, of which no more than `most` bytes are kept; `error` is raised if there are more.

    These are read all the same: a browser hears no answer before it has sent everything.
    """
    content, length = bytearray(), 0
    async for part in request.stream():
        length += len(part)
        if length <= most:
            content += part
    if length > most:
        raise error
    return bytes(content)


def _accept(session: Session, given: Mapping[str, Any]) -> None:
    session.accept(_candidate(given))


def _nudge(session: Session, given: Mapping[str, Any]) -> None:
    amounts = given.get("amounts")
    if not isinstance(amounts, list) or not all(map(is_number, amounts)):
        raise ValueError(f"amounts must be a list of numbers, got {str(amounts)[:40]}")
    session.nudge(_candidate(given), amounts)


def _ask(session: Session, given: Mapping[str, Any]) -> None:
    """Asks at a point that is given in shares of the picture's height and width."""
    place: list[Any] = [given.get("y"), given.get("x")]
    if not all(is_number(share) and 0 <= share < 1 for share in place):
        raise ValueError(f"y and x must be numbers from 0 to below 1, got {str(place)[:40]}")
    y, x = (int(share * side) for share, side in zip(place, session.size, strict=True))
    session.ask(y, x)


def _candidate(given: Mapping[str, Any]) -> int:
    index = given.get("candidate", 0)
    if not is_count(index, least=0):
        raise ValueError(f"candidate must be a whole number from 0 on, got {str(index)[:40]}")
    return int(index)


_ACTS: dict[str, Callable[[Session, Mapping[str, Any]], None]] = {
    "accept": _accept,
    "undo": lambda session, _: session.undo(),
    "finish": lambda session, _: session.finish(),
    "nudge": _nudge,
    "ask": _ask,
}
"""What the page may do to a session, by name."""
