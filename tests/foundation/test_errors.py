"""Errors: one line of bounded length, and the same one in another process."""

from __future__ import annotations

import pickle

import pytest

from featherpose.errors import FeatherposeError, MissingExtraError, OptionError


@pytest.mark.parametrize(
    "error",
    [
        OptionError("height 0 is not positive", expected="a multiple of 8", hint="try --height 256"),
        OptionError("x" * 10_000, expected="y" * 10_000, hint="z" * 10_000),
        MissingExtraError("Ray", "cluster"),
    ],
    ids=["short", "long", "other arguments"],
)
def test_an_error_is_the_same_in_another_process(error: FeatherposeError) -> None:
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


def test_messages_keep_both_ends_of_what_is_long() -> None:
    message = str(OptionError("a" + "-" * 10_000 + "b", expected="c" + "-" * 10_000 + "d", hint="e"))
    assert len(message) < 2000
    first, second, third = message.split("; ")
    assert (first[0], first[-1], second[:10], second[-1], third) == ("a", "b", "expected c", "d", "e")
