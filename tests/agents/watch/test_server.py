"""The page's server: what it answers, what it refuses, and who reaches it."""

import asyncio
import io
import json
import socket
import tracemalloc
from http.client import HTTPConnection
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from agents.watch.session import Session

server = pytest.importorskip("agents.watch.server")


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture
def site(serve, searching, leaves):
    """A served agent: `send(method, path, body)` gives the status and the body, `post` and `get` what is in it."""
    listener, watching = serve(searching, leaves.dataset)

    def send(method, path, body=None, headers=()):
        connection = HTTPConnection(*listener.getsockname(), timeout=30)
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def post(path, body=""):
        return json.loads(send("POST", path, body if isinstance(body, str | bytes) else json.dumps(body))[1])

    return SimpleNamespace(send=send, post=post, watching=watching, listener=listener, leaves=leaves.dataset)


def test_a_scene_is_played_undone_and_exported_as_by_the_session_alone(site):
    scene = site.leaves[2]
    alone = Session(site.watching.agent, scene.image, scene.label_map)
    begun = site.post("/scenes/2")
    path = f"/sessions/{begun['session']}"
    site.post(f"{path}/nudge", {"candidate": 1, "amounts": [1, 0, -2, 0.5]})
    shown = site.post(f"{path}/accept", {"candidate": len(begun["candidates"])})
    alone.nudge(1, [1, 0, -2, 0.5])
    alone.accept(len(alone.now.candidates) - 1)
    site.post(f"{path}/accept", {"candidate": 2})
    assert site.post(f"{path}/undo") == shown
    alone.finish()
    assert site.post(f"{path}/finish")["step"] == alone.step
    status, content = site.send("GET", f"{path}/label_map.png")
    assert status == 200
    assert np.array_equal(np.array(Image.open(io.BytesIO(content))), alone.label_map())


def test_an_uploaded_picture_has_an_episode_without_rewards(site):
    scene = site.leaves[0]
    shown = site.post("/pictures?name=plant.png", png(np.ascontiguousarray(scene.image.transpose(1, 2, 0))))
    assert shown["potential"] is None
    assert shown["step"] == 0
    alone = Session(site.watching.agent, scene.image)
    assert [c["value"] for c in shown["candidates"]] == [c.value for c in alone.now.candidates]


def test_an_uploaded_picture_three_pixels_high_stays_as_it_is(site):
    shown = site.post("/pictures?name=low.png", png(np.zeros((3, 64, 3), np.uint8)))
    assert shown["size"] == [3, 64]


def test_the_page_and_every_export_are_there(site):
    begun = site.post("/scenes/0")
    assert b"<title>acis watch</title>" in site.send("GET", "/")[1]
    for name, start in {"label_map.png": b"\x89PNG", "order.png": b"\x89PNG", "episode.gif": b"GIF8"}.items():
        status, content = site.send("GET", f"/sessions/{begun['session']}/{name}")
        assert (status, content[:4]) == (200, start)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/scenes/12", "", "scene must be from 0 to 11, got 12"),
        ("/pictures?name=notes.txt", b"no picture", "notes.txt cannot be opened as a picture"),
        ("/pictures?name=thin.png", png(np.zeros((1, 1, 3), np.uint8))[:30], "thin.png cannot be opened"),
        ("{}/accept", '{"candidate": 99}', "candidate must be from 0 to"),
        ("{}/accept", '{"candidate": "a"}', "candidate must be a whole number from 0 on, got a"),
        ("{}/accept", "[1]", "request: expected a JSON object, got list"),
        ("{}/accept", "{", "request: expected a JSON object, got what is not JSON"),
        ("{}/accept", b"\xff", "request: expected a JSON object"),
        ("{}/accept", " " * 70000, "a request must have at most 65536 bytes"),
        ("{}/nudge", '{"amounts": [0, 0, 0, NaN]}', "amounts must be a list of numbers, got [0, 0, 0, nan]"),
        ("{}/nudge", '{"amounts": 1}', "amounts must be a list of numbers, got 1"),
        ("{}/ask", '{"y": 1.0, "x": 0}', "y and x must be numbers from 0 to below 1, got [1.0, 0]"),
        ("{}/ask", "{}", "y and x must be numbers from 0 to below 1, got [None, None]"),
        ("{}/undo", "", "there is no mask to take back"),
        ("{}/sing", "", "what to do must be one of accept, undo, finish, nudge, ask, got 'sing'"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_the_episode_goes_on(site, path, body, message):
    begun = site.post("/scenes/0")
    here = f"/sessions/{begun['session']}"
    status, content = site.send("POST", path.format(here), body)
    error = json.loads(content)["error"]
    assert status == 400
    assert error.startswith(message)
    assert "\n" not in error
    assert site.post(f"{here}/accept")["step"] == 1


def test_a_scene_whose_file_is_gone_is_named(site, monkeypatch):
    def gone(self, index):
        raise FileNotFoundError(2, "No such file or directory", "0_rgb.png")

    monkeypatch.setattr(type(site.leaves), "__getitem__", gone)
    status, content = site.send("POST", "/scenes/0", "")
    assert status == 500
    assert "0_rgb.png" in json.loads(content)["error"]


def test_a_file_that_is_too_large_is_refused_in_words_that_arrive(site):
    status, content = site.send("POST", "/pictures", bytes(3 * 2**20 + server.MOST_BYTES))
    assert status == 400
    assert json.loads(content)["error"] == "a picture must have at most 20 MB, and this file has more"


def test_no_more_of_a_request_is_kept_than_is_taken():
    class Endless:
        async def stream(self):
            for _ in range(100):
                yield bytes(2**20)

    tracemalloc.start()
    with pytest.raises(ValueError, match="too much"):
        asyncio.run(server._body(Endless(), 2 * 2**20, ValueError("too much")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * 2**20


def test_the_oldest_session_makes_room_for_a_new_one(site):
    names = [site.post("/scenes/0")["session"] for _ in range(server.MOST_SESSIONS + 1)]
    status, content = site.send("POST", f"/sessions/{names[0]}/accept", "{}")
    assert status == 404
    assert json.loads(content)["error"] == "this episode is no longer kept: begin another one"
    assert all(site.post(f"/sessions/{name}/accept")["step"] == 1 for name in names[1:])
    site.post(f"/sessions/{names[1]}/undo")
    site.post("/scenes/0")
    assert site.post(f"/sessions/{names[1]}/accept")["step"] == 1  # names[2] was used longer ago
    assert site.send("POST", f"/sessions/{names[2]}/accept", "{}")[0] == 404


def test_other_addresses_of_this_computer_do_not_reach_the_page(site):
    host, port = site.listener.getsockname()
    assert host == "127.0.0.1"
    assert site.send("GET", "/about")[0] == 200
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), timeout=5):
        pass  # a server of all interfaces would be there, too


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost"}, 200),
        ({"Host": "other.example"}, 400),  # a name that leads here by a trick
        ({"Host": "localhost:80", "Origin": "http://localhost:80"}, 200),
        ({"Origin": "http://other.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_pages_of_other_servers_cannot_use_this_one(site, headers, status):
    assert site.send("POST", "/scenes/0", "", headers)[0] == status


def test_a_port_that_is_taken_is_named(site):
    port = site.listener.getsockname()[1]
    with pytest.raises(OSError, match=rf"^port {port} of 127\.0\.0\.1 cannot be used .*: choose another --port"):
        server.listen(port)
