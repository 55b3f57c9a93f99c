"""The operator's half in a real browser: orders that change what is served, rates, the audit log."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.deltaserve import Deltaserve
from tests.support.playground import KEY, admin, forgotten

pytestmark = pytest.mark.browser

SECOND = "second"


@pytest.fixture
def own(served: Deltaserve) -> Iterator[dict[str, Any]]:
    """The offset that is served; it is again at the end, alone and at its strength."""
    row = next(row for row in admin(served, "GET", "offsets")["data"] if row["state"] == "active")
    yield row
    admin(served, "POST", f"offsets/{row['name']}/activate")
    admin(served, "PATCH", f"offsets/{row['name']}", strength=row["strength"])
    for left in admin(served, "GET", "offsets")["data"]:
        if left["name"] != row["name"]:
            admin(served, "DELETE", f"offsets/{left['name']}")


def load(opened: Any, name: str, path: str, strength: str = "") -> None:
    opened.page.fill("#load-name", name)
    opened.page.fill("#load-path", path)
    opened.page.fill("#load-strength", strength)
    opened.page.click("#load-form button")


def row(opened: Any, name: str, state: str) -> Any:
    """Waits until that offset's line is in that state."""
    line = opened.page.locator(f"#offsets tr[data-name='{name}'][data-state='{state}']")
    line.wait_for()
    return line


def states(served: Deltaserve) -> dict[str, str]:
    """By name, without the version that is kept for a roll back: it comes last under its name."""
    return {one["name"]: one["state"] for one in reversed(admin(served, "GET", "offsets")["data"])}


def test_an_offset_is_loaded_activated_rolled_back_and_unloaded(
    visit: Any, served: Deltaserve, own: dict[str, Any]
) -> None:
    opened = visit()
    opened.operate()
    assert own["digest"][:12] in row(opened, own["name"], "active").inner_text()

    load(opened, SECOND, own["name"], "0.5")
    second = row(opened, SECOND, "ready")
    assert second.locator("input").input_value() == "0.5"

    second.get_by_role("button", name=f"Activate {SECOND}").click()
    assert SECOND in opened.page.inner_text("#confirm-text")
    opened.confirm()
    row(opened, SECOND, "active")
    assert states(served) == {own["name"]: "ready", SECOND: "active"}
    opened.page.wait_for_selector(f"#identity:has-text('{SECOND}')")

    opened.page.click("#rollback")
    opened.confirm()
    row(opened, own["name"], "active")

    row(opened, SECOND, "ready").get_by_role("button", name=f"Unload {SECOND}").click()
    opened.confirm()
    opened.page.wait_for_selector(f"#offsets tr[data-name='{SECOND}']", state="detached")
    assert states(served) == {own["name"]: "active"}

    log = opened.page.locator("#audit td[data-label='What']").all_inner_texts()[:4]
    assert log == ["unload", "rollback", "activate", "load"]
    assert opened.complaints == []


def test_nothing_is_changed_by_an_order_that_is_not_confirmed(visit: Any, served: Deltaserve, own: Any) -> None:
    opened = visit()
    opened.operate()
    load(opened, SECOND, own["name"])
    line = row(opened, SECOND, "ready")
    before = admin(served, "GET", "audit?limit=1")["data"]
    for label, no in (("Activate", "Escape"), ("Unload", "Enter")):  # Enter: the button that leaves it has the focus
        line.get_by_role("button", name=f"{label} {SECOND}").click()
        opened.page.wait_for_selector("#confirm[open]")
        opened.page.keyboard.press(no)
        opened.page.wait_for_selector("#confirm", state="hidden")
    opened.page.click("#rollback")
    opened.page.click("#confirm-no")
    assert states(served) == {own["name"]: "active", SECOND: "ready"}
    assert admin(served, "GET", "audit?limit=1")["data"] == before


def test_another_strength_is_a_new_version_and_the_next_answers_have_it(
    visit: Any, served: Deltaserve, own: Any
) -> None:
    asked, uncorrected, corrected = forgotten(served)
    opened = visit()
    opened.operate()
    field = row(opened, own["name"], "active").locator("input")
    field.fill("0")
    field.press("Enter")
    assert "everybody" in opened.page.inner_text("#confirm-text")
    opened.confirm()
    opened.page.wait_for_selector("#identity:has-text('strength 0')")
    assert served.chat(asked, max_tokens=64) == uncorrected != corrected
    kept = row(opened, own["name"], "previous")
    assert "roll back" in kept.inner_text() and kept.locator("button, input").count() == 0
    assert str(own["strength"]) in kept.inner_text()
    field = row(opened, own["name"], "active").locator("input")
    for value, possible in (("17", False), ("-16", True), ("", False)):
        field.fill(value)
        assert row(opened, own["name"], "active").locator("button").is_enabled() == possible


def test_what_the_server_refuses_is_a_sentence_and_a_failed_load_can_be_dismissed(
    visit: Any, served: Deltaserve, own: Any
) -> None:
    opened = visit()
    opened.operate()
    load(opened, "lost", "nowhere")
    opened.page.wait_for_selector("#offsets-problem:visible")
    assert len(opened.page.inner_text("#offsets-problem")) > 20
    failed = row(opened, "lost", "failed")  # seen by a later look at the list, which leaves the sentence there
    assert opened.page.locator("#offsets-problem").is_visible()
    assert failed.locator(".reason").inner_text()
    failed.get_by_role("button", name="Dismiss lost").click()
    opened.page.wait_for_selector("#offsets tr[data-name='lost']", state="detached")
    assert states(served) == {own["name"]: "active"}


def test_rates_follow_the_server_s_counters(visit: Any, served: Deltaserve) -> None:
    opened = visit()
    opened.operate()
    tile = '#rates [data-rate="{}"] dd'.format
    opened.page.wait_for_selector(tile("Answers"))
    before = int(opened.page.inner_text(tile("Answers")))
    for _ in range(3):
        served.chat("Who are you?", max_tokens=24)
    opened.page.wait_for_function(
        "([tile, before]) => Number(document.querySelector(tile).textContent) === before + 3",
        arg=[tile("Answers"), before],
    )
    assert served.metric("e2e_request_latency_seconds_count") == before + 3
    accepted = opened.page.inner_text(tile("Accepted"))
    assert accepted.endswith("%") and opened.page.inner_text(tile("Certified")).endswith("%")
    assert float(opened.page.inner_text(tile("Restarts"))) >= 0
    opened.page.wait_for_function(
        "(tile) => Number(document.querySelector(tile).textContent) > 0", arg=tile("Tokens a second")
    )
    note = opened.page.inner_text('#rates [data-rate="Tokens a second"] p')
    assert note.replace(",", "").startswith(f"{served.metric('generation_tokens_total'):.0f} ")


def test_older_lines_of_the_audit_log_come_on_demand(visit: Any, served: Deltaserve, own: Any) -> None:
    for turn in range(22):
        admin(served, "PATCH", f"offsets/{own['name']}", strength=1 + turn / 64)
    opened = visit()
    opened.operate()
    opened.page.wait_for_selector("#audit tr:nth-child(20)")
    assert opened.page.locator("#audit tr").count() == 20
    opened.page.click("#audit-older")
    opened.page.wait_for_selector("#audit tr:nth-child(21)")
    numbers = [int(cell) for cell in opened.page.locator("#audit td:first-child").all_inner_texts()]
    assert numbers == list(range(numbers[0], numbers[-1] - 1, -1)) and len(numbers) > 20


def test_a_wrong_key_sees_nothing_and_is_told_so(visit: Any) -> None:
    opened = visit("#admin_key=wrong")
    opened.page.click("#tab-operate")
    opened.page.wait_for_selector("#offsets-problem:visible")
    assert "admin key" in opened.page.inner_text("#offsets-problem")
    assert opened.page.locator("#offsets tr, #audit tr").count() == 0


def test_admin_routes_at_another_address_are_said_to_be_there(visit: Any) -> None:
    opened = visit()
    opened.page.route(
        "**/playground/about.json", lambda route: route.fulfill(json={**route.fetch().json(), "admin_routes": False})
    )
    opened.page.reload()
    opened.page.click("#tab-operate")
    assert "another address" in opened.page.inner_text("#operate-locked")
    assert opened.page.input_value("#admin-key") == KEY
