"""The lists, with hostile objects in the database."""

from __future__ import annotations

import pytest

from again import again

globals().update(again("http/test_lists"))

pytestmark = pytest.mark.sampled(6)
