"""Which code a module needs elsewhere."""

from xpool_platform.tracking.needed_code import needed_code


def test_imports_are_followed_down_to_packages_of_others():
    found = needed_code(["xpool_platform.data.pyav_file"])
    assert sorted(found.files) == [
        "xpool_platform/__init__.py",
        *(f"xpool_platform/{name}.py" for name in ("config_checks", "data/__init__")),
        *(f"xpool_platform/data/{name}.py" for name in ("packets", "pyav_file", "video")),
        "xpool_platform/data_config.py",
    ]
    assert {"av", "numpy", "jaxtyping"} <= found.packages
    assert not {"xpool_platform", "ray", "torch"} & found.packages


def test_a_function_may_import_code_of_ours_but_needs_no_package():
    found = needed_code(["xpool_platform.data.feed"])
    assert "xpool_platform/data/batches.py" in found.files
    assert "decord" not in needed_code(["xpool_platform.data.decord_decoder"]).packages


def test_imports_for_type_checkers_are_left_out():
    assert "matplotlib" not in needed_code(["xpool_platform.tracking.tracker"]).packages
