from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import pytest

from explorer.server import free_port, is_loopback


def get(address: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def module_places(tmp_path_factory):
    from explorer.places import Places

    root = tmp_path_factory.mktemp("server")
    (root / "data").mkdir()
    return Places(root / "runs", demo=root / "demo", data_roots=(root / "data",))


@pytest.fixture(scope="module")
def open_server(serving, module_places):
    with serving(module_places) as address:
        yield address


@pytest.fixture(scope="module")
def locked_server(serving, module_places):
    with serving(module_places, auth=("anna", "secret")) as address:
        yield address


def test_the_page_and_its_files_are_served(open_server):
    status, page = get(open_server + "/")
    assert status == 200
    assert "SAM Explorer" in page
    assert "explorer/web/" in page
    status, script = get(open_server + "/explorer/plotly.js")
    assert status == 200
    assert len(script) > 100_000


def test_the_page_names_no_address_outside_this_server(open_server):
    _, page = get(open_server + "/")
    for outside in ("fonts.googleapis", "cdn.", "unpkg", "jsdelivr"):
        assert outside not in page


def test_a_page_that_points_a_name_of_its_own_at_this_computer_is_refused(open_server):
    assert get(open_server + "/explorer/pulse", Host="evil.example")[0] == 400
    assert get(open_server + "/", Host="evil.example")[0] == 400
    assert get(open_server + "/explorer/pulse", Host="localhost:1234")[0] == 200


def test_without_the_password_nothing_is_shown(locked_server):
    for path in ("pulse", "setup", "plotly.js", "runs/x/samples"):
        assert get(f"{locked_server}/explorer/{path}")[0] == 401
    status, page = get(locked_server + "/config")
    assert status == 401 or "auth_required" in page


def test_with_the_password_the_plain_routes_open_too(locked_server):
    jar = urllib.request.HTTPCookieProcessor()
    opener = urllib.request.build_opener(jar)
    with pytest.raises(urllib.error.HTTPError):
        opener.open(f"{locked_server}/login", data=b"username=anna&password=wrong", timeout=20)
    opener.open(f"{locked_server}/login", data=b"username=anna&password=secret", timeout=20)
    with opener.open(f"{locked_server}/explorer/pulse", timeout=20) as answer:
        assert json.loads(answer.read())["list"]["runs"] == []


def test_a_busy_port_gives_way_to_the_next_free_one():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = free_port("127.0.0.1", port)
    assert port < found < port + 50


def test_any_port_is_a_free_one():
    assert free_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("10.1.2.3", False),
     ("example.org", False)],
)  # fmt: skip
def test_only_this_computers_own_addresses_are_loopback(host, expected):
    assert is_loopback(host) == expected
