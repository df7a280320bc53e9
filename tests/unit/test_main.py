import subprocess
import sys

from usagetap import __version__


def test_python_dash_m_is_the_command():
    done = subprocess.run([sys.executable, "-m", "usagetap", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"usagetap, version {__version__}\n")
