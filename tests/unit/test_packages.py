"""Both packages ship their types: a type checker of the app that installs them reads them."""

from __future__ import annotations

from importlib.resources import files

import pytest


@pytest.mark.parametrize("package", ["billhook", "billhook_sandbox"])
def test_type_checkers_read_the_annotations_of_an_installed_package(package: str) -> None:
    assert files(package).joinpath("py.typed").is_file()
