"""What the plugin does, in a real host. Build it, then: python -m unittest."""

import unittest
from pathlib import Path
from typing import Any

import fuseboard as fb

FOLDER = Path(__file__).parent
TITLE = fb.Filter("post.title", str)


def make_host() -> fb.Host:
    """Return an application with the plugin's hooks; `fuseboard run --host test_plugin:make_host` uses it too.

    A plugin that asks for capabilities needs `backends=fb.Backends(...)` here, for tests those in
    `fuseboard.backends.memory`, and `functions=[...]`.
    """
    return fb.Host(hooks=[TITLE])


class PostTitle(unittest.TestCase):
    """The filter of post.title."""

    def filtered(self, title: str, **settings: Any) -> str:
        """Return what the plugin makes of a title, and fail where it trapped."""
        with make_host() as host:
            host.load(FOLDER, grants="as-requested", settings=settings)
            result = host.dispatch(TITLE, title)
        self.assertIsInstance(result.outcomes[0], fb.Completed, result.outcomes[0])
        return result.value

    def test_a_title_gets_the_ending(self) -> None:
        """A title is trimmed, and ends with what the settings say."""
        self.assertEqual(self.filtered(" Grüße aus 東京 "), "Grüße aus 東京!")

    def test_the_operator_says_another_ending(self) -> None:
        """A setting of the operator goes over the manifest's."""
        self.assertEqual(self.filtered("News", ending=" …"), "News …")

    def test_an_empty_title_stays(self) -> None:
        """A title of nothing but spaces is left as it is."""
        self.assertEqual(self.filtered("  "), "  ")

    def test_a_title_that_is_no_text_fails(self) -> None:
        """A value of another type ends the invocation by the plugin's own word, not by a crash."""
        number = fb.Filter("post.title", int)
        with fb.Host(hooks=[number]) as host, self.assertLogs("fuseboard", "WARNING"):
            host.load(FOLDER, grants="as-requested")
            outcome = host.dispatch(number, 7).outcomes[0]
        assert isinstance(outcome, fb.Trapped)
        self.assertEqual(outcome.trap.cause, fb.Cause.FAILED)


if __name__ == "__main__":
    unittest.main()
