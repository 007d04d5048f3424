"""The folder `platform` beside the standard library's module of that name."""

import subprocess
import sys
import sysconfig

import pytest
import ray
from conftest import ROOT, environment

STDLIB = sysconfig.get_path("stdlib")
WHERE = "import platform; assert platform.system(); print(platform.__file__)"


def test_the_folder_is_no_package():
    assert (ROOT / "platform" / "xpool_platform" / "__init__.py").is_file()
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_the_standard_library_wins_from_the_root():
    done = subprocess.run(
        [sys.executable, "-c", WHERE],
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(STDLIB)


def test_the_standard_library_wins_under_python_m_pytest(tmp_path):
    test = tmp_path / "test_where.py"
    test.write_text(
        "import platform, sys\n"
        f"def test_where():\n    assert {str(ROOT)!r} in sys.path\n"
        f"    assert platform.__file__.startswith({STDLIB!r})\n    assert platform.system()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", str(test)],
        cwd=ROOT,
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.ray
def test_the_standard_library_wins_in_a_ray_worker(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

    @ray.remote
    def where() -> tuple[str, str, list[str]]:
        import os
        import platform

        import xpool_platform

        return platform.__file__, xpool_platform.__file__, os.listdir(".")

    try:
        module, package, here = ray.get(where.remote())
    finally:
        ray.shutdown()
    assert module.startswith(STDLIB)
    assert package.startswith(str(ROOT / "platform"))
    assert "platform" in here
