"""Two versions or aliases side by side, with what differs marked."""

from playwright.sync_api import expect


def test_a_version_is_chosen_beside_the_one_that_serves(visit):
    """Both answer the same row, and the second shows by how much it differs."""
    one = visit("#/models/three", moves=True)
    one.field("fruit", "weight").fill("4")
    one.has_bars("size", {"value": 10})

    one.page.get_by_label("Compare with").select_option("version 1")

    one.has_bars("size", {"value": 10})
    one.has_bars("size", {"value": [5, -5]}, side=1)
    one.has_bars("risk", {"low": 0.5, "high": 0.5}, side=1)
    expect(one.field("fruit", "weight")).to_have_value("4")
    expect(one.page).to_have_url(f"{one.url}/console/#/models/three?with=versions%2F1")
    expect(one.summary).to_contain_text("0 labels differ")


def test_both_sides_follow_every_change(visit):
    """A change is asked of both."""
    one = visit("#/models/three?with=aliases/stable")
    one.has_bars("size", {"value": [2, -2]}, side=1)

    one.field("fruit", "weight").fill("2")

    one.has_bars("size", {"value": 6})
    one.has_bars("size", {"value": [3, -3]}, side=1)
    expect(one.page.get_by_role("heading", name="alias stable")).to_be_visible()


def test_an_alias_is_shown_and_another_version_is_chosen(visit):
    """The row stays when the version changes."""
    one = visit("#/models/three/aliases/stable", moves=True)
    one.field("fruit", "length").fill("3")
    one.has_bars("size", {"value": 4})

    one.page.get_by_label("Version").select_option("version 2")

    one.has_bars("size", {"value": 8})
    expect(one.field("fruit", "length")).to_have_value("3")
    one.page.go_back()
    one.has_bars("size", {"value": 2})
