from __future__ import annotations

import json
import os
import signal
import time

import pytest
from playwright.sync_api import Route

from explorer.places import Places
from explorer.runs.states import process_of
from sam_core.recording.reader import Run

#: A run on the made-up photographs that is long enough to be watched, in the form's own words.
SMALL_RUN = {
    "dataset": "shapes", "label_ratio": 50, "backbone": "test_resnet", "weights": "none", "image_size": 64,
    "batch_size": 4, "attention_maps": 4, "device": "cpu",
}  # fmt: skip


@pytest.fixture
def places(shared_photographs, tmp_path) -> Places:
    return Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(shared_photographs.parent,))


@pytest.fixture
def address(serving, places):
    with serving(places) as address:
        yield address


@pytest.fixture
def reader(address, reader):
    """Made after the server, so that every page is closed before it ends."""
    return reader


@pytest.fixture
def start(address, places):
    """Starts a run as a program does, with more epochs than anybody waits for unless told otherwise."""
    from gradio_client import Client

    client = Client(address, verbose=False)
    yield lambda **choices: client.predict(**SMALL_RUN | {"epochs": 5000} | choices, api_name="/start_run")["run"]
    # Runs outlive their page and their server, so also a test that failed.
    for folder in places.runs.glob("[!.]*"):
        process = process_of(folder, Run(folder).status)
        if process:
            os.kill(process, signal.SIGKILL)


def state(page) -> str:
    return page.locator(".sx-progress-row .sx-state").inner_text()


def points(page, chart: str = "loss") -> int:
    return page.evaluate(
        f"document.querySelector('[data-chart=\"{chart}\"] .js-plotly-plot')?.data?.[0]?.y.length ?? 0"
    )


# --- The form --------------------------------------------------------------------------------------------------------


def test_the_form_says_what_will_happen_before_the_start(reader, address, until):
    page = reader(address).open()
    until(lambda: "40 labelled images of 10 classes" in page.locator("#outlook").inner_text(), "the default run")
    assert "on this CPU" in page.locator("#outlook").inner_text()
    page.get_by_label("Labelled images, % of each class").first.fill("30")
    page.keyboard.press("Tab")
    until(lambda: "120 labelled images" in page.locator("#outlook").inner_text(), "it follows the form")


def test_what_cannot_be_is_refused_where_it_is_chosen(reader, address, until):
    page = reader(address).open()
    until(lambda: "labelled images" in page.locator("#outlook").inner_text(), "the form is ready")
    page.get_by_label("Epochs").first.fill("none")
    page.keyboard.press("Tab")
    until(lambda: "epochs: must be a number" in page.locator("#outlook").inner_text(), "the field is named")
    assert page.locator("#start-run").is_disabled()
    page.get_by_label("Epochs").first.fill("3")
    page.keyboard.press("Tab")
    until(lambda: page.locator("#start-run").is_enabled(), "mended, it can start")


def test_choosing_a_method_leaves_only_what_goes_with_it(reader, address, until):
    page = reader(address).open()
    until(lambda: "labelled images" in page.locator("#outlook").inner_text(), "the form is ready")
    page.get_by_label("finetune", exact=True).check()
    pseudo = page.locator("#field-pseudo input")
    until(lambda: pseudo.is_disabled() and pseudo.input_value() == "", "fine-tuning fits no pseudo-attention")
    page.get_by_label("sam-bilinear", exact=True).check()
    until(lambda: pseudo.input_value() == "gradcam", "its own default")
    until(lambda: page.locator("#start-run").is_enabled(), "and it can start")


def test_a_preset_fills_the_form(reader, address, until):
    page = reader(address).open()
    until(lambda: "labelled images" in page.locator("#outlook").inner_text(), "the form is ready")
    page.get_by_text("Advanced").click()
    page.get_by_label("The released protocol (paper)").check()
    until(lambda: page.locator("#field-backbone input").input_value() == "resnet50.tv_in1k", "the backbone")
    assert page.locator("#field-epochs textarea, #field-epochs input").first.input_value() == ""


# --- The default run -------------------------------------------------------------------------------------------------


def test_the_default_run_starts_with_one_click_is_found_after_a_reload_and_reaches_its_end(
    reader, serving, tmp_path, until, screenshots
):
    """The whole way of a first user, on two cores: a point within 20 s, the end within 180 s."""
    (tmp_path / "data").mkdir()
    places = Places(tmp_path / "runs", demo=tmp_path / "demo", data_roots=(tmp_path / "data",))
    from sam_core.datasets.catalog import open_dataset

    open_dataset("fieldguide", data_root=tmp_path / "data")  # a server draws it when it starts
    with serving(places) as address:
        person = reader(address)
        page = person.open()
        until(lambda: page.locator("#start-run").is_enabled(), "the form is ready")
        started = time.monotonic()
        page.locator("#start-run").click()
        until(lambda: points(page, "accuracy") >= 1, "the first point", seconds=30)
        first_point = time.monotonic() - started
        page.wait_for_selector(".sx-strip-row canvas")
        tiles = "[...document.querySelectorAll('.sx-tile canvas')].map((one) => one.toDataURL()).join()"
        before = page.evaluate(tiles)
        until(lambda: points(page) >= 3, "losses of the first steps", seconds=60)
        assert "left" in page.locator(".sx-progress-text").inner_text()

        page.reload()
        page.wait_for_selector("#page-head h1")
        until(lambda: state(page) == "running", "the run is found again")
        until(lambda: points(page) >= 3, "and its points")
        until(lambda: page.evaluate(tiles) != before, "the strip changes while the network learns", seconds=60)
        page.screenshot(path=screenshots / "train-live.png", full_page=True)

        until(lambda: state(page) == "finished", "the end", seconds=240)
        whole = time.monotonic() - started
        until(lambda: points(page, "accuracy") == 13, "an accuracy for each epoch and for epoch 0")
        assert "finished" in page.locator(".sx-log").inner_text()
        page.screenshot(path=screenshots / "train-light.png", full_page=True)
        person.leave()
    (folder,) = [path for path in places.runs.iterdir() if not path.name.startswith(".")]
    assert Run(folder).status["state"] == "finished"
    print(f"first point after {first_point:.1f} s, the end after {whole:.1f} s")
    assert first_point <= 20
    assert whole <= 180


# --- A run that goes on ----------------------------------------------------------------------------------------------


def test_a_run_is_stopped_at_once_and_resumed(reader, address, start, until):
    run = start()
    page = reader(address).open(f"?run={run}")
    until(lambda: state(page) == "running" and points(page) > 5, "it runs", seconds=60)
    page.get_by_role("button", name="Stop").click()
    assert page.get_by_role("button", name="Stopping…").is_disabled(), "the click is acknowledged at once"
    until(lambda: state(page) == "stopped", "it stops")
    stopped_at = points(page, "accuracy")
    page.get_by_role("button", name="Resume").click()
    until(lambda: state(page) == "running", "it goes on", seconds=60)
    until(lambda: points(page, "accuracy") > stopped_at, "from where it was", seconds=60)
    page.get_by_role("button", name="Stop").click()
    until(lambda: state(page) == "stopped", "it stops again")


def test_zoom_stays_while_points_arrive_and_charts_are_not_built_anew(reader, address, start, until):
    run = start()
    page = reader(address).open(f"?run={run}")
    until(lambda: points(page) > 20, "it runs", seconds=60)
    page.evaluate(
        """() => { const plot = document.querySelector('[data-chart="loss"] .js-plotly-plot'); plot.kept = true;
        return window.Plotly.relayout(plot, {'xaxis.range': [0, 2]}); }"""
    )
    before = points(page)
    until(lambda: points(page) > before + 20, "more points arrive")
    plot = page.evaluate(
        """() => { const plot = document.querySelector('[data-chart="loss"] .js-plotly-plot');
        return [plot.kept, plot._fullLayout.xaxis.range]; }"""
    )
    assert plot == [True, [0, 2]]
    page.get_by_role("button", name="Stop").click()
    until(lambda: state(page) == "stopped", "it stops")


def test_new_epochs_join_the_player_while_the_run_goes_on(reader, address, start, until):
    run = start()
    page = reader(address).open(f"?tab=attention&run={run}")
    last = "Number(document.querySelector('.sx-slider').max)"
    until(lambda: page.evaluate(f"document.querySelector('.sx-slider') && {last} > 3"), "epochs are there", seconds=60)
    page.locator(".sx-slider").first.fill("2")
    before = page.evaluate(last)
    until(lambda: page.evaluate(last) > before + 3, "more epochs join")
    assert page.locator(".sx-epoch").first.inner_text().startswith("epoch 2 of"), "the slider stays where it was put"
    page.get_by_role("tab", name="Train").click()
    page.get_by_role("button", name="Stop").click()
    until(lambda: state(page) == "stopped", "it stops")


#: An image's epochs come to the page long after they were read.
SLOW_TIMELINES = """
const fetched = window.fetch;
window.fetch = async (address, options) => {
  const answer = await fetched(address, options);
  if (String(address).includes("/timeline")) await new Promise((resolve) => setTimeout(resolve, 2500));
  return answer;
};"""


def test_the_last_epoch_is_shown_though_it_was_recorded_while_another_was_on_its_way(reader, address, start, until):
    run = start(epochs=9)
    person = reader(address)
    person.context.add_init_script(SLOW_TIMELINES)
    page = person.open(f"?run={run}")
    until(lambda: state(page) == "finished", "the end", seconds=60)
    note = page.locator(".sx-strip .sx-between > .sx-help")
    until(lambda: note.inner_text().endswith("after epoch 9"), "the strip")
    page.get_by_role("tab", name="Attention").click()
    until(lambda: page.locator(".sx-epoch").first.inner_text() == "epoch 9 of 9", "the player")


def test_a_killed_worker_is_shown_as_interrupted_and_can_resume(reader, address, places, start, until):
    run = start()
    page = reader(address).open(f"?run={run}")
    until(lambda: state(page) == "running" and points(page, "accuracy") > 2, "it runs", seconds=60)
    os.kill(Run(places.runs / run).status["pid"], signal.SIGKILL)
    until(lambda: state(page) == "interrupted", "the page says so")
    assert "Resume goes on" in page.locator(".sx-run .sx-notice").first.inner_text()
    page.get_by_role("button", name="Resume").click()
    until(lambda: state(page) == "running", "it goes on", seconds=60)
    page.get_by_role("button", name="Stop").click()
    until(lambda: state(page) == "stopped", "it stops")


def test_a_failure_is_shown_with_what_to_do_and_the_logs_end(reader, address, places, start, until):
    run = start(epochs=1)
    page = reader(address).open(f"?run={run}")
    until(lambda: state(page) == "finished", "a run", seconds=60)
    path = places.runs / run / "status.json"
    error = {"type": "disk full", "message": "the disk is full", "hint": "free some space, then --resume"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "failed", "error": error}))
    until(lambda: state(page) == "failed", "the state")
    notice = page.locator(".sx-run .sx-notice").first.inner_text()
    assert "the disk is full" in notice
    assert "free some space" in notice
    assert page.get_by_role("button", name="Resume").is_visible()


def test_a_second_run_waits_and_can_be_taken_out_of_the_queue(reader, address, start, until):
    first = start()
    second = start()
    page = reader(address).open(f"?run={second}")
    until(lambda: state(page) == "waiting", "one run per device")
    page.get_by_role("button", name="Take out of the queue").click()
    until(lambda: state(page) == "stopped", "it waits no longer")
    page.locator(f".sx-run-row[data-run='{first}']").click()
    until(lambda: first in page.locator(".sx-run-head + .sx-help").inner_text(), "the first run is open")
    page.get_by_role("button", name="Stop").click()
    until(lambda: state(page) == "stopped", "it stops")


def test_two_people_watch_different_runs_and_see_only_what_they_opened(reader, address, start, until):
    first, second = start(epochs=2), start(epochs=3)
    anna, ben = reader(address).open(f"?run={first}"), reader(address).open(f"?run={second}")
    until(lambda: state(anna) == "finished", "Anna's run", seconds=90)
    until(lambda: state(ben) == "finished", "Ben's run", seconds=90)
    # The state comes with the list; the curves are drawn a moment later.
    until(lambda: points(anna, "accuracy") == 3, "Anna's epochs, and only hers")
    until(lambda: points(ben, "accuracy") == 4, "Ben's epochs, and only his")
    assert first in anna.locator(".sx-run-head + .sx-help").inner_text()
    assert second in ben.locator(".sx-run-head + .sx-help").inner_text()
    anna.get_by_role("tab", name="Attention").click()
    anna.wait_for_function("document.querySelector('.sx-player')?.player?.timeline")
    assert first in anna.evaluate("document.querySelector('.sx-player').player.timeline.about.run")


# --- Names, notes, deleting, travelling ------------------------------------------------------------------------------


@pytest.fixture
def finished(places, trained):
    """A finished run in the server's folder."""
    import shutil

    shutil.copytree(trained.folder, places.runs / trained.id)
    return trained.id


def test_a_run_is_named_noted_and_found_by_its_name(finished, reader, address, until):
    person = reader(address)
    page = person.open(f"?run={finished}")
    until(lambda: state(page) == "finished", "the run is open")
    page.get_by_label("Name of this run").fill("Lesson <3>")
    page.get_by_label("Notes on this run").fill("for Monday")
    page.get_by_label("Notes on this run").blur()
    until(lambda: "Lesson <3>" in page.locator(".sx-run-row").inner_text(), "the list has its name")
    page.get_by_label("Find a run").fill("monday")
    until(lambda: page.locator(".sx-run-row").count() == 1, "found by its notes")
    page.get_by_label("Find a run").fill("tuesday")
    until(lambda: page.locator(".sx-run-row").count() == 0, "another word")
    page.reload()
    until(lambda: page.get_by_label("Name of this run").input_value() == "Lesson <3>", "kept on the disk")


#: What is written first is on its way for longer than what is written next.
SLOW_FIRST_NOTES = """
const fetched = window.fetch;
let slow = true;
window.fetch = async (address, options) => {
  if (String(address).endsWith("/notes") && slow) {
    slow = false;
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
  return fetched(address, options);
};"""


def test_notes_written_while_the_name_is_on_its_way_are_kept_with_it(finished, reader, address, places, until):
    person = reader(address)
    person.context.add_init_script(SLOW_FIRST_NOTES)
    page = person.open(f"?run={finished}")
    until(lambda: state(page) == "finished", "the run is open")
    page.get_by_label("Name of this run").fill("Lesson")
    page.get_by_label("Name of this run").blur()
    page.evaluate("window.samExplorer.tell('list')")  # as another run's progress does
    page.get_by_label("Notes on this run").fill("for Monday")
    page.get_by_label("Notes on this run").blur()
    kept = places.runs / finished / "notes.json"
    until(lambda: kept.is_file() and json.loads(kept.read_text())["notes"], "it is kept")
    page.wait_for_timeout(500)
    assert json.loads(kept.read_text()) == {"name": "Lesson", "notes": "for Monday"}


def test_deleting_asks_first(finished, reader, address, places, until):
    page = reader(address).open(f"?run={finished}")
    until(lambda: state(page) == "finished", "the run is open")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Cancel").click()
    assert (places.runs / finished).exists()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    until(lambda: not (places.runs / finished).exists(), "it is gone")
    until(lambda: page.locator(".sx-run-row").count() == 0, "and from the list")
    assert page.locator(".sx-empty").is_visible()


def test_a_run_exported_in_one_explorer_opens_in_another(finished, reader, address, serving, tmp_path, until):
    page = reader(address).open(f"?run={finished}")
    until(lambda: state(page) == "finished", "the run is open")
    page.get_by_label("Name of this run").fill("Travels")
    page.get_by_label("Name of this run").blur()
    until(lambda: "Travels" in page.locator(".sx-run-row").inner_text(), "named")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export (zip)").click()
    archive = tmp_path / "run.zip"
    download.value.save_as(archive)

    (tmp_path / "no-data").mkdir()
    elsewhere = Places(tmp_path / "elsewhere", demo=tmp_path / "none", data_roots=(tmp_path / "no-data",))
    with serving(elsewhere) as there:
        person = reader(there)
        other = person.open()
        other.set_input_files('input[accept=".zip"]', archive)
        until(lambda: "Travels" in other.locator(".sx-run-rows").inner_text(), "it is in the list")
        other.get_by_role("tab", name="Attention").click()
        other.wait_for_function("document.querySelector('.sx-player')?.player?.photograph.isBlank === false")
        person.leave()


def test_a_zip_that_is_no_run_gets_a_sentence_in_the_page(reader, address, tmp_path, until):
    person = reader(address)
    person.expected = ["400"]
    page = person.open()
    page.wait_for_selector(".sx-runs .sx-button")
    (tmp_path / "run.zip").write_bytes(b"PK\x03\x04 no zip")
    page.set_input_files('input[accept=".zip"]', tmp_path / "run.zip")
    until(lambda: page.locator(".sx-toast.sx-error").count() == 1, "a message")
    assert page.locator(".sx-toast.sx-error strong").inner_text()


# --- When the server is not there ------------------------------------------------------------------------------------


def test_a_server_that_went_away_is_said_and_found_again(reader, places, until, trained):
    import shutil
    import threading

    import uvicorn

    from explorer.context import Explorer
    from explorer.server import free_port, make_app

    shutil.copytree(trained.folder, places.runs / trained.id)
    port = free_port("127.0.0.1", 0)

    def serve() -> tuple[uvicorn.Server, threading.Thread]:
        app = make_app(Explorer(places), port=port)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started, "the server")
        return server, thread

    server, thread = serve()
    person = reader(f"http://127.0.0.1:{port}")
    person.expected = ["ERR_", "fetch"]
    page = person.open()
    until(lambda: state(page) == "finished", "the page is there")
    server.should_exit = True
    thread.join(timeout=15)
    until(lambda: page.locator(".sx-offline").is_visible(), "the page says that the server is gone")
    assert state(page) == "finished", "what was there stays"
    server, thread = serve()
    until(lambda: page.locator(".sx-offline").is_hidden(), "it finds the server again", seconds=30)
    person.leave()
    server.should_exit = True
    thread.join(timeout=15)


def test_charts_are_drawn_though_their_program_could_not_be_loaded_at_first(finished, reader, address, until):
    person = reader(address)
    person.expected = ["ERR_CONNECTION_REFUSED"]
    tries: list[str] = []

    def refused_once(route: Route) -> None:
        tries.append(route.request.url)
        if len(tries) == 1:
            route.abort("connectionrefused")
        else:
            route.continue_()

    person.context.route("**/plotly.js", refused_once)
    page = person.open(f"?run={finished}")
    until(lambda: page.locator('[data-chart="accuracy"] .js-plotly-plot').count() == 1, "the chart")
    assert len(tries) == 2, "loaded again, once for all charts"
